"""The correction beside everything else in a graph: samplers, guiders, latents, conditioning and other patches.

Every cell is a whole run with the host's own nodes, given a model. What has to hold in all of them is in `holds`.
"""

import json
import subprocess
import sys

import pytest
import torch

from rs_corrector import comfyui
from rs_corrector.testbed import measure, portraits, readers

NEUTRAL, OTHER = portraits.neutral("green"), portraits.neutral("blue")
#: A part of the schedule so small that no step falls into it.
NOWHERE = dict(start_percent=0.61234, end_percent=0.612341)


def latents(batch=2, **more):
    return {"samples": torch.zeros(batch, 4, 8, 8), **more}


@pytest.fixture(scope="session")
def node(host):
    """Any node of the host or the pack, by name and inputs: its first output."""

    def node(name, **inputs):
        return host.call(name, **inputs)[0]

    return node


@pytest.fixture(scope="session")
def prompt(host):
    return {"positive": host.encode(NEUTRAL), "negative": host.encode("")}


@pytest.fixture
def holds(bed, apply, corrector):
    """Check a cell: a function model -> latents."""
    import comfy.model_management as management

    def holds(run, acts=True):
        kept = {key: value.clone() for key, value in bed.model.model.state_dict().items()}
        plain = run(bed.model)
        assert plain.isfinite().all()
        assert torch.equal(run(apply(strength=0.0)), plain), "strength 0 is bit-identical"
        calls = []
        handle = corrector.model.network.register_forward_hook(lambda *a: calls.append(1))
        assert torch.equal(run(apply(**NOWHERE)), plain) and not calls, "outside the window nothing is computed"
        corrected = run(apply())
        handle.remove()
        assert corrected.isfinite().all() and bool(calls) == acts
        assert torch.equal(corrected, plain) != acts
        assert torch.equal(run(apply()), corrected), "two runs give the same"
        assert torch.equal(run(bed.model), plain), "nothing is left behind for the next prompt"
        management.unload_all_models()  # takes LoRA and the like out of the weights again
        for key, value in bed.model.model.state_dict().items():
            assert torch.equal(value, kept[key]), key
        return plain, corrected

    return holds


def hats(host, drawn):
    """How many pictures show a hat."""
    return int((measure.column(readers.read(host.decode(drawn))[0], "hat") == 1).sum())


def listed():
    """The host's own samplers and schedulers, read without starting it here: parametrisation comes before fixtures."""
    code = "from comfy.cli_args import args; args.cpu = True; from comfy.samplers import KSampler as K; import json; "
    code += "print(json.dumps([list(K.SAMPLERS), list(K.SCHEDULERS)]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=comfyui.find(), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


SAMPLERS, SCHEDULERS = listed()


@pytest.mark.parametrize(
    "scheduler", [s if s == "karras" else pytest.param(s, marks=pytest.mark.full) for s in SCHEDULERS]
)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampler_and_scheduler(sampler, scheduler, node, prompt, holds, cell):
    holds(lambda model: ksampler(node, model, prompt, steps=4, sampler=sampler, scheduler=scheduler))


# Guiders: name -> (host, node, model, prompt, other) -> guider. DESIGN-level promise: each sees one correction a call.
GUIDERS = {
    "BasicGuider": lambda node, model, p, o: node("BasicGuider", model=model, conditioning=p["positive"]),
    "CFGGuider": lambda node, model, p, o: node("CFGGuider", model=model, cfg=3.0, **p),
    "CFGGuider at 1": lambda node, model, p, o: node("CFGGuider", model=model, cfg=1.0, **p),
    "DualCFGGuider": lambda node, model, p, o: node(
        "DualCFGGuider", model=model, cond1=p["positive"], cond2=o, negative=p["negative"],
        cfg_conds=2.0, cfg_cond2_negative=2.0, style="regular",
    ),
    "DualCFGGuider, nested": lambda node, model, p, o: node(
        "DualCFGGuider", model=model, cond1=p["positive"], cond2=o, negative=p["negative"],
        cfg_conds=2.0, cfg_cond2_negative=2.0, style="nested",
    ),
    "PerpNegGuider": lambda node, model, p, o: node(
        "PerpNegGuider", model=model, positive=p["positive"], negative=o, empty_conditioning=p["negative"],
        cfg=3.0, neg_scale=0.5,
    ),
    "DualModelGuider": lambda node, model, p, o: node(
        "DualModelGuider", model=model, model_negative=model, cfg=3.0, **p
    ),
}  # fmt: skip


