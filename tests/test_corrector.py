"""The preference, its closed forms and the update that it makes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_corrector.choice import KEEP
from rs_corrector.correction import HIGHEST, LEVELS, LOWEST, Correction, weight
from rs_corrector.corrector import Config, Corrector, expand, likelihood_ratio, noise_levels
from rs_corrector.distillation import distil, moved
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


def delta_of(corrector, *prediction, **more):
    return corrector.deltas(*prediction, **more)[0]


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
    side = torch.arange(2).repeat_interleave(4096)
    latents = {"a": {"latents": torch.cat([preferred, rejected]), "side": side}}
    return train_denoiser_pair(latents, make_config(), steps=1500, batch=128, lr=4e-3, seed=0)[0]


@pytest.mark.parametrize("sigma", [3.0, 5.0, 8.0])
def test_delta_of_a_trained_pair_matches_two_gaussians(gaussian_pair, sigma):
    """At noise levels where the two overlap; below, neither denoiser ever saw the other's latents."""
    sigma = torch.full((256,), sigma)
    x = torch.cat([noisy(sigma[:128], 1), noisy(sigma[128:], -1)])
    assert relative_error(delta_of(gaussian_pair, x, sigma, x).mean(0), closed_form_delta(sigma)[0]) < 0.1


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


def recorded_runs(seed, count=256, steps=8):
    """Predictions that are off by what a corrector can see in them: the counterpart is the other sign of channel 0."""
    g = torch.Generator().manual_seed(seed)
    goal = torch.randn(count, *SHAPE, generator=g)
    denoised = goal[:, None].repeat(1, steps, 1, 1, 1)
    denoised[:, :, 0] *= -1
    area = torch.zeros(count, 1, *SHAPE[1:])
    area[..., :2] = 1.0
    level = torch.linspace(8, 0.2, steps).expand(count, steps)
    return {"denoised": denoised, "level": level, "goal": goal, "area": area, "choice": torch.zeros(count).long()}


def test_a_distilled_corrector_leads_predictions_to_their_counterparts_and_leaves_the_rest_alone():
    config, held_out = make_config(kind="delta", windows=[(0.1, 4.0)]), recorded_runs(1)
    corrector, _ = distil({"a": recorded_runs(0, 2048)}, config, steps=400, batch=96, lr=4e-3, seed=0)
    denoised, level = held_out["denoised"][:, 4], held_out["level"][:, 4]
    delta = delta_of(corrector, denoised, level, denoised)
    expected = held_out["area"] * (held_out["goal"] - denoised)
    assert relative_error(delta, expected) < 0.15 and delta[..., 2:].abs().mean() < 0.1 * delta[..., :2].abs().mean()


def test_held_out_pictures_are_shown_while_it_learns():
    config, held_out, seen = make_config(kind="delta", windows=[(0.1, 4.0)]), recorded_runs(1, 8), []
    held_out["area"][0] = 0  # one that needs nothing is not among them
    settings = dict(steps=200, batch=96, lr=4e-3, seed=0, every=100, held_out={"a": held_out})
    records = {"a": recorded_runs(0, 512)}
    corrector, history = distil(records, config, show=lambda *rows: seen.append(rows), **settings)
    assert [len(rows) for rows in seen] == [3, 3, 3] and len(history.validation) == 2
    before, after, goal = seen[-1]
    assert torch.equal(goal, held_out["goal"][1:5])
    assert relative_error(after, goal) < 0.75 * relative_error(before, goal)
    alone, same = distil(records, config, **settings)
    assert history == same and all(torch.equal(a, b) for a, b in zip(corrector.parameters(), alone.parameters()))


@given(sigma=st.floats(0.02, 500), sigma_data=st.floats(0.3, 3))
@settings(max_examples=25, deadline=None)
def test_flow_and_ve_agree_on_the_same_latent(sigma, sigma_data):
    corrector = random_corrector(sigma_data=sigma_data)
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)) * (sigma**2 + 1) ** 0.5
    ve = torch.full((2,), sigma)
    flow = ve / (1 + ve)
    expected = delta_of(corrector, x, ve, x)
    assert relative_error(delta_of(corrector, x * expand(1 - flow), flow, x, signal=1 - flow), expected) < 1e-3


@pytest.mark.parametrize("kind", ["denoiser_pair", "delta"])
def test_the_flow_form_is_finite_and_not_zero_at_pure_noise(kind):
    x = torch.randn(2, *SHAPE)
    delta = delta_of(random_corrector(kind=kind), x, torch.ones(2), x, signal=torch.zeros(2))
    assert delta.isfinite().all() and delta.abs().max() > 0


@given(height=st.integers(1, 17), width=st.integers(1, 17))
@settings(max_examples=20, deadline=None)
def test_any_size_of_latent_is_corrected(height, width):
    x = torch.randn(1, SHAPE[0], height, width)
    assert delta_of(random_corrector(levels=3), x, torch.ones(1), x).shape == x.shape


