"""Memory manners: the corrector is loaded, kept and unloaded by the host, together with the model it corrects."""

import checkpoints
import pytest
import torch
from checkpoints import conditioning
from correctors import corrector_for, loaded_corrector

from rs_corrector.corrector import Corrector


@pytest.fixture
def management(host):
    import comfy.model_management as management

    yield management
    management.unload_all_models()


def loaded(management):
    """What the host holds as loaded just now."""
    return [entry.model.model for entry in management.current_loaded_models if entry.model is not None]


def test_the_host_loads_and_unloads_the_corrector_with_the_model(bed, apply, sample, corrector, management):
    management.unload_all_models()
    sample(apply())
    assert any(m is corrector.model for m in loaded(management))
    assert any(m is bed.model.model for m in loaded(management))
    management.unload_all_models()
    assert not any(m is corrector.model for m in loaded(management))
    again = sample(apply())
    assert torch.equal(sample(apply()), again), "loading again changes nothing"


def test_two_correctors_in_series_are_both_registered(host, apply, corrector):
    other = loaded_corrector(host, corrector_for(checkpoints.FAMILIES["sd15"]))
    both = host.apply(other, model=apply())
    registered = both.get_additional_models_with_key("rs_corrector")
    assert [p.model for p in registered] == [corrector.model, other.model]


def test_nothing_is_moved_while_a_run_goes_on(apply, sample, monkeypatch):
    corrected = apply()
    sample(corrected)
    monkeypatch.setattr(Corrector, "to", lambda *a, **k: pytest.fail("the network was moved"))
    sample(corrected)


@pytest.mark.parametrize("state", ["LOW_VRAM", "NO_VRAM", "HIGH_VRAM"])
def test_states_of_memory(state, apply, sample, management, monkeypatch):
    expected = sample(apply())
    management.unload_all_models()
    monkeypatch.setattr(management, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(management, "vram_state", management.VRAMState[state])
    assert torch.equal(sample(apply()), expected)
    assert torch.equal(sample(apply()), expected)


def test_without_smart_memory(apply, sample, management, monkeypatch):
    expected = sample(apply())
    monkeypatch.setattr(management, "DISABLE_SMART_MEMORY", True)
    for _ in range(2):
        assert torch.equal(sample(apply()), expected)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_weights_of_every_type_are_corrected(kind, host, management):
    import comfy.sd

    family, path = checkpoints.FAMILIES["sd3"], checkpoints.place("sd3")
    model = comfy.sd.load_diffusion_model(str(path), model_options={"dtype": getattr(torch, kind)})
    assert next(iter(model.model.diffusion_model.state_dict().values())).dtype == getattr(torch, kind)
    patcher = loaded_corrector(host, corrector_for(family))

    def drawn(strength):
        patched = host.apply(patcher, strength=strength, model=model)
        latent = {"samples": torch.zeros(1, 16, 8, 8)}
        common = dict(steps=2, cfg=2.0, sampler_name="euler", scheduler="simple", denoise=1.0, latent_image=latent)
        sides = dict(positive=conditioning(family, 2), negative=conditioning(family, 3))
        return host.call("KSampler", model=patched, seed=1, **common, **sides)[0]["samples"]

    plain, corrected = drawn(0.0), drawn(1.0)
    assert corrected.isfinite().all() and not torch.equal(corrected, plain)
    assert {p.dtype for p in patcher.model.parameters()} == {torch.float32}