@pytest.fixture
def guided(host, node, prompt):
    """Draw under a guider: a function of its name, a model, and the positive prompt where it is another."""

    def guided(guider, model, positive=None, batch=8, steps=12):
        said = prompt if positive is None else prompt | {"positive": positive}
        made = GUIDERS[guider](node, model, said, host.encode(OTHER))
        sigmas = node("BasicScheduler", model=model, scheduler="normal", steps=steps, denoise=1.0)
        sampler = node("KSamplerSelect", sampler_name="euler")
        noise = node("RandomNoise", noise_seed=measure.TUNING_SEED)
        advanced = dict(noise=noise, guider=made, sampler=sampler, sigmas=sigmas, latent_image=latents(batch))
        return node("SamplerCustomAdvanced", **advanced)["samples"]

    return guided


@pytest.mark.parametrize("guider", GUIDERS)
def test_guider(guider, host, holds, guided, cell):
    cell.needs(guider.split(",")[0].split(" at ")[0])
    plain, corrected = holds(lambda model: guided(guider, model))
    before, after = hats(host, plain), hats(host, corrected)
    assert after <= max(before - 2, 0), "hats become fewer"


@pytest.mark.parametrize("guider", GUIDERS)
def test_a_guider_obeys_prompts_one_by_one(guider, host, bed, node, prompt, apply, guided, cell):
    cell.needs(guider.split(",")[0].split(" at ")[0])
    asked = host.encode(f"{NEUTRAL}, wearing a hat")
    steps = 1 if guider == "PerpNegGuider" else 4  # it mixes the pictures of a batch from step to step

    def run(positive, **more):
        return guided(guider, apply(**more) if more else bed.model, positive, batch=4, steps=steps)

    both = [[torch.cat([prompt["positive"][0][0], asked[0][0]]), {}]]
    plain, obeyed, corrected = run(both), run(both, obey_requests=True), run(both, obey_requests=False)
    assert [torch.equal(*rows) for rows in zip(plain, obeyed)] == [False, True, False, True]
    torch.testing.assert_close(obeyed[::2], corrected[::2], atol=1e-4, rtol=1e-4)

    mask = torch.zeros(1, 64, 64)
    mask[..., :32] = 1.0
    regions = area(node, prompt["positive"], asked)  # the right one asks
    assert torch.equal(run(regions, mask=1 - mask), run(regions))
    left = run(regions, mask=mask)
    assert torch.equal(left, run(regions, mask=mask, obey_requests=False)) and not torch.equal(left, run(regions))


# Ways to sample: name -> (node, model, prompt) -> latents.
def ksampler(
    node,
    model,
    prompt,
    latent=None,
    seed=5,
    steps=12,
    denoise=1.0,
    cfg=3.0,
    sampler="euler",
    scheduler="normal",
    **more,
):
    common = dict(sampler_name=sampler, scheduler=scheduler, latent_image=latent or latents(), **prompt | more)
    return node("KSampler", model=model, seed=seed, steps=steps, cfg=cfg, denoise=denoise, **common)["samples"]


def ksampler_advanced(node, model, prompt):
    common = dict(noise_seed=5, steps=12, cfg=3.0, sampler_name="euler", scheduler="normal", **prompt)
    first = node(
        "KSamplerAdvanced", model=model, add_noise="enable", latent_image=latents(), start_at_step=0, end_at_step=7,
        return_with_leftover_noise="enable", **common,
    )  # fmt: skip
    return node(
        "KSamplerAdvanced", model=model, add_noise="disable", latent_image=first, start_at_step=7, end_at_step=99,
        return_with_leftover_noise="disable", **common,
    )["samples"]  # fmt: skip


def sampler_custom(node, model, prompt):
    sigmas = node("BasicScheduler", model=model, scheduler="karras", steps=12, denoise=1.0)
    sampler = node("KSamplerSelect", sampler_name="dpmpp_2m")
    common = dict(add_noise=True, noise_seed=5, cfg=3.0, sampler=sampler, sigmas=sigmas, latent_image=latents())
    return node("SamplerCustom", model=model, **common, **prompt)["samples"]


def img2img(node, model, prompt):
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return ksampler(node, model, prompt, {"samples": start}, denoise=0.6)


def latent_upscale(node, model, prompt):
    small = {"samples": ksampler(node, model, prompt)}
    large = node(
        "LatentUpscale", samples=small, upscale_method="bilinear", width=128, height=96, crop="disabled"
    )  # fmt: skip
    return ksampler(node, model, prompt, large, denoise=0.5)


def one_step(node, model, prompt):
    return ksampler(node, model, prompt, steps=1)


def cfg_one(node, model, prompt):
    return ksampler(node, model, prompt, cfg=1.0)


