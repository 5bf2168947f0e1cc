"""Every family of models, on the host's own classes: a corrector is made, saved and used; and loaded from files."""

import checkpoints
import families
import pytest
import torch
from correctors import corrector_for, loaded_corrector
from torch.utils.flop_counter import FlopCounterMode

from rs_corrector import recipe

#: Of the families those that everyday tests make a corrector for, and of the files those that they load.
USUAL, LOADED = {"sdxl", "flux_kontext", "wan21_video"}, {"sd3", "qwen_image", "wan"}
QWEN = checkpoints.FAMILIES["qwen_image"]
WHOLE_RADIANCE = families.RADIANCE | {
    "context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 19,
    "depth_single_blocks": 38, "axes_dim": [16, 56, 56], "patch_size": 16, "out_dim": 3072, "hidden_dim": 5120,
    "n_layers": 5, "nerf_hidden_size": 64, "nerf_mlp_ratio": 4, "nerf_depth": 4, "nerf_max_freqs": 8,
}  # fmt: skip
SAMPLING = dict(seed=5, steps=8, cfg=3.0, sampler_name="euler", scheduler="simple")


def some(names, usual):
    return [pytest.param(name, marks=[] if name in usual else [pytest.mark.full]) for name in names]


@pytest.mark.parametrize("family", some(families.FAMILIES, USUAL))
def test_family(host, family, cell):
    kind, model = families.FAMILIES[family], families.model(families.FAMILIES[family])
    if model is None:
        pytest.skip(f"ComfyUI {host.version} has no family {kind.model}")
    neutral, preferred, rejected = (families.conditioning(kind, says) for says in (0, 1, -1))
    said = dict(neutral=neutral, preferred=preferred, rejected=rejected, negative=neutral, others=preferred)
    pixels = kind.side * kind.ratio
    pairs = host.run(
        "RSCorrectorPairsFromWords", model=model, **said, group="anyone", name=family, count=4, batch_size=4,
        width=pixels, height=pixels, **SAMPLING,
    )[0]  # fmt: skip
    channels = model.get_model_object("latent_format").latent_channels
    assert pairs.shape() == (channels, kind.side, kind.side) and pairs.source["anyone"]["shown"] == 4
    corrector = host.run(
        "RSCorrectorTrain", pairs=pairs, steps=20, batch_size=10, width=16, learning_rate=1e-2, seed=0
    )[0]
    host.run("RSCorrectorSave", corrector=corrector, name=family)
    loaded = host.run("RSCorrectorLoader", corrector_name=f"{family}.safetensors")[0]

    time = () if kind.frames is None else (kind.frames,)
    latent = {"samples": torch.zeros(2, channels, *time, kind.side, kind.side)}
    said = dict(positive=neutral, negative=neutral, latent_image=latent, denoise=1.0, **SAMPLING)

    def run(**more):
        patched = host.apply(loaded, group="anyone", model=model, **more) if more else model
        return host.call("KSampler", model=patched, **said)[0]["samples"]

    plain, corrected = run(), run(strength=1.0)
    assert plain.isfinite().all() and torch.equal(run(strength=0.0), plain)
    assert corrected.isfinite().all() and corrected.shape == plain.shape
    moved = families.corner(corrected - plain)
    assert moved.mean() > 0.005 and moved.flatten(1).mean(1).min() > 0, "towards the preferred depiction, every picture"
    half = torch.zeros(1, pixels, pixels)
    half[..., : pixels // 4] = 1  # the left half of the corner
    masked = families.corner(run(strength=1.0, mask=half) - plain)
    quarter = kind.side // 4
    assert masked[..., :quarter].abs().amax() > 2 * masked[..., quarter:].abs().amax()
    cell.said = f"corrected: {families.predicts(model)}"


def test_regional_prompts_and_references_where_latents_have_a_time_axis(host):
    kind = families.FAMILIES["qwen_image_edit"]
    model, neutral = families.model(kind), families.conditioning(kind)
    patched = host.apply(loaded_corrector(host, corrector_for(QWEN)), model=model)
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1
    area = dict(width=0.5, height=1.0, temporal=1.0, x=0.5, y=0.0, z=0.0, strength=1.0)
    regions = (
        host.call("ConditioningSetMask", conditioning=neutral, mask=left, strength=1.0, set_cond_area="default")[0],
        host.call("ConditioningSetAreaPercentageVideo", conditioning=families.conditioning(kind, -1), **area)[0],
    )
    both = host.call("ConditioningCombine", conditioning_1=regions[0], conditioning_2=regions[1])[0]
    latent = {"samples": torch.zeros(2, 16, 1, 8, 8)}
    said = dict(positive=both, negative=neutral, latent_image=latent, denoise=1.0, **SAMPLING)
    plain, corrected = (host.call("KSampler", model=m, **said)[0]["samples"] for m in (model, patched))
    assert corrected.isfinite().all() and corrected.shape == plain.shape and not torch.equal(corrected, plain)


def test_in_pixel_space_a_correction_costs_less_than_a_tenth_of_a_step(host):
    """Counted of Chroma Radiance at its own size, 512x512, without memory; the corrector on a sixteenth of that."""
    kind = checkpoints.Family("comfy.ldm.chroma_radiance.model:ChromaRadiance", WHOLE_RADIANCE, 4096, channels=3)
    network, pictures = checkpoints.build(kind), torch.zeros(1, 3, 512, 512, device="meta", dtype=torch.float16)
    rest = dict(context=torch.zeros(1, 77, 4096, device="meta", dtype=torch.float16), guidance=torch.zeros(1))
    with FlopCounterMode(display=False) as step, checkpoints.on_meta():
        network(pictures, torch.zeros(1), **rest)
    corrector, part = corrector_for(kind, width=recipe.WIDTH), torch.zeros(1, 3, 128, 128)
    with FlopCounterMode(display=False) as correction:
        corrector.deltas(part, torch.ones(1), part)
    assert 0 < 16 * correction.get_total_flops() < 0.002 * step.get_total_flops()


@pytest.fixture
def model(host, file):
    """A file's MODEL, as the host loads it; the file and the memory are gone after the test."""
    import comfy.model_management as management

    path = checkpoints.place(file)
    loaded = checkpoints.load(host, file)[0]
    yield loaded
    del loaded
    management.unload_all_models()
    path.unlink()


@pytest.mark.parametrize("file", some(checkpoints.FAMILIES, LOADED))
def test_loaded(host, file, model, cell):
    kind = checkpoints.FAMILIES[file]
    patcher = loaded_corrector(host, corrector_for(kind))
    time = () if kind.dimensions == 2 else (1,)
    z = torch.randn(1, kind.channels, *time, 8, 8, generator=torch.Generator().manual_seed(1))
    positive, negative = checkpoints.conditioning(kind, 2), checkpoints.conditioning(kind, 3)
    assert kind.prediction in [c.__name__ for c in type(model.model.model_sampling).__mro__]

    def run(patched, start=0):
        common = dict(
            noise_seed=4, steps=3, cfg=2.0, sampler_name="euler", scheduler="simple", latent_image={"samples": z}
        )
        return host.call(
            "KSamplerAdvanced", model=patched, add_noise="enable", positive=positive, negative=negative,
            start_at_step=start, end_at_step=99, return_with_leftover_noise="disable", **common,
        )[0]["samples"]  # fmt: skip

    def apply(**more):
        return host.apply(patcher, model=model, **more)

    sums = [float(p.detach().double().sum()) for p in model.model.parameters()]
    plain, seen, deltas = run(model), [], patcher.model.deltas
    assert plain.isfinite().all()
    assert torch.equal(run(apply(strength=0.0)), plain)
    patcher.model.deltas = lambda x, sigma, denoised, *of: (
        seen.append((x, sigma, of[1])) or deltas(x, sigma, denoised, *of)
    )
    corrected = run(apply())
    assert corrected.isfinite().all() and not torch.equal(corrected, plain)
    assert len(seen) == 3
    run(apply(), start=1)
    x, sigma, signal = seen[3]
    noise = torch.randn(z.shape, generator=torch.manual_seed(4))
    assert x.shape == (1, kind.channels, 8, 8), "one frame is one picture"
    expected = signal * model.model.process_latent_in(z).view_as(x) + sigma.view(-1, 1, 1, 1) * noise.view_as(x)
    torch.testing.assert_close(x.cpu(), expected, atol=1e-4, rtol=1e-4, msg="x = signal * z + sigma * n")
    cell.said = f"corrected: {kind.prediction}"
    assert sums == [float(p.detach().double().sum()) for p in model.model.parameters()], "weights unchanged"


def test_another_family_is_refused_before_sampling(host):
    flux = checkpoints.FAMILIES["flux"]
    patcher = loaded_corrector(host, corrector_for(flux))
    with pytest.raises(ValueError, match="expected a model of 16-channel Flux latents.*got 4-channel SD15; use a"):
        host.apply(patcher)
