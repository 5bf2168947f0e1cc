"""The testbed model as the host's native classes, from the same file as the embedded path."""

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.utils
import folder_paths
import torch
from comfy.supported_models_base import ClipTarget

from ...rs_corrector.testbed import model as testbed


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
    clip = comfy.sd.CLIP(
        target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        parameters=sum(t.numel() for t in state.values()),
        model_options={"clip_l_model_config": shape, "dtype": torch.float32},
    )
    clip.load_sd(state, full_model=True)
    return clip


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
