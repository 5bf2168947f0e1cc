"""Latents with a time axis: a frame is a picture, and a clip's frames share what belongs to a picture."""

import sys
from types import SimpleNamespace

import checkpoints
import pytest
import torch
from checkpoints import conditioning
from correctors import corrector_for, loaded_corrector

from rs_corrector.wordings import Wordings


@pytest.fixture(scope="module")
def patcher(host):
    return loaded_corrector(host, corrector_for(checkpoints.FAMILIES["wan"]))


@pytest.fixture
def one_frame(host):
    """(family, MODEL) of a checkpoint of random weights whose latents have a time axis."""
    import comfy.model_management as management

    path = checkpoints.place("wan")
    loaded = checkpoints.load(host, "wan")[0]
    yield checkpoints.FAMILIES["wan"], loaded
    del loaded
    management.unload_all_models()
    path.unlink()


@pytest.fixture
def step(host, bed, patcher):
    """What a run of these latents comes to after one model call: a function of x and the prediction."""
    from comfy.latent_formats import Wan21
    from comfy.patcher_extension import WrappersMP

    model = bed.model.clone()
    model.add_object_patch("latent_format", Wan21())

    def step(x, denoised, **how):
        patched = host.apply(patcher, model=model, **how)
        hooks = {name: patched.wrappers[name]["rs_corrector"][-1] for name in patched.wrappers}
        guider = SimpleNamespace(conds={}, model_patcher=patched, inner_model=patched.model)
        sigma = torch.full((len(x),), 2.0)

        def model_call(*_):
            return denoised

        def run(noise, latent, sampler, sigmas):
            model_call.class_obj = guider
            return hooks[WrappersMP.PREDICT_NOISE](model_call, x, sigma)

        run.class_obj = guider
        return hooks[WrappersMP.OUTER_SAMPLE](run, x, torch.zeros_like(x), None, torch.tensor([2.0, 0.0]))

    return step


