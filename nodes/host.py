"""The only module that touches ComfyUI's internals; everything else goes through `comfy_api.latest`."""

import logging
from dataclasses import fields
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.utils
import folder_paths
import torch
from comfy.patcher_extension import WrappersMP
from comfy.supported_models_base import ClipTarget
from comfy_api.latest import io

from ..rs_corrector import weights
from ..rs_corrector.corrector import Correction
from ..rs_corrector.testbed import model as testbed

FOLDER = "rs_correctors"
KEY = "rs_corrector"
SHIPPED = Path(__file__).resolve().parent.parent / "corrector_weights"
log = logging.getLogger("RS-Corrector")


def schema(**keywords):
    """An `io.Schema` without the keywords that this host does not know yet."""
    known = {f.name for f in fields(io.Schema)}
    return io.Schema(**{name: value for name, value in keywords.items() if name in known})


# The models folder


def register_folder():
    """Register `models/rs_correctors` and the shipped weights, keeping paths that the user configured."""
    paths, _ = folder_paths.folder_names_and_paths.get(FOLDER, ([], set()))
    own = [str(Path(folder_paths.models_dir) / FOLDER), str(SHIPPED)]
    folder_paths.folder_names_and_paths[FOLDER] = (paths + [p for p in own if p not in paths], {".safetensors"})


def corrector_names():
    return folder_paths.get_filename_list(FOLDER)


def corrector_path(name):
    """Full path of a corrector by its name in the list.

    Raises:
        FileNotFoundError: with the folders that were searched.
    """
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        places = ", ".join(folder_paths.get_folder_paths(FOLDER))
        raise FileNotFoundError(
            f"expected corrector weights named {name!r} in one of {places}, got no such file; "
            "put it there or choose another"
        )
    return path


# The corrector as a model that the host loads and offloads


def manage(corrector):
    """Wrap a `Corrector` so that the host moves it together with the model it corrects."""
    management = comfy.model_management
    return comfy.model_patcher.ModelPatcher(
        corrector, load_device=management.get_torch_device(), offload_device=management.unet_offload_device()
    )


def apply(model, patcher, group, strength, window):
    """A clone of `model` whose every sampling run is corrected; strength 0 gives a plain clone.

    Args:
        model: the host's ModelPatcher.
        patcher: a corrector as `manage` returns it.
        group, strength: as for `Correction`.
        window: (start_percent, end_percent) of the sampling schedule.
    """
    corrector = patcher.model
    _check_latents(model, corrector.config)
    patched = model.clone()
    if strength == 0:
        return patched
    registered = patched.get_additional_models_with_key(KEY)
    if not any(other.model is corrector for other in registered):
        patched.set_additional_models(KEY, registered + [patcher])
    runs = []  # one correction per sampling run in progress

    def outer_sample(executor, *args, **kwargs):
        sampling = executor.class_obj.model_patcher.get_model_object("model_sampling")
        runs.append(Correction(corrector, group, strength, *_sigmas(sampling, window)))
        try:
            return executor(*args, **kwargs)
        finally:
            runs.pop()

    def predict_noise(executor, x, sigma, *args, **kwargs):
        denoised = executor(x, sigma, *args, **kwargs)
        return runs[-1](x, *_level(executor.class_obj.inner_model.model_sampling, sigma), denoised)

    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, outer_sample)
    patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, predict_noise)
    return patched


def _sigmas(sampling, window):
    """(start, end) sigma of a percent window; an open side is open exactly."""
    start, end = window
    return (
        float("inf") if start <= 0 else float(sampling.percent_to_sigma(start)),
        0.0 if end >= 1 else float(sampling.percent_to_sigma(end)),
    )


def _level(sampling, sigma):
    """(sigma, signal) with x = signal * z + sigma * n: flow matching scales the signal, all others are VE."""
    if isinstance(sampling, comfy.model_sampling.CONST):
        return sigma * getattr(sampling, "noise_scale", 1.0), 1.0 - sigma
    return sigma, 1.0


