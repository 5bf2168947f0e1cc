"""Which preferred depiction a picture gets, and which pictures are kept."""

import pytest
import torch

from rs_corrector.choice import KEEP, choose, from_noise, from_seed


def noise(count=4000, size=8):
    return torch.randn(count, 4, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("numbers", [from_noise(noise(), "a"), from_seed(7, 4000, "a")], ids=["noise", "seed"])
def test_shares_and_keep_are_met(numbers):
    chosen = choose(numbers, 0.25, (1.0, 0.0, 3.0))
    shares = [(chosen == k).float().mean().item() for k in (KEEP, 0, 1, 2)]
    assert shares == pytest.approx([0.25, 0.1875, 0.0, 0.5625], abs=0.03)


def test_a_picture_chooses_the_same_alone_in_any_batch_and_by_noise_of_any_scale():
    rows = noise(8)
    together = from_noise(rows, "a")
    for i in range(8):
        torch.testing.assert_close(from_noise(3 * rows[i : i + 1], "a")[0], together[i])
    torch.testing.assert_close(from_noise(rows[[5, 2]], "a"), together[[5, 2]])
    assert torch.equal(from_seed(3, 8, "a")[:4], from_seed(3, 4, "a"))


@pytest.mark.parametrize("draw", [lambda key: from_noise(noise(), key), lambda key: from_seed(7, 4000, key)])
def test_corrections_choose_independently_of_each_other_and_of_what_is_seen(draw):
    columns = torch.cat([draw("a"), draw("b")], 1)
    others = torch.corrcoef(columns.T) - torch.eye(4)
    assert others.abs().max() < 0.06
    brightness = noise().mean((1, 2, 3))
    assert torch.corrcoef(torch.stack([brightness, columns[:, 0]])).fill_diagonal_(0).abs().max() < 0.06


def test_keeping_more_does_not_change_what_others_get():
    numbers = from_noise(noise(), "a")
    few, many = choose(numbers, 0.2, (1.0, 1.0)), choose(numbers, 0.6, (1.0, 1.0))
    rest = many != KEEP
    assert torch.equal(few[rest], many[rest])


def test_all_or_none_is_exact():
    numbers = from_noise(noise(), "a")
    assert (choose(numbers, 1.0, (1.0,)) == KEEP).all() and (choose(numbers, 0.0, (1.0,)) == 0).all()
