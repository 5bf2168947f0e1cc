"""An audit joins a Ray cluster that somebody else started."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import drawn
import pytest
import ray
import torch
from drawn import Drawn

from rs_corrector.audit import run, scale
from rs_corrector.testbed import audit as testbed_audit


class Draws(Drawn):
    def __init__(self, plan):
        super().__init__()


@pytest.fixture(scope="module")
def address():
    for module in (sys.modules[__name__], drawn):
        ray.cloudpickle.register_pickle_by_value(module)
    command = shutil.which("ray", path=str(Path(sys.executable).parent)) or shutil.which("ray")
    ports = ["--port=0", "--include-dashboard=false", "--num-cpus=2"]
    begun = subprocess.run(
        [command, "start", "--head", *ports],
        capture_output=True,
        text=True,
        env=os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"},
    )
    assert begun.returncode == 0, begun.stderr
    yield "auto"
    ray.shutdown()
    subprocess.run([command, "stop", "--force"], capture_output=True)


def test_a_cluster_that_runs_is_joined(address, tmp_path, monkeypatch):
    plan = testbed_audit.plan(2)
    alone = run.Folder(tmp_path / "alone", plan)
    run.draw(alone, Drawn())
    monkeypatch.chdir(tmp_path)
    scale.draw("many", plan, Draws, workers=2, address=address)
    many = run.Folder(tmp_path / "many", plan)
    assert all(torch.equal(alone.read(unit), many.read(unit)) for unit in plan.units())


def test_storage_that_workers_do_not_share_is_noticed(tmp_path):
    with pytest.raises(run.AuditError, match="expected storage that all workers share at .*elsewhere, got none"):
        scale._shard(tmp_path / "elsewhere", testbed_audit.plan(2), Draws, 0, 1)
