"""The preference, its closed forms and the update that it makes."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_corrector.corrector import Config, Correction, Corrector, expand, likelihood_ratio, noise_levels, weight
from rs_corrector.distillation import Recorder, closest_elsewhere, distil, edit_mask, trajectories
from rs_corrector.score_matching import calibrated, train_denoiser_pair

SHAPE = (2, 4, 4)
S = 0.5  # deviation of the two Gaussians
MEAN = torch.tensor([1.0, -0.5]).view(2, 1, 1).expand(SHAPE)


def make_config(kind="denoiser_pair", **changes):
    basics = dict(groups=("a",), latent_format="SD15", latent_channels=SHAPE[0], sigma_data=1.0)
    return Config(kind=kind, **basics | dict(sigma_min=0.1, sigma_max=10.0, width=16, levels=2) | changes)


def random_corrector(**changes):
    """Untrained, but with a head that is not zero."""
    torch.manual_seed(0)
    corrector = Corrector(make_config(**changes))
    for p in corrector.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return corrector.eval().requires_grad_(False)


def closed_form_delta(sigma):
    """D+ - D- for N(+-MEAN, S^2): 2 sigma^2 MEAN / (S^2 + sigma^2)."""
    return expand(2 * sigma**2 / (S**2 + sigma**2)) * MEAN


def noisy(sigma, sign, seed=5):
    g = torch.Generator().manual_seed(seed)
    z = sign * MEAN + S * torch.randn(len(sigma), *SHAPE, generator=g)
    return z + expand(sigma) * torch.randn(z.shape, generator=g)


def relative_error(got, expected):
    return ((got - expected).norm() / expected.norm()).item()


@pytest.fixture(scope="module")
def gaussian_pair():
    g = torch.Generator().manual_seed(1)
    preferred = MEAN + S * torch.randn(4096, *SHAPE, generator=g)
    rejected = -MEAN + S * torch.randn(4096, *SHAPE, generator=g)
    unmarked = torch.cat([preferred[:2048], rejected[:2048]])
    side = torch.arange(3).repeat_interleave(4096)
    latents = {"a": {"latents": torch.cat([preferred, rejected, unmarked]), "side": side}}
    return train_denoiser_pair(latents, make_config(unmarked=True), steps=1500, batch=192, lr=4e-3, seed=0)[0]


@pytest.mark.parametrize("sigma", [3.0, 5.0, 8.0])
def test_delta_of_a_trained_pair_matches_two_gaussians(gaussian_pair, sigma):
    """At noise levels where the two overlap; below, neither denoiser ever saw the other's latents."""
    sigma = torch.full((256,), sigma)
    x = torch.cat([noisy(sigma[:128], 1), noisy(sigma[128:], -1)])
    assert relative_error(gaussian_pair.delta(x, sigma).mean(0), closed_form_delta(sigma)[0]) < 0.1


def test_the_gated_difference_vanishes_on_a_preferred_gaussian(gaussian_pair):
    """Gated and exact are compared in units of the full difference; P(rejected | x) is 0.02 on average here."""
    sigma = torch.full((256,), 2.0)
    full = closed_form_delta(sigma)
    for sign, exact in ((1, 0.0), (-1, 1.0)):
        gated = gaussian_pair.delta(noisy(sigma, sign), sigma, gated=True)
        assert (gated.mean(0) - exact * full[0]).norm() < 0.15 * full[0].norm()


def test_the_gate_is_the_chance_of_being_rejected(gaussian_pair):
    sigma = torch.full((512,), 3.0)
    x = torch.cat([noisy(sigma[:256], 1), noisy(sigma[256:], -1)])
    rejected = torch.sigmoid(-2 * (x * MEAN).sum((1, 2, 3)) / (S**2 + sigma**2))
    gated = gaussian_pair.delta(x, sigma, gated=True)
    along = (gated * MEAN).sum((1, 2, 3)) / (closed_form_delta(sigma) * MEAN).sum((1, 2, 3))
    assert (along - rejected).abs().mean() < 0.12


def test_the_score_tells_preferred_from_rejected(gaussian_pair):
    sigma = torch.zeros(64)
    assert (gaussian_pair.score(noisy(sigma, 1)) > 0).all()
    assert (gaussian_pair.score(noisy(sigma, -1)) < 0).all()


def test_the_score_of_exact_denoisers_is_the_log_likelihood_ratio():
    z = noisy(torch.zeros(256), 1)

    def denoisers(x, sigma):
        s = expand(sigma)
        return tuple((S**2 * x + side * s**2 * MEAN) / (S**2 + s**2) for side in (1, -1))

    exact = 2 * (z * MEAN).sum((1, 2, 3)) / S**2
    score = likelihood_ratio(z, denoisers, noise_levels(1e-3, 1e3, 200)).sum(0)
    assert relative_error(score.mean(), exact.mean()) < 0.05


