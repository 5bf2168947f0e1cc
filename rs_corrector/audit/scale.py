"""An audit on several workers with Ray: each takes shards, into one folder that all of them see.

A shard is drawn picture by picture into files that are whole or not there, so one that is lost with its worker is
redone by another from where it stopped, and the pictures are those of a single process.
"""

from . import run
from .run import Folder

#: Shards for every worker: few enough to start quickly, enough to keep all of them busy to the end.
PER_WORKER = 4


def draw(path, plan, make_sampler, workers, retries=3):
    """Draw a plan's missing pictures on a Ray cluster, started here if none is.

    Args:
        path: folder of the audit, on storage that all workers see.
        make_sampler: function (plan) -> sample, picklable; called once a worker.
        workers: how many at once.
        retries: of a shard whose worker died.

    Raises:
        ImportError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"expected Ray for several workers, got: {error}; pip install 'rs-corrector[ray]'") from error
    if not ray.is_initialized():
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    Folder(path, plan)  # refuse another plan's folder here, once
    task = ray.remote(num_cpus=1, max_retries=retries)(_shard)
    of = PER_WORKER * workers
    ray.get([task.remote(path, plan, make_sampler, shard, of) for shard in range(of)])


_SAMPLERS = {}


def _shard(path, plan, make_sampler, shard, of):
    """One shard, in a worker; the sampler stays for the worker's next one."""
    key = plan.digest()
    if key not in _SAMPLERS:
        _SAMPLERS[key] = make_sampler(plan)
    run.draw(Folder(path, plan), _SAMPLERS[key], plan.units(shard, of))