def _check_latents(model, config):
    latent = model.get_model_object("latent_format")
    if getattr(latent, "latent_dimensions", 2) != 2:
        raise ValueError(
            f"expected a model of 2-D latents, got {type(latent).__name__} with {latent.latent_dimensions} dimensions; "
            "use an image model, correctors do not serve video or audio yet"
        )
    if latent.latent_channels != config.latent_channels or type(latent).__name__ != config.latent_format:
        raise ValueError(
            f"expected a model of {config.latent_channels}-channel {config.latent_format} latents, the corrector's, "
            f"got {latent.latent_channels}-channel {type(latent).__name__}; use a corrector made for this kind of model"
        )


def warn_if_other_base(model, config):
    """Log a warning where the corrector was made for another checkpoint than the one it is applied to."""
    expected = config.base.get("fingerprint")
    if not expected:
        return
    found = weights.fingerprint(model.model.diffusion_model.parameters())
    if found != expected:
        log.warning(
            "RS-Corrector: expected the checkpoint %s (fingerprint %s) that this corrector was made for, got another "
            "(%s); what was measured may not hold, make a corrector for this checkpoint",
            config.base.get("name", "?"),
            expected,
            found,
        )


# The testbed model as the host's native classes


def load_testbed():
    """The testbed model as native (MODEL, CLIP, VAE); the host converts diffusers' names itself."""
    state, _ = testbed.read_checkpoint()
    unet = testbed.part(state, "unet.")
    text = {f"clip_l.transformer.text_model.{k}": v for k, v in testbed.part(state, "text_model.").items()}
    return _native_model(unet), _native_clip(text), _native_vae(testbed.part(state, "vae."))


def _native_model(state):
    levels, blocks = len(testbed.UNET["channels"]), testbed.UNET["blocks"]
    width = testbed.UNET["channels"][0]
    config = comfy.supported_models.SD15(
        {
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": width,
            "num_res_blocks": [blocks] * levels,
            "channel_mult": [channels // width for channels in testbed.UNET["channels"]],
            "transformer_depth": [1] * levels * blocks,
            "transformer_depth_middle": 1,
            "transformer_depth_output": [1] * levels * (blocks + 1),
            "context_dim": testbed.UNET["context"],
            "use_linear_in_transformer": False,
            "use_spatial_transformer": True,
            "use_temporal_attention": False,
            "adm_in_channels": None,
            "legacy": False,
        }
    )
    config.unet_config["num_heads"] = testbed.UNET["heads"]
    config.set_inference_dtype(torch.float32, None)
    names = comfy.utils.unet_to_diffusers(config.unet_config)
    device = comfy.model_management.unet_offload_device()
    base = config.get_model({}, "", device=device)
    base.load_model_weights({names[key]: value for key, value in state.items()}, "")
    return comfy.model_patcher.ModelPatcher(
        base, load_device=comfy.model_management.get_torch_device(), offload_device=device
    )


def _native_clip(state):
    shape = {
        "hidden_size": testbed.TEXT["width"],
        "intermediate_size": testbed.TEXT["hidden"],
        "num_hidden_layers": testbed.TEXT["layers"],
        "num_attention_heads": testbed.TEXT["heads"],
        "projection_dim": testbed.TEXT["width"],
    }
    target = ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    return comfy.sd.CLIP(
        target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        parameters=sum(t.numel() for t in state.values()),
        state_dict=state,
        model_options={"clip_l_model_config": shape, "dtype": torch.float32},
    )


def _native_vae(state):
    channels = testbed.VAE["channels"]
    shape = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 64,
        "in_channels": 3,
        "out_ch": 3,
        "ch": channels[0],
        "ch_mult": [c // channels[0] for c in channels],
        "num_res_blocks": testbed.VAE["blocks"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    return comfy.sd.VAE(sd=state, config={"params": {"embed_dim": 4, "ddconfig": shape}}, dtype=torch.float32)
