"""What the correction does on a GPU, seen without one: the same code on tensors that have a device but no memory."""

import pytest
import torch
from configs import make_config
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rs_corrector.correction import Correction
from rs_corrector.corrector import Corrector

CONFIG = make_config(levels=3, windows=[(0.0, 1.0)])


class Operations(TorchDispatchMode):
    """Every operation that reaches the device, with the devices of the tensors that it touches."""

    def __init__(self):
        super().__init__()
        self.seen, self.computing = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        devices = {t.device.type for t in tree_leaves((args, kwargs, out)) if torch.is_tensor(t)}
        self.seen.append((str(function), devices))
        self.computing += not any(r.alias_info and not r.alias_info.is_write for r in function._schema.returns)
        return out

    def named(self, *words):
        return [name for name, _ in self.seen if any(word in name for word in words)]


@pytest.mark.parametrize("flow", [False, True], ids=["noise", "flow"])
@pytest.mark.parametrize("mask", [False, True], ids=["everywhere", "masked"])
def test_a_step_stays_on_the_device_and_reads_nothing_back(flow, mask):
    with FakeTensorMode(), torch.no_grad(), torch.device("cuda"):
        corrector = Corrector(CONFIG)
        x, denoised, sigma = torch.empty(2, 4, 64, 64), torch.empty(2, 4, 64, 64, dtype=torch.float16), torch.empty(2)
        place = torch.empty(1, 1, 512, 512, device="cpu") if mask else None
        correction = Correction(corrector, mask=place)
        signal = 1 - sigma if flow else 1.0
        correction(x, sigma, denoised, signal)  # the first step brings the mask
        with Operations() as step:
            out = correction(x, sigma, denoised, signal)
    assert out.device.type == "cuda" and out.dtype == torch.float16
    assert all(devices == {"cuda"} for _, devices in step.seen), [s for s in step.seen if s[1] != {"cuda"}]
    assert not step.named("local_scalar", "item", "nonzero", "is_nonzero"), "nothing waits for the device"
    assert step.named("_to_copy") == ["aten._to_copy.default"] * 2, "the prediction is converted, and the result back"
    assert len(step.seen) < 250


def test_a_step_is_sixty_operations():
    """On latents of a usual size; views are none."""
    correction = Correction(Corrector(make_config(levels=4, windows=[(0.02, 1.0)])).eval().requires_grad_(False))
    x, denoised, sigma = torch.randn(1, 4, 64, 64), torch.randn(1, 4, 64, 64), torch.ones(1)
    correction(x, sigma, denoised)  # what is computed once a run
    with Operations() as step:
        correction(x, sigma, denoised)
    assert step.computing <= 60


def test_a_window_costs_one_look_at_sigma_a_step():
    corrector = Corrector(CONFIG)
    x, denoised, sigma = torch.zeros(2, 4, 8, 8), torch.zeros(2, 4, 8, 8), torch.ones(2)
    for window, looks in (({}, 0), ({"start": 5.0, "end": 0.1}, 1)):
        with torch.no_grad(), Operations() as step:
            Correction(corrector, **window)(x, sigma, denoised)
        assert len(step.named("local_scalar")) == looks


@pytest.mark.cuda
def test_the_gpu_gives_what_the_cpu_gives():
    torch.manual_seed(0)
    corrector = Corrector(CONFIG)
    torch.nn.init.normal_(corrector.network.head.weight, std=0.1)
    x, denoised, sigma = torch.randn(2, 4, 64, 64), torch.randn(2, 4, 64, 64), torch.tensor([0.5, 2.0])
    with torch.no_grad():
        here = Correction(corrector)(x, sigma, denoised)
        there = Correction(corrector.cuda())(x.cuda(), sigma.cuda(), denoised.cuda())
    torch.testing.assert_close(there.cpu(), here, atol=1e-3, rtol=1e-3)
