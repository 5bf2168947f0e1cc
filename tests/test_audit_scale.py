"""An audit on a local Ray cluster of two workers: the pictures of one process, whatever becomes of a worker."""

import os
import sys
from functools import partial

import drawn
import pytest
import ray
import torch
from drawn import Drawn

from rs_corrector.audit import run, scale
from rs_corrector.testbed import audit as testbed_audit


class Mortal:
    """Draws as `Drawn` does; the first worker to get to its third unit dies."""

    def __init__(self, plan, tomb):
        self.draw, self.tomb, self.units = Drawn(), tomb, 0

    def __call__(self, unit):
        self.units += 1
        if self.units == 3 and not self.tomb.exists():
            self.tomb.touch()
            os._exit(1)
        return self.draw(unit)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    for module in (sys.modules[__name__], drawn):
        ray.cloudpickle.register_pickle_by_value(module)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_two_workers_draw_what_one_process_draws_even_if_one_dies(tmp_path):
    plan = testbed_audit.plan(4)
    alone = run.Folder(tmp_path / "alone", plan)
    run.draw(alone, Drawn())
    tomb = tmp_path / "tomb"
    scale.draw(tmp_path / "many", plan, partial(Mortal, tomb=tomb), workers=2)
    assert tomb.exists(), "a worker died on the way"
    many = run.Folder(tmp_path / "many", plan)
    for unit in plan.units():
        assert torch.equal(alone.read(unit), many.read(unit))