def odd_size(node, model, prompt):
    return ksampler(node, model, prompt, {"samples": torch.zeros(1, 4, 10, 14)})


def repeated_rows(node, model, prompt):
    return ksampler(node, model, prompt, latents(3, batch_index=[0, 4, 4]))


WAYS = (
    ksampler,
    ksampler_advanced,
    sampler_custom,
    img2img,
    latent_upscale,
    one_step,
    cfg_one,
    odd_size,
    repeated_rows,
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_way_to_sample(way, node, prompt, holds, cell):
    holds(lambda model: way(node, model, prompt))


def test_an_inpainted_picture_keeps_its_protected_area(node, prompt, holds, cell):
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    noise_mask = torch.zeros(1, 1, 64, 64)
    noise_mask[..., :32] = 1.0

    def run(model):
        return ksampler(node, model, prompt, {"samples": start, "noise_mask": noise_mask})

    plain, corrected = holds(run)
    assert torch.equal(plain[..., 4:], corrected[..., 4:]), "bit-identical where nothing is drawn"


@pytest.mark.parametrize("batch", [3, 8])
def test_a_batch_is_corrected_as_its_members_alone(batch, node, prompt, apply, cell):
    model = apply()
    together = ksampler(node, model, prompt, latents(batch))
    for i in range(batch):
        alone = ksampler(node, model, prompt, latents(1, batch_index=[i]))
        torch.testing.assert_close(together[i : i + 1], alone, atol=2e-3, rtol=2e-3)


# Conditioning: name -> (node, prompt, other) -> positive.
def area(node, positive, other):
    here = node("ConditioningSetArea", conditioning=positive, width=32, height=64, x=0, y=0, strength=1.0)
    there = node("ConditioningSetArea", conditioning=other, width=32, height=64, x=32, y=0, strength=1.0)
    return node("ConditioningCombine", conditioning_1=here, conditioning_2=there)


def masked(node, positive, other):
    mask = torch.zeros(1, 64, 64)
    mask[..., :32] = 1.0
    here, there = (
        node("ConditioningSetMask", conditioning=c, mask=m, strength=1.0, set_cond_area="default")
        for c, m in ((positive, mask), (other, 1 - mask))
    )
    return node("ConditioningCombine", conditioning_1=here, conditioning_2=there)


def timestep_ranges(node, positive, other):
    early = node("ConditioningSetTimestepRange", conditioning=other, start=0.0, end=0.3)
    late = node("ConditioningSetTimestepRange", conditioning=positive, start=0.3, end=1.0)
    return node("ConditioningCombine", conditioning_1=early, conditioning_2=late)


def concatenated(node, positive, other):
    return node("ConditioningConcat", conditioning_to=positive, conditioning_from=other)


def averaged(node, positive, other):
    return node("ConditioningAverage", conditioning_to=positive, conditioning_from=other, conditioning_to_strength=0.7)


@pytest.mark.parametrize(
    "conditioning", (area, masked, timestep_ranges, concatenated, averaged), ids=lambda c: c.__name__
)
def test_conditioning(conditioning, host, node, prompt, holds, cell):
    positive = conditioning(node, prompt["positive"], host.encode(OTHER))
    holds(lambda model: ksampler(node, model, prompt, positive=positive))


def test_hooks(host, node, prompt, holds, cell, lora):
    hook = node("CreateHookLoraModelOnly", lora_name=lora, strength_model=0.7)
    frames = node("CreateHookKeyframe", strength_mult=1.0, start_percent=0.0)
    frames = node("CreateHookKeyframe", strength_mult=0.0, start_percent=0.5, prev_hook_kf=frames)
    hook = node("SetHookKeyframes", hooks=hook, hook_kf=frames)
    positive = node(
        "ConditioningSetProperties", cond_NEW=prompt["positive"], strength=1.0, set_cond_area="default", hooks=hook
    )
    holds(lambda model: ksampler(node, model, prompt, positive=positive))


def test_controlnet(host, node, prompt, holds, cell, control_net):
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    control = dict(control_net=control_net, image=picture, strength=0.8, start_percent=0.0, end_percent=0.8)
    positive, negative = host.call("ControlNetApplyAdvanced", **prompt, **control)[:2]
    holds(lambda model: ksampler(node, model, prompt, positive=positive, negative=negative))


# Patches: name -> (node, model) -> model.
PATCHES = {
    "FreeU_V2": lambda node, model: node("FreeU_V2", model=model, b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    "PerturbedAttentionGuidance": lambda node, model: node("PerturbedAttentionGuidance", model=model, scale=1.0),
    "SelfAttentionGuidance": lambda node, model: node("SelfAttentionGuidance", model=model, scale=0.5, blur_sigma=2.0),
    "RescaleCFG": lambda node, model: node("RescaleCFG", model=model, multiplier=0.7),
    "APG": lambda node, model: node("APG", model=model, eta=1.0, norm_threshold=5.0, momentum=0.0),
    "TCFG": lambda node, model: node("TCFG", model=model),
    "Mahiro": lambda node, model: node("Mahiro", model=model),
    "EasyCache": lambda node, model: node(
        "EasyCache", model=model, reuse_threshold=0.2, start_percent=0.15, end_percent=0.95, verbose=False
    ),
    "LazyCache": lambda node, model: node(
        "LazyCache", model=model, reuse_threshold=0.2, start_percent=0.15, end_percent=0.95, verbose=False
    ),
    "TomePatchModel": lambda node, model: node("TomePatchModel", model=model, ratio=0.3),
    "HyperTile": lambda node, model: node(
        "HyperTile", model=model, tile_size=32, swap_size=2, max_depth=0, scale_depth=False
    ),
    "PatchModelAddDownscale": lambda node, model: node(
        "PatchModelAddDownscale", model=model, block_number=1, downscale_factor=2.0, start_percent=0.0,
        end_percent=0.35, downscale_after_skip=True, downscale_method="bicubic", upscale_method="bicubic",
    ),
    "NAGuidance": lambda node, model: node("NAGuidance", model=model, nag_scale=2.0, nag_alpha=0.5, nag_tau=1.5),
    "CFGOverride": lambda node, model: node("CFGOverride", model=model, cfg=2.0, start_percent=0.3, end_percent=0.8),
    "DifferentialDiffusion": lambda node, model: node("DifferentialDiffusion", model=model),
    "ModelSamplingDiscrete": lambda node, model: node(
        "ModelSamplingDiscrete", model=model, sampling="eps", zsnr=False
    ),
}  # fmt: skip


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("patch", PATCHES)
def test_patch(patch, order, host, bed, node, prompt, holds, apply, cell):
    cell.needs(patch)
    alone = (patch, host.version) == ("EasyCache", "0.3.64")  # whose own fails on more, with or without us
    batch = latents(1 if alone else 2)

    def draw(model):
        return ksampler(node, model, prompt, batch)

    def run(model):
        return draw(PATCHES[patch](node, model))

    if order == "before":  # Apply, then the patch
        holds(run)
        return
    patched = PATCHES[patch](node, bed.model)
    plain, corrected = draw(patched), draw(apply(patched))
    assert corrected.isfinite().all() and not torch.equal(corrected, plain)
    assert torch.equal(draw(apply(patched, strength=0.0)), plain)
    assert torch.equal(draw(apply(patched, **NOWHERE)), plain)
    assert torch.equal(draw(apply(patched)), corrected)
    assert torch.equal(draw(patched), plain)


@pytest.mark.parametrize("order", ["before", "after"])
def test_lora(order, bed, node, prompt, holds, apply, cell, lora):
    def loaded(model):
        return node("LoraLoaderModelOnly", model=model, lora_name=lora, strength_model=0.7)

    if order == "before":
        holds(lambda model: ksampler(node, loaded(model), prompt))
        return
    plain = ksampler(node, loaded(bed.model), prompt)
    assert not torch.equal(plain, ksampler(node, bed.model, prompt)), "the LoRA itself acts"
    corrected = ksampler(node, apply(loaded(bed.model)), prompt)
    assert not torch.equal(corrected, plain)
    torch.testing.assert_close(corrected, ksampler(node, loaded(apply()), prompt), msg="the order does not matter")


def test_two_groups_in_series(host, node, prompt, apply, cell):
    gold = host.encode(portraits.neutral("gold"))
    series = apply(apply(), group="gold")
    for positive, alone in ((prompt["positive"], apply()), (gold, apply(group="gold"))):
        both, one = (ksampler(node, m, prompt, positive=positive) for m in (series, alone))
        assert (both - one).abs().mean() < 0.1 * (
            one - ksampler(node, host.model, prompt, positive=positive)
        ).abs().mean()


def test_clones_do_not_share_corrections(bed, node, prompt, apply, cell):
    plain, half, full = bed.model, apply(strength=0.5), apply()
    apply(half.clone(), group="gold")
    drawn = [ksampler(node, model, prompt) for model in (plain, half, full)]
    again = [ksampler(node, model, prompt) for model in (plain, half.clone(), full)]
    for one, other in zip(drawn, again):
        assert torch.equal(one, other)
    assert len({float(x.sum()) for x in drawn}) == 3