def latents(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_one_frame_is_corrected_as_a_picture_is_bit_for_bit(step):
    x, denoised = latents(3, 16, 8, 8), latents(3, 16, 8, 8, seed=1)
    mask = torch.rand(1, 64, 64)
    for how in ({}, {"mask": mask}, {"strength": 0.5}, {"keep": 0.5, "choice_seed": 3}):
        picture, frame = step(x, denoised, **how), step(x.unsqueeze(2), denoised.unsqueeze(2), **how)
        assert torch.equal(frame, picture.unsqueeze(2)) and not torch.equal(picture, denoised), how


def test_a_clip_is_corrected_frame_by_frame(step):
    x, denoised = latents(2, 16, 5, 8, 8), latents(2, 16, 5, 8, 8, seed=1)
    together = step(x, denoised)
    assert together.shape == x.shape and together.isfinite().all()
    for number in range(5):
        alone = step(x[:, :, number], denoised[:, :, number])
        torch.testing.assert_close(together[:, :, number], alone, atol=1e-5, rtol=1e-5)
    same = x[:, :, :1].expand(-1, -1, 5, -1, -1), denoised[:, :, :1].expand(-1, -1, 5, -1, -1)
    found = step(*same)
    assert torch.equal(found, found[:, :, :1].expand_as(found)), "equal frames stay equal"


def test_a_clip_makes_one_choice_and_has_one_mask(step):
    x, denoised = latents(8, 16, 3, 8, 8), latents(8, 16, 3, 8, 8, seed=1)
    unchanged = (step(x, denoised, keep=0.5) == denoised).all(4).all(3).all(1)  # by clip and frame
    assert (unchanged == unchanged[:, :1]).all() and 0 < unchanged[:, 0].sum() < 8
    left, right = torch.zeros(2, 64, 64), 1
    left[0, :, :32] = right  # the first clip's left, nothing of the second
    changed = (step(x[:2], denoised[:2], mask=left) != denoised[:2]).any(1)  # (2, 3, 8, 8)
    assert changed[0, :, :, :4].all() and not changed[0, :, :, 4:].any() and not changed[1].any()


def test_of_an_area_in_time_its_place_counts(host):
    from comfy.samplers import resolve_areas_and_cond_masks_multidim

    requests = sys.modules[host.nodes["RSCorrectorApply"].__module__.rsplit(".", 1)[0] + ".host.requests"]
    conds = [requests._in_space({"area": ("percentage", 0.5, 0.5, 0.25, 0.0, 0.5, 0.75)})]
    resolve_areas_and_cond_masks_multidim(conds, (8, 8), "cpu")
    inside = requests.part(conds[0], torch.ones(1, 8, 8, dtype=torch.bool))
    wanted = torch.zeros(1, 8, 8, dtype=torch.bool)
    wanted[:, 4:, 6:] = True
    assert torch.equal(inside, wanted)


def test_latents_of_another_form_are_refused(step):
    packed = latents(1, 1, 640)
    with pytest.raises(ValueError, match="expected latents of pictures alone, got pictures packed together with sound"):
        step(packed, packed)


def test_at_strength_0_a_run_has_no_step_of_ours(step):
    with pytest.raises(KeyError, match="outer_sample"):
        step(latents(1, 16, 3, 8, 8), latents(1, 16, 3, 8, 8, seed=1), strength=0.0)


SAMPLING = dict(steps=3, cfg=2.0, sampler_name="euler", scheduler="simple", seed=5)


def test_a_corrector_is_made_saved_and_applied_where_latents_have_a_time_axis(host, one_frame):
    family, model = one_frame
    sides = {name: conditioning(family, seed) for seed, name in enumerate(("neutral", "preferred", "rejected"))}
    nodes = sys.modules[host.nodes["RSCorrectorPairsFromWords"].__module__].host
    said = Wordings(sides["neutral"], (sides["preferred"],), sides["rejected"], others=sides["neutral"])
    checkpoint = nodes.HostCheckpoint(
        model, said, {}, conditioning(family, 9), (8, 8), 5, 3, sampler="euler", scheduler="simple"
    )
    drawn = checkpoint.sample("neutral", range(2), cfg=torch.tensor([2.0, 3.0]))
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, ..., :4] = mask[1, ..., 4:] = 1
    levels = checkpoint.levels[checkpoint.levels <= 5.0]
    again = checkpoint.sample("preferred", range(2), again=1, latents=drawn, mask=mask, levels=levels)
    assert drawn.shape == again.shape == (2, 16, 8, 8) and drawn.isfinite().all()
    for row, place in zip(mask.expand_as(drawn), range(2)):
        kept = row == 0
        torch.testing.assert_close(again[place][kept], drawn[place][kept], atol=1e-3, rtol=1e-3)
        assert not torch.isclose(again[place][~kept], drawn[place][~kept], atol=1e-3).all()
    sides_of_one = checkpoint.predict(drawn, 2.0, ("preferred", "rejected"), range(2))
    assert [side.shape for side in sides_of_one] == [drawn.shape] * 2 and not torch.equal(*sides_of_one)

    pairs = host.run(
        "RSCorrectorPairsFromPrompts", model=model, **sides, negative=conditioning(family, 9), group="anyone",
        name="timed", count=8, batch_size=2, width=64, height=64, **SAMPLING,
    )[0]  # fmt: skip
    assert pairs.shape() == (16, 8, 8)
    corrector = host.run("RSCorrectorTrain", pairs=pairs, steps=20, batch_size=8, width=16, learning_rate=1e-3, seed=0)[
        0
    ]
    host.run("RSCorrectorSave", corrector=corrector, name="timed")
    loaded = host.run("RSCorrectorLoader", corrector_name="timed.safetensors")[0]
    assert loaded.model.config.latent_format == "Wan21"
    patched = host.apply(loaded, group="anyone", model=model)
    said = dict(positive=sides["neutral"], negative=conditioning(family, 9), denoise=1.0, **SAMPLING)
    for shape in ((1, 16, 8, 8), (1, 16, 1, 8, 8), (1, 16, 2, 8, 8)):
        latent = {"samples": torch.zeros(shape)}
        plain, corrected = (host.call("KSampler", model=m, latent_image=latent, **said)[0]["samples"]
                            for m in (model, patched))  # fmt: skip
        assert corrected.isfinite().all() and corrected.shape == plain.shape and not torch.equal(corrected, plain)