@given(batch=st.integers(2, 6), kind=st.sampled_from(["denoiser_pair", "delta"]))
@settings(max_examples=10, deadline=None)
def test_a_sample_does_not_depend_on_its_batch_mates(batch, kind):
    corrector, x = random_corrector(kind=kind), torch.randn(batch, *SHAPE)
    sigma = torch.linspace(0.2, 5, batch)
    together = delta_of(corrector, x, sigma, x)
    alone = torch.cat([delta_of(corrector, x[i : i + 1], sigma[i : i + 1], x[i : i + 1]) for i in range(batch)])
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


def test_every_picture_is_corrected_towards_its_own_choice_and_kept_ones_not_at_all():
    corrector = random_corrector(kind="delta", groups=("a", "b"), choices=(("one", "two"), ("three",)))
    x, sigma, denoised = torch.randn(5, *SHAPE), torch.linspace(0.2, 2, 5), torch.randn(5, *SHAPE)
    choice = torch.tensor([1, KEEP, 0, KEEP, 1])
    corrected = Correction(corrector, "a", choice=choice)(x, sigma, denoised)
    for i, own in enumerate(choice.tolist()):
        alone = Correction(corrector, "a", choice=torch.tensor([own]))(*(t[i : i + 1] for t in (x, sigma, denoised)))
        torch.testing.assert_close(corrected[i : i + 1], alone, rtol=1e-4, atol=1e-5)
        assert torch.equal(corrected[i], denoised[i]) == (own == KEEP)
    other = Correction(corrector, "a", choice=1 - choice.clamp_min(0))(x, sigma, denoised)
    assert not torch.allclose(other[0], corrected[0])
    assert not torch.allclose(Correction(corrector, "b")(x, sigma, denoised)[0], corrected[0])


def test_a_picture_that_is_kept_costs_no_call():
    corrector, rows = random_corrector(kind="delta"), []
    corrector.network.register_forward_hook(lambda network, inputs, out: rows.append(len(out)))
    x, denoised = torch.randn(4, *SHAPE), torch.randn(4, *SHAPE)
    Correction(corrector, choice=torch.tensor([0, KEEP, KEEP, 0]))(x, torch.ones(4), denoised)
    assert Correction(corrector, choice=torch.full((4,), KEEP))(x, torch.ones(4), denoised) is denoised
    assert rows == [2 * 2], "two pictures, with two answers each"


def test_every_preferred_depiction_is_learnt_under_its_own_label():
    """A run that needed nothing needs nothing whichever is chosen."""
    generator = torch.Generator().manual_seed(0)
    denoised = torch.randn(300, 1, *SHAPE, generator=generator)
    choice = torch.arange(300) % 3 - 1
    denoised[:, 0, 0] = torch.where(choice < 0, -2.0, 2.0).view(-1, 1, 1)  # seen in the prediction
    goal = denoised[:, 0] + torch.where(choice < 0, 0, 2.0 * choice - 1).view(-1, 1, 1, 1)
    records = {"denoised": denoised, "level": torch.ones(300, 1), "goal": goal, "choice": choice}
    records["area"] = (choice >= 0).float().view(-1, 1, 1, 1).expand(-1, 1, *SHAPE[1:])
    config = make_config(kind="delta", choices=(("down", "up"),))
    corrector, _ = distil({"a": records}, config, steps=300, batch=64, lr=4e-3, seed=0)
    seen = torch.randn(8, *SHAPE, generator=generator)
    for needs, label, wanted in ((2.0, 0, -1.0), (2.0, 1, 1.0), (-2.0, 0, 0.0), (-2.0, 1, 0.0)):
        seen[:, 0] = needs
        delta = delta_of(corrector, seen, torch.ones(8), seen, choice=label)
        assert delta.mean().item() == pytest.approx(wanted, abs=0.15)


class Reads(Corrector):
    """Says of every picture what its prediction calls for, as shares of what it would if it had to be corrected."""

    shares = ()

    def deltas(self, x, sigma, denoised, group="", signal=1.0, choice=0, film=None):
        led = torch.ones_like(denoised)
        return expand(torch.tensor(self.shares[: len(x)])) * led, led


def test_a_picture_is_decided_on_once_and_corrected_from_then_on():
    """One on its way may look like a third depiction, which by itself calls for nothing."""
    correction, nothing = Correction(Reads(make_config(kind="delta", windows=((0.0, 1.0),)))), torch.zeros(3, *SHAPE)
    looked_up = noise_levels(LOWEST, HIGHEST, LEVELS)

    def corrected(level, *shares):
        correction.corrector.shares = shares
        sigma = looked_up[(looked_up - level).abs().argmin()].expand(3)
        return (correction(nothing, sigma, nothing) / expand(weight(sigma, 1.0, 0.0, 1.0))).mean((1, 2, 3)).tolist()

    assert corrected(1.5, 0.9, 0.9, 0.0) == pytest.approx([0.9, 0.9, 0.0]), "too early to decide"
    assert corrected(0.8, 0.9, 0.8, 0.0) == pytest.approx([0.9, 0.8, 0.0])
    assert corrected(0.6, 0.0, 0.0, 0.9) == pytest.approx([1.0, 0.0, 0.9])
    assert corrected(0.3, 0.0, 0.0, 0.0) == pytest.approx([1.0, 0.0, 1.0])


