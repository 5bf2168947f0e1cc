"""The update inside ComfyUI's own sampling loop, on the real host with native nodes around it."""

import logging
import sys

import pytest
import torch
from flow import flow as converted

from rs_corrector.testbed.model import Testbed


def test_a_prompt_that_asks_for_the_attribute_itself_is_obeyed(host, bed, apply, sample, caplog):
    caplog.set_level(logging.INFO)
    asked = ", wearing a hat, blond hair"
    assert torch.equal(sample(apply(), more=asked), sample(bed.model, more=asked))
    words = "obeyed: the prompt asks for 'hat'"
    assert f"nothing corrected in this run; {words}" in caplog.text
    both = torch.cat([host.encode(f"a portrait of a person in a green shirt{w}")[0][0] for w in ("", asked)])
    for count in (2, 4, 5):
        drawn = [host.sample(model, [[both, {}]], count, 3, steps=4) for model in (bed.model, apply())]
        left_alone = [torch.equal(*rows) for rows in zip(*drawn)]
        assert left_alone == [i % 2 == 1 for i in range(count)], "two prompts serve the pictures in turn"
        assert f"the prompts of {count // 2} of {count} pictures ask for 'hat'" in caplog.text
    for model, more in ((apply(obey_requests=False), asked), (apply(), ", blond hair"), (apply(), ", bare-headed")):
        assert not torch.equal(sample(model, more=more), sample(bed.model, more=more))


def test_the_node_shows_what_was_done_and_what_was_left_alone(apply, sample, shown):
    sample(model := apply())
    sample(model, more=", wearing a hat")
    done, left = shown
    assert "steps 1-4 of 4" in done and left == "nothing corrected in this run\nobeyed: the prompt asks for 'hat'"


def test_a_prompt_of_another_text_encoder_is_noticed_and_corrected(host, bed, apply, caplog):
    caplog.set_level(logging.WARNING)
    ((tokens, more),) = host.encode("a portrait of a person in a green shirt, wearing a hat")
    foreign = [[tokens.flip(-1), more]]
    assert not torch.equal(*(host.sample(model, foreign, 1, 3, steps=2) for model in (apply(), bed.model)))
    assert "requests are not looked for" in caplog.text and "CLIP skip" in caplog.text


def test_a_request_counts_in_the_part_of_the_schedule_that_it_is_for(host, bed, apply):
    texts = (f"a portrait of a person in a green shirt{more}" for more in (", wearing a hat", ""))
    parts = [
        host.call("ConditioningSetTimestepRange", conditioning=host.encode(text), start=start, end=end)[0]
        for text, (start, end) in zip(texts, ((0.0, 0.4), (0.4, 1.0)))
    ]
    (positive,) = host.call("ConditioningCombine", conditioning_1=parts[0], conditioning_2=parts[1])
    plain, obeyed, later = (
        host.sample(model, positive, 1, 3, steps=6) for model in (bed.model, apply(), apply(start_percent=0.4))
    )
    assert torch.equal(obeyed, plain) and not torch.equal(later, plain)


def test_the_native_and_the_embedded_path_agree(bed, host):
    embedded, text = Testbed(), "a portrait of a person in a green shirt, wearing a hat"
    native = host.encode(text)[0][0]
    context = embedded.encode_text([text])
    torch.testing.assert_close(native, context, atol=1e-3, rtol=0)
    for level in (0.1, 1.0, 5.0, 14.0):
        sigma = torch.full((2,), level)
        x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * (1 + level**2) ** 0.5
        native_denoised = bed.model.model.apply_model(x, sigma, c_crossattn=native.expand(2, -1, -1))
        torch.testing.assert_close(
            native_denoised, embedded.denoise(x, sigma, context.expand(2, -1, -1)), atol=1e-3, rtol=0
        )


def test_the_native_and_the_embedded_vae_agree(bed):
    embedded, images = Testbed(), torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    latents = bed.model.model.process_latent_in(bed.vae.encode(images.movedim(1, -1)))
    torch.testing.assert_close(latents, embedded.encode(images), atol=1e-3, rtol=0)
    decoded = bed.vae.decode(bed.model.model.process_latent_out(latents)).movedim(-1, 1)
    torch.testing.assert_close(decoded, embedded.decode(latents), atol=1e-3, rtol=0)


def test_native_and_embedded_sampling_draw_the_same_pictures(bed, sample):
    embedded = Testbed().sample(["a portrait of a person in a green shirt"] * 2, seed=3, steps=20)
    native = bed.model.model.process_latent_in(sample(bed.model, batch=2, steps=20))
    torch.testing.assert_close(native, embedded, atol=2e-2, rtol=0)


def test_two_correctors_in_series_both_act(apply, sample):
    series = apply(apply(strength=0.25), strength=0.75)
    torch.testing.assert_close(sample(series), sample(apply()), atol=1e-4, rtol=1e-4)


