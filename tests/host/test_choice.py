"""What pictures choose on the real host: whether they are kept, and which preferred depiction they get."""

import sys

import pytest
import torch
from configs import make_config

from rs_corrector.choice import choices
from rs_corrector.corrector import Corrector


def inside(host):
    """The pack's `nodes.host`, as ComfyUI has loaded it."""
    return sys.modules[host.nodes["RSCorrectorApply"].__module__].host


@pytest.fixture(scope="module")
def chooser(host):
    """A corrector of untrained weights that knows three preferred depictions of green and one of gold."""
    with torch.inference_mode(False):
        torch.manual_seed(0)
        config = make_config(groups=("green", "gold"), choices=(("a", "b", "c"), ("d",)))
        corrector = Corrector(config)
        for parameter in corrector.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return inside(host).manage(corrector.eval().requires_grad_(False))


@pytest.fixture
def chosen(host, chooser, monkeypatch):
    """What runs on a patched model choose: a function that draws a batch and returns (latents, choices)."""

    def chosen(model=None, batch=6, seed=3, **more):
        seen, whole = [], Corrector.deltas

        def deltas(self, *args):
            seen.append(args[-2])  # what follows is for the network
            return whole(self, *args)

        patched = host.apply(chooser, "green", model=model, **more)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Corrector, "deltas", deltas)
            drawn = host.sample(patched, "a portrait of a person in a green shirt", batch, seed, steps=4)
        return drawn, seen

    return chosen


def plain(host, batch=6, seed=3):
    return host.sample(host.model, "a portrait of a person in a green shirt", batch, seed, steps=4)


def test_kept_pictures_are_exactly_as_they_were_and_cost_nothing(host, chosen):
    before, (after, seen) = plain(host, 12), chosen(batch=12, keep=0.5)
    kept = [torch.equal(a, b) for a, b in zip(before, after)]
    assert 2 <= sum(kept) <= 10 and all(len(choice) == 12 - sum(kept) for choice in seen)
    nothing, seen = chosen(batch=12, keep=1.0)
    assert torch.equal(nothing, before) and not seen


def test_no_correction_is_half_a_correction(host, chosen):
    """Pictures that are not kept are what they are where nothing is kept."""
    before, (some, _), (all_, _) = plain(host, 12), chosen(batch=12, keep=0.5), chosen(batch=12)
    for row in range(12):
        if not torch.equal(before[row], some[row]):
            torch.testing.assert_close(some[row], all_[row], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("more", [{}, {"choice_seed": 5}], ids=["by noise", "by number"])
def test_every_picture_chooses_one_depiction_and_keeps_to_it(chosen, more):
    _, seen = chosen(batch=12, **more)
    assert all(torch.equal(choice, seen[0]) for choice in seen)
    assert len(set(seen[0].tolist())) == 3


def test_a_picture_alone_chooses_what_it_chose_in_a_batch(host, chooser, chosen):
    """As 'Latent From Batch' takes it out: the host draws its noise by its number in the batch."""
    from comfy.sample import prepare_noise

    together = chosen(batch=4)[1][0]
    for number in range(4):
        noise = prepare_noise(torch.zeros(1, 4, 8, 8), 3, [number])
        assert choices(noise, chooser.model.config, 0, 0.0, -1, None) == together[number]


def test_a_second_pass_of_another_size_chooses_the_same_by_a_shared_number(host, chosen):
    first = chosen(batch=8, choice_seed=11, keep=0.3)[1][0]
    host.size, size = 16, host.size
    try:
        second = chosen(batch=8, choice_seed=11, keep=0.3, seed=99)[1][0]
    finally:
        host.size = size
    assert torch.equal(first, second)


def test_two_applies_choose_independently_and_their_order_changes_nothing(host, chooser):
    left = torch.zeros(1, 64, 64)
    left[:, :, :32] = 1
    one = dict(group="green", mask=left, keep=0.4)
    two = dict(group="green", mask=1 - left, keep=0.4)

    def both(first, second):
        model = host.apply(chooser, model=host.apply(chooser, **first), **second)
        return host.sample(model, "a portrait of a person in a green shirt", 8, 3, steps=4)

    drawn, swapped = both(one, two), both(two, one)
    torch.testing.assert_close(drawn, swapped, atol=1e-3, rtol=1e-3)
    noise, config = torch.randn(400, 4, 8, 8, generator=torch.manual_seed(0)), chooser.model.config
    numbers = [choices(noise, config, 0, 0.4, -1, mask) for mask in (left, 1 - left, left)]
    assert torch.equal(numbers[0], numbers[2])
    assert (numbers[0] == numbers[1]).float().mean() == pytest.approx(0.4**2 + 3 * 0.2**2, abs=0.08)