def teacher_records(sign, count=2048):
    g = torch.Generator().manual_seed(2)
    sigma = (torch.rand(count, generator=g) * math.log(100) + math.log(0.1)).exp()
    x = noisy(sigma, sign, seed=int(sign) + 7)
    return {"x": x, "sigma": sigma, "signal": torch.ones(count), "delta": closed_form_delta(sigma)}


def test_a_distilled_corrector_matches_the_teacher():
    held_out = teacher_records(-1)
    config = make_config(kind="delta")
    corrector, _ = distil({"a": teacher_records(1)}, config, steps=400, batch=96, lr=4e-3, seed=0)
    assert relative_error(corrector.delta(held_out["x"], held_out["sigma"]), held_out["delta"]) < 0.1


@given(sigma=st.floats(0.02, 500), sigma_data=st.floats(0.3, 3))
@settings(max_examples=25, deadline=None)
def test_flow_and_ve_agree_on_the_same_latent(sigma, sigma_data):
    corrector = random_corrector(sigma_data=sigma_data)
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)) * (sigma**2 + 1) ** 0.5
    ve = torch.full((2,), sigma)
    flow = ve / (1 + ve)
    expected = corrector.delta(x, ve)
    assert relative_error(corrector.delta(x * expand(1 - flow), flow, signal=1 - flow), expected) < 1e-3


@pytest.mark.parametrize("kind", ["denoiser_pair", "delta"])
def test_the_flow_form_is_finite_and_not_zero_at_pure_noise(kind):
    delta = random_corrector(kind=kind).delta(torch.randn(2, *SHAPE), torch.ones(2), signal=torch.zeros(2))
    assert delta.isfinite().all() and delta.abs().max() > 0


@given(height=st.integers(1, 17), width=st.integers(1, 17))
@settings(max_examples=20, deadline=None)
def test_any_size_of_latent_is_corrected(height, width):
    x = torch.randn(1, SHAPE[0], height, width)
    assert random_corrector(levels=3).delta(x, torch.ones(1)).shape == x.shape