def test_the_model_that_was_corrected_is_left_alone(bed, apply, sample):
    plain = sample(bed.model)
    corrected = apply()
    sample(corrected)
    assert torch.equal(sample(bed.model), plain)
    assert torch.equal(sample(corrected.clone()), sample(corrected))


def test_the_host_loads_the_corrector_with_the_model(apply, corrector):
    series = apply(apply(strength=0.5), strength=0.5)
    registered = series.get_additional_models_with_key("rs_corrector")
    assert [p.model for p in registered] == [corrector.model]


@pytest.mark.parametrize("window", [dict(start_percent=0.6), dict(end_percent=0.4)])
def test_outside_the_window_nothing_changes(window, bed, apply, sample):
    before = dict(steps=20, until=10) if "start_percent" in window else dict(steps=20)
    calls = []
    windowed = apply(**window)
    handle = windowed.get_additional_models_with_key("rs_corrector")[0].model.network.register_forward_hook(
        lambda *a: calls.append(1)
    )
    result = sample(windowed, **before)
    handle.remove()
    if "start_percent" in window:
        assert not calls and torch.equal(result, sample(bed.model, **before))
    else:
        assert len(calls) == 8  # sigmas of 20 uniform steps within the first 40 % of the schedule


def test_a_sample_does_not_depend_on_its_batch_mates(bed, apply, sample):
    positive_batch = sample(apply(), batch=3, steps=6)
    one = sample(apply(), batch=1, steps=6)
    torch.testing.assert_close(positive_batch[:1], one, atol=1e-3, rtol=1e-3)


def test_flow_matching_is_corrected_from_pure_noise_on(bed, apply, sample):
    flow = converted(bed.model)
    corrected = sample(apply(flow), scheduler="simple")
    assert corrected.isfinite().all() and not torch.equal(corrected, sample(flow, scheduler="simple"))


def test_a_model_of_other_latents_is_refused(bed, apply):
    import comfy.latent_formats as formats

    for latent_format, said in (
        (formats.SD3(), "expected a model of 4-channel SD15 latents.*got 16-channel SD3"),
        (formats.SDXL(), "got 4-channel SDXL; use a corrector made for this kind of model"),
        (formats.Wan21(), "expected a model of 4-channel SD15 latents.*got 16-channel Wan21"),
        (
            formats.StableAudio1(),
            "expected a model of images or of video alone, got one of StableAudio1 latents; use one",
        ),
    ):
        other = bed.model.clone()
        other.add_object_patch("latent_format", latent_format)
        with pytest.raises(ValueError, match=said):
            apply(other)


def test_bad_settings_are_refused(apply):
    with pytest.raises(ValueError, match="expected one of the corrector's groups.*green.*got 'mauve'"):
        apply(group="mauve")
    with pytest.raises(ValueError, match="expected start_percent below end_percent, got 0.5 and 0.5"):
        apply(start_percent=0.5, end_percent=0.5)


def test_a_missing_corrector_is_refused(host):
    with pytest.raises(FileNotFoundError, match="expected corrector weights named 'nowhere.safetensors' in one of"):
        host.nodes["RSCorrectorLoader"].execute("nowhere.safetensors")


def test_a_compiled_corrector_corrects_as_before(host, sample, apply):
    compiled = host.run("RSCorrectorLoader", corrector_name="testbed.safetensors", compile=True)[0]
    torch.testing.assert_close(sample(host.apply(compiled, "green")), sample(apply()), atol=1e-3, rtol=1e-3)


def test_the_loader_sees_that_a_file_changed(host):
    import os

    import folder_paths

    loader = host.nodes["RSCorrectorLoader"]
    path = os.path.join(folder_paths.models_dir, "rs_correctors", "mine.safetensors")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"1")
    first = loader.fingerprint_inputs("mine.safetensors")
    with open(path, "wb") as file:
        file.write(b"22")
    assert loader.fingerprint_inputs("mine.safetensors") != first
    assert {"mine.safetensors", "testbed.safetensors"} <= set(folder_paths.get_filename_list("rs_correctors"))
    os.remove(path)


def test_a_loaded_model_is_named_once_with_a_lora_or_without(host, bed, lora, monkeypatch):
    correction = sys.modules[host.nodes["RSCorrectorApply"].__module__.rsplit(".", 1)[0] + ".host.correction"]
    name = correction.fingerprint(bed.model)
    monkeypatch.setattr(correction.weights, "fingerprint", lambda tensors: pytest.fail("read again"))
    with_lora = host.call("LoraLoaderModelOnly", model=bed.model, lora_name=lora, strength_model=1.0)[0]
    assert name == correction.fingerprint(bed.model) == correction.fingerprint(with_lora)


def test_another_base_model_is_warned_of(host, bed, apply, caplog):
    with caplog.at_level(logging.WARNING):
        apply()
    assert "made for" not in caplog.text
    other = host.nodes["RSCorrectorTestbed"].execute().args[0]
    next(other.model.diffusion_model.parameters()).data.mul_(1.5)
    with caplog.at_level(logging.WARNING):
        apply(other)
    assert "make a corrector for this checkpoint" in caplog.text
