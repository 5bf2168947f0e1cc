"""An audit on several workers with Ray: each takes shards, into one folder that all of them see.

A shard is drawn picture by picture into files that are whole or not there, so one that is lost with its worker is
redone by another from where it stopped, and the pictures are those of a single process.
"""

import platform
from pathlib import Path

from . import run
from .run import AuditError, Folder

#: Shards for every worker: few enough to start quickly, enough to keep all of them busy to the end.
PER_WORKER = 4


def draw(path, plan, make_sampler, workers, address=None, retries=3):
    """Draw a plan's missing pictures on a Ray cluster.

    Args:
        path: folder of the audit, on storage that all workers see.
        make_sampler: function (plan) -> sample, picklable; called once a worker.
        workers: how many at once.
        address: of a cluster that runs, to join it; None starts one here, if this process has none.
        retries: of a shard whose worker died.

    Raises:
        AuditError: a worker does not see the folder, or there is no cluster at the address.
        ImportError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"expected Ray for several workers, got: {error}; pip install 'rs-corrector[ray]'") from error
    if address is not None:
        try:
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise AuditError(f"expected a Ray cluster at {address}, got: {error}; start it, or leave it out") from error
    elif not ray.is_initialized():
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    path = Path(path).resolve()  # workers have folders of their own to begin from
    Folder(path, plan)  # refuse another plan's folder here, once
    task = ray.remote(num_cpus=1, max_retries=retries)(_shard)
    of = PER_WORKER * workers
    try:
        ray.get([task.remote(path, plan, make_sampler, shard, of) for shard in range(of)])
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, AuditError) else error) from None


_SAMPLERS = {}


def _shard(path, plan, make_sampler, shard, of):
    """One shard, in a worker; the sampler stays for the worker's next one."""
    if not (path / "plan.json").is_file():
        raise AuditError(
            f"expected storage that all workers share at {path}, got none on the worker {platform.node()}; name a "
            "folder that every machine has mounted at the same place"
        )
    key = plan.digest()
    if key not in _SAMPLERS:
        _SAMPLERS[key] = make_sampler(plan)
    run.draw(Folder(path, plan), _SAMPLERS[key], plan.units(shard, of))