@given(batch=st.integers(2, 6), kind=st.sampled_from(["denoiser_pair", "delta"]))
@settings(max_examples=10, deadline=None)
def test_a_sample_does_not_depend_on_its_batch_mates(batch, kind):
    corrector, x = random_corrector(kind=kind), torch.randn(batch, *SHAPE)
    sigma = torch.linspace(0.2, 5, batch)
    together = corrector.delta(x, sigma)
    alone = torch.cat([corrector.delta(x[i : i + 1], sigma[i : i + 1]) for i in range(batch)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_strength_scales_the_correction_linearly():
    corrector, x, sigma, denoised = random_corrector(), torch.randn(2, *SHAPE), torch.ones(2), torch.randn(2, *SHAPE)
    one, two = (Correction(corrector, strength=s)(x, sigma, denoised) - denoised for s in (1, 2))
    torch.testing.assert_close(two, 2 * one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [dict(strength=0), dict(start=0.9), dict(end=1.1)])
def test_off_and_outside_the_window_are_bit_identical(settings):
    x, denoised = torch.randn(2, *SHAPE), torch.randn(2, *SHAPE)
    assert Correction(random_corrector(), **settings)(x, torch.ones(2), denoised) is denoised


def test_no_network_call_is_made_outside_the_window():
    corrector, calls = random_corrector(), []
    corrector.network.register_forward_hook(lambda *a: calls.append(1))
    correction = Correction(corrector, start=2.0, end=0.5)
    for sigma in (3.0, 2.0, 1.0, 0.5, 0.4):
        correction(torch.randn(1, *SHAPE), torch.tensor([sigma]), torch.randn(1, *SHAPE))
    assert len(calls) == 3


@given(height=st.integers(1, 20), width=st.integers(1, 20), rows=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_a_mask_of_any_size_limits_the_correction_exactly(height, width, rows):
    corrector, x, sigma, denoised = random_corrector(), torch.randn(3, *SHAPE), torch.ones(3), torch.randn(3, *SHAPE)
    everywhere = Correction(corrector)(x, sigma, denoised)
    masks = torch.stack([torch.full((1, height, width), float(i == 0)) for i in range(rows)])
    masked = Correction(corrector, mask=masks)(x, sigma, denoised)
    for i in range(3):
        assert torch.equal(masked[i], (denoised if i % rows else everywhere)[i])
    half = torch.zeros(1, 1, 8, 8)
    half[..., 4:], half[..., 4:6] = 1.0, 0.5
    masked = Correction(corrector, mask=half)(x, sigma, denoised)
    assert torch.equal(masked[..., :2], denoised[..., :2])
    torch.testing.assert_close(masked[..., 2] - denoised[..., 2], (everywhere[..., 2] - denoised[..., 2]) / 2)
    torch.testing.assert_close(masked[..., 3], everywhere[..., 3])


def test_a_run_counts_what_it_corrected():
    corrector, x, denoised = random_corrector(), torch.randn(2, *SHAPE), torch.randn(2, *SHAPE)
    run = Correction(corrector, start=2.0, end=0.5)
    changes = [run(x, torch.full((2,), level), denoised) - denoised for level in (3.0, 1.0, 0.6)]
    assert run.calls == 2
    torch.testing.assert_close(run.size, sum(c.norm() for c in changes) / denoised.norm(), rtol=1e-4, atol=0)


def test_an_inverted_window_is_refused():
    with pytest.raises(ValueError, match="expected a window.*got 1.0 to 2.0; swap"):
        Correction(random_corrector(), start=1.0, end=2.0)


def test_strength_one_is_full_by_calibration(gaussian_pair):
    """With full weight everywhere, D- + 1 * (D+ - D-) is D+ already; a correction that comes in late needs more."""
    assert gaussian_pair.config.gains == (1.0,)
    late = Corrector(replace(gaussian_pair.config, onset=1.0))
    late.load_state_dict(gaussian_pair.state_dict())
    gain = calibrated(late.eval(), "a", SHAPE)
    assert gain > 1.0 and calibrated(late, "a", SHAPE, chunk=5) == gain


def test_an_unknown_group_is_refused_with_the_known_ones():
    corrector = random_corrector(groups=("ana", "bo"))
    with pytest.raises(ValueError, match="ana, bo.*got 'cy'"):
        corrector.group_index("cy")
    with pytest.raises(ValueError, match="ana, bo.*got an empty group"):
        corrector.group_index("")
    assert corrector.group_index(" bo ") == 1


def test_a_delta_corrector_says_that_it_has_no_gate_and_no_score():
    corrector = random_corrector(kind="delta")
    with pytest.raises(ValueError, match="denoiser_pair"):
        corrector.score(torch.randn(1, *SHAPE))
    with pytest.raises(ValueError, match="denoiser_pair"):
        corrector.delta(torch.randn(1, *SHAPE), torch.ones(1), gated=True)


def test_the_recorder_leads_to_the_counterparts_and_keeps_what_that_took():
    counterparts, denoised = torch.ones(3, *SHAPE), torch.zeros(3, *SHAPE)
    recorder = Recorder(counterparts, None, torch.Generator().manual_seed(0))
    for sigma in (2.0, 1.0):
        out = recorder(denoised, torch.full((3,), sigma), denoised)
        assert torch.equal(out, expand(recorder.share).expand_as(out))
    kept = trajectories(recorder)
    assert kept["sigma"].tolist() == [2, 1, 2, 1, 2, 1] and (kept["delta"] == 1).all()


def test_a_run_that_needs_nothing_is_recorded_beside_the_one_that_is_led():
    denoised = torch.zeros(3, *SHAPE)
    led, spared = (Recorder(goal, None, torch.Generator().manual_seed(0)) for goal in (torch.ones(3, *SHAPE), None))
    for recorder in (led, spared):
        out = recorder(denoised, torch.full((3,), 2.0), denoised)
    assert torch.equal(out, denoised)
    assert trajectories(led, spared)["delta"].flatten(1).mean(1).tolist() == [1, 0, 1, 0, 1, 0]


def test_the_counterpart_is_the_candidate_that_changes_least_elsewhere():
    z, mask = torch.zeros(2, *SHAPE), torch.zeros(2, 1, *SHAPE[1:])
    mask[..., :2, :] = 1.0
    inside, outside = 9 * mask.expand_as(z), (1 - mask).expand_as(z)
    candidates = [
        inside + outside * torch.tensor([[[[1.0]]], [[[2.0]]]]),
        outside * torch.tensor([[[[2.0]]], [[[1.0]]]]),
    ]
    chosen = closest_elsewhere(candidates, z, mask)
    assert torch.equal(chosen[0], candidates[0][0]) and torch.equal(chosen[1], candidates[1][1])


def test_the_mask_is_where_two_wordings_differ():
    z = torch.zeros(2, 4, 12, 12)
    there = torch.zeros_like(z)
    there[:, :, 2:6, 3:8] = 1.0
    mask = edit_mask(z, lambda x, sigma: (x + there, x))
    assert mask.shape == (2, 1, 12, 12)
    assert mask[:, :, 3:5, 4:7].all() and not mask[:, :, 7:].any() and not mask[:, :, :, 9:].any()


def test_a_correction_comes_in_at_its_onset_and_is_off_at_pure_noise():
    assert weight(torch.tensor([0.0, 1.0, 2.0]), 1.0, 2.0).tolist() == pytest.approx([1.0, 16 / 17, 0.5])
    flow = torch.tensor([0.0, 0.5, 1.0])
    assert weight(flow, 1 - flow, 1.0).tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert weight(flow).tolist() == [1.0, 1.0, 1.0]


def test_pairs_with_an_empty_side_are_refused():
    latents = {"a": {"latents": torch.randn(8, *SHAPE), "side": torch.zeros(8, dtype=torch.long)}}
    with pytest.raises(ValueError, match="rejected latents of 'a', got none"):
        train_denoiser_pair(latents, make_config(), steps=1, batch=4, lr=1e-3, seed=0)
