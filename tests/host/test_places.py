"""Two people in one picture: who is corrected, by a mask and without one."""

import pytest
import torch

from rs_corrector.testbed import measure, portraits, readers

COUNT = 24
LEFT, RIGHT = slice(0, 8), slice(8, 16)


@pytest.fixture(scope="module")
def couple(host):
    """Draw two portraits side by side, each by its own regional prompt: (left, right) images."""

    def areas(*texts):
        parts = [
            host.call(
                "ConditioningSetArea", conditioning=host.encode(t), width=64, height=64, x=64 * i, y=0, strength=1.0
            )
            for i, t in enumerate(texts)
        ]
        return host.call("ConditioningCombine", conditioning_1=parts[0][0], conditioning_2=parts[1][0])[0]

    def couple(model, left="green", right="blue", asked=""):
        common = dict(
            seed=measure.TUNING_SEED, steps=20, cfg=3.0, sampler_name="euler", scheduler="normal", denoise=1.0
        )
        positive = areas(portraits.neutral(left), portraits.neutral(right) + asked)
        latent = {"samples": torch.zeros(COUNT, 4, 8, 16)}
        drawn = host.call(
            "KSampler", model=model, positive=positive, negative=areas("", ""), latent_image=latent, **common
        )[0]["samples"]
        return [readers.read(host.decode(drawn[..., half]))[0] for half in (LEFT, RIGHT)]

    return couple


@pytest.fixture(scope="module")
def uncorrected(bed, couple):
    return couple(bed.model)


def side(half):
    """A mask in pixels over one half of the picture."""
    mask = torch.zeros(1, 64, 128)
    mask[..., 8 * half.start : 8 * half.stop] = 1.0
    return mask


def share(rows, attribute):
    return (measure.column(rows, attribute) == 1).float().mean().item()


def kept(before, after):
    return measure.content_kept(before, after).mean().item()


def test_both_people_are_drawn_as_asked(uncorrected):
    for rows, group in zip(uncorrected, ("green", "blue")):
        assert share(rows, "hat") == pytest.approx(float(group == "green"), abs=0.1)
        assert (measure.column(rows, "group") == portraits.GROUPS.index(group)).float().mean() > 0.95


def test_without_a_mask_the_target_changes_and_the_other_stays(apply, couple, uncorrected, cell):
    left, right = couple(apply())
    assert share(left, "hat") <= 0.1
    assert kept(uncorrected[1], right) >= 0.95


def test_a_mask_limits_the_correction_to_one_person(apply, couple, uncorrected, cell):
    left, right = couple(apply(mask=side(LEFT)))
    assert share(left, "hat") <= 0.1
    assert kept(uncorrected[1], right) >= 0.97
    left, right = couple(apply(mask=side(RIGHT)))
    assert share(left, "hat") >= 0.9
    assert kept(uncorrected[0], left) >= 0.97


def test_two_people_are_corrected_by_two_masks(bed, apply, couple, cell):
    before = couple(bed.model, right="gold")
    assert share(before[0], "hat") >= 0.9 and share(before[1], "distorted") >= 0.9
    left, right = couple(apply(apply(mask=side(LEFT)), group="gold", mask=side(RIGHT)), right="gold")
    assert share(left, "hat") <= 0.1 and share(right, "distorted") <= 0.1


def test_masks_serve_a_batch_in_turn(bed, apply, couple, uncorrected, cell):
    left, _ = couple(apply(mask=torch.cat([side(LEFT), side(RIGHT)])))
    hats = measure.column(left, "hat") == 1
    assert hats[::2].float().mean() <= 0.1 and hats[1::2].float().mean() >= 0.9


def test_a_request_in_one_place_silences_no_correction_of_another(bed, apply, couple, uncorrected, cell):
    asked = ", wearing a hat"
    left, right = couple(apply(apply(mask=side(RIGHT)), mask=side(LEFT)), asked=asked)
    assert share(left, "hat") <= 0.1 and share(right, "hat") >= 0.9
    left, right = couple(apply(), asked=asked)
    assert share(left, "hat") >= 0.9 and share(right, "hat") >= 0.9, "one for both places leaves the picture alone"