@given(sigma=st.floats(1e-4, 1e4))
@settings(max_examples=50, deadline=None)
def test_a_weight_is_looked_up_to_a_hundredth(sigma):
    window = (0.02, 1.0)
    corrector, nothing = Reads(make_config(kind="delta", windows=(window,))), torch.zeros(1, *SHAPE)
    corrector.shares, sigma = (1.0,), torch.tensor([sigma])
    found = Correction(corrector)(nothing, sigma, nothing).mean().item()
    assert found == pytest.approx(weight(sigma, 1.0, *window).item(), abs=0.01)


def test_where_it_is_not_corrected_a_picture_decides_nothing():
    where = torch.zeros(1, 1, *SHAPE[1:])
    where[..., 0, 0] = 1.0
    corrector = Reads(make_config(kind="delta"))
    led, nothing = torch.ones(1, *SHAPE), torch.zeros(1, *SHAPE)

    def later(mask):
        """What is done of a picture that called for all but one pixel, and for nothing then."""
        correction, reads = Correction(corrector, mask=mask), iter([1 - where, nothing])
        corrector.deltas = lambda *prediction: (next(reads), led)
        correction(nothing, torch.ones(1), nothing)
        return correction(nothing, torch.ones(1), nothing)

    assert not later(where).any()
    assert later(None).eq(1).all()


def test_a_third_depiction_is_right_by_itself_and_left_on_the_way_to_the_preferred_one():
    """Pictures go from 1 by 0 to -1, and three times as many are 0 by right; the error of each is relative."""
    denoised = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1, 1).expand(40, 3, *SHAPE).clone()
    goal, area = torch.full((40, *SHAPE), -1.0), torch.ones(40, 1, *SHAPE[1:])
    denoised[::2], goal[::2], area[::2] = 0.0, 0.0, 0.0
    records = {"denoised": denoised, "goal": goal, "area": area, "level": torch.ones(40, 3)}
    records["choice"] = torch.zeros(40, dtype=torch.int64)
    corrector, _ = distil({"a": records}, make_config(kind="delta"), steps=300, batch=64, lr=4e-3, seed=0)
    for seen, by_itself, if_needed in ((1.0, -2.0, -2.0), (0.0, -0.45, -1.0)):
        x = torch.full((1, *SHAPE), seen)
        found = [d.mean().item() for d in corrector.deltas(x, torch.ones(1), x)]
        assert found == pytest.approx([by_itself, if_needed], abs=0.15)


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
    late = Corrector(replace(gaussian_pair.config, windows=[(0.0, 1.0)]))
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


def test_a_delta_corrector_says_that_it_has_no_score():
    with pytest.raises(ValueError, match="denoiser_pair"):
        random_corrector(kind="delta").score(torch.randn(1, *SHAPE))


def test_a_pair_reads_the_noisy_latent_and_a_delta_the_prediction():
    x, other, sigma = torch.randn(1, *SHAPE), torch.randn(1, *SHAPE), torch.ones(1)
    for kind, reads_x in (("denoiser_pair", True), ("delta", False)):
        corrector = random_corrector(kind=kind)
        same = torch.equal(delta_of(corrector, x, sigma, other), delta_of(corrector, x, sigma, x))
        assert same == reads_x
        assert torch.equal(delta_of(corrector, other, sigma, x), delta_of(corrector, x, sigma, x)) != reads_x


def test_a_correction_comes_in_at_its_onset_and_ends_at_its_release():
    assert weight(torch.tensor([0.0, 1.0, 2.0]), 1.0, 0.0, 2.0).tolist() == pytest.approx([1.0, 16 / 17, 0.5])
    assert weight(torch.tensor([0.0, 1.0, 2.0]), 1.0, 1.0).tolist() == pytest.approx([0.0, 0.5, 16 / 17])
    flow = torch.tensor([0.0, 0.5, 1.0])
    assert weight(flow, 1 - flow, 0.0, 1.0).tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert weight(flow, 1 - flow, 1.0, None).tolist() == pytest.approx([0.0, 0.5, 1.0])
    assert weight(flow).tolist() == [1.0, 1.0, 1.0]


def test_pairs_with_an_empty_side_are_refused():
    latents = {"a": {"latents": torch.randn(8, *SHAPE), "side": torch.zeros(8, dtype=torch.long)}}
    with pytest.raises(ValueError, match="rejected latents of 'a', got none"):
        train_denoiser_pair(latents, make_config(), steps=1, batch=4, lr=1e-3, seed=0)


def test_pictures_are_moved_by_whole_pixels_and_their_edges_repeated():
    picture = torch.arange(12.0).view(1, 1, 3, 4)
    down, left = moved(picture.repeat(2, 1, 1, 1), torch.tensor([[1, 0], [0, -2]]))
    assert down[0].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert left[0].tolist() == [[2, 3, 3, 3], [6, 7, 7, 7], [10, 11, 11, 11]]
