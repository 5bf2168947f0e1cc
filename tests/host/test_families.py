"""Every family of models, loaded by the host's own loaders from files that have only random weights."""

import checkpoints
import pytest
import torch
from checkpoints import conditioning
from families import corrector_for, loaded_corrector

SLOW = {"sd15", "sd2_v", "sdxl"}  # full-size UNets


@pytest.fixture(params=[pytest.param(f, marks=[pytest.mark.full] if f in SLOW else []) for f in checkpoints.FAMILIES])
def family(request):
    return request.param


@pytest.fixture
def model(host, family):
    """A family's MODEL, as the host loads it; the file and the memory are gone after the test."""
    import comfy.model_management as management

    path = checkpoints.place(family)
    loaded = checkpoints.load(host, family)[0]
    yield loaded
    del loaded
    management.unload_all_models()
    path.unlink()


def test_family(host, family, model, cell):
    kind = checkpoints.FAMILIES[family]
    patcher = loaded_corrector(host, corrector_for(kind))

    def apply(**more):
        return host.apply(patcher, model=model, **more)

    assert kind.prediction in [c.__name__ for c in type(model.model.model_sampling).__mro__]
    time = () if kind.dimensions == 2 else (1,)
    z = torch.randn(1, kind.channels, *time, 8, 8, generator=torch.Generator().manual_seed(1))
    positive, negative = conditioning(kind, 2), conditioning(kind, 3)

    def run(patched, start=0):
        common = dict(
            noise_seed=4, steps=3, cfg=2.0, sampler_name="euler", scheduler="simple", latent_image={"samples": z}
        )
        return host.call(
            "KSamplerAdvanced", model=patched, add_noise="enable", positive=positive, negative=negative,
            start_at_step=start, end_at_step=99, return_with_leftover_noise="disable", **common,
        )[0]["samples"]  # fmt: skip

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
