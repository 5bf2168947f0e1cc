"""Every family of image models on the host's own classes, too small to draw anything.

For seeing that the host's own way of preparing, conditioning and sampling each of them takes the correction. A network
has a block or two of each sort, and random weights; in a corner of its pictures the words have a meaning, so that
there is something to correct.
"""

from dataclasses import dataclass, field

import torch
from checkpoints import known, weights

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 64, "num_res_blocks": [1, 1],
    "channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_middle": 1,
    "transformer_depth_output": [1] * 4, "use_spatial_transformer": True, "legacy": False, "context_dim": 32,
    "use_linear_in_transformer": True,
}  # fmt: skip
SDXL = UNET | {"num_classes": "sequential"}
MMDIT = {
    "input_size": None, "in_channels": 16, "depth": 1, "num_patches": 1024, "pos_embed_max_size": 32,
    "adm_in_channels": 32, "context_embedder_config": {
        "target": "torch.nn.Linear", "params": {"in_features": 32, "out_features": 64},
    },
}  # fmt: skip
AURA = {"dim": 64, "n_layers": 2, "n_double_layers": 1, "n_heads": 2, "global_conddim": 64, "cond_seq_dim": 32}
PIXART = {"hidden_size": 64, "depth": 1, "num_heads": 2, "caption_channels": 32, "micro_condition": False}
LUMINA = {
    "patch_size": 2, "in_channels": 16, "dim": 96, "cap_feat_dim": 32, "n_layers": 1, "n_refiner_layers": 1,
    "qk_norm": True, "n_heads": 2, "n_kv_heads": 1, "axes_dims": [16, 16, 16], "axes_lens": [300, 512, 512],
}  # fmt: skip
Z_IMAGE = LUMINA | {
    "dim": 256, "n_kv_heads": 2, "axes_dims": [32, 48, 48], "rope_theta": 256.0, "z_image_modulation": True,
    "time_scale": 1000.0, "pad_tokens_multiple": 32,
}  # fmt: skip
HIDREAM = {
    "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 1, "num_single_layers": 1,
    "attention_head_dim": 32, "num_attention_heads": 2, "caption_channels": [32, 32], "text_emb_dim": 32,
    "num_routed_experts": 2, "num_activated_experts": 1, "axes_dims_rope": [16, 8, 8], "max_resolution": [128, 128],
    "llama_layers": [0, 1],
}  # fmt: skip
STREAMS = {
    "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2.0, "depth": 1, "depth_single_blocks": 1, "context_in_dim": 32,
    "qkv_bias": True,
}  # fmt: skip
FLUX = STREAMS | {
    "in_channels": 16, "out_channels": 16, "vec_in_dim": 32, "axes_dim": [8, 12, 12], "theta": 10000, "patch_size": 2,
    "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip
FLUX2 = FLUX | {
    "in_channels": 128, "out_channels": 128, "vec_in_dim": None, "axes_dim": [8, 8, 8, 8], "theta": 2000,
    "patch_size": 1, "qkv_bias": False, "txt_ids_dims": [3], "global_modulation": True, "mlp_silu_act": True,
    "ops_bias": False, "default_ref_method": "index", "ref_index_scale": 10.0,
}  # fmt: skip
CHROMA = STREAMS | {
    "in_channels": 64, "out_channels": 64, "vec_in_dim": None, "axes_dim": [8, 12, 12], "theta": 10000,
    "patch_size": 2, "txt_ids_dims": [], "in_dim": 64, "out_dim": 64, "hidden_dim": 64, "n_layers": 1,
}  # fmt: skip
RADIANCE = CHROMA | {
    "in_channels": 3, "out_channels": 3, "patch_size": 4, "nerf_hidden_size": 16, "nerf_mlp_ratio": 2,
    "nerf_depth": 1, "nerf_max_freqs": 4, "nerf_tile_size": 512, "nerf_final_head_type": "conv",
    "nerf_embedder_dtype": torch.float32, "use_x0": False, "use_sequential_txt_ids": False,
}  # fmt: skip
HUNYUAN = STREAMS | {
    "in_channels": 64, "out_channels": 64, "patch_size": [1, 1], "vec_in_dim": None, "axes_dim": [16, 16],
    "theta": 256, "guidance_embed": False, "byt5": False, "meanflow": False, "use_cond_type_embedding": False,
    "vision_in_dim": None, "meanflow_sum": False,
}  # fmt: skip
QWEN = {
    "in_channels": 64, "out_channels": 16, "num_layers": 1, "attention_head_dim": 32, "num_attention_heads": 2,
    "joint_attention_dim": 32, "axes_dims_rope": (8, 12, 12),
}  # fmt: skip
KREA = {
    "features": 64, "tdim": 32, "txtdim": 40, "heads": 2, "kvheads": 1, "multiplier": 2, "layers": 1, "txtlayers": 2,
    "txtheads": 2, "txtkvheads": 2,
}  # fmt: skip
COSMOS = {
    "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16, "out_channels": 16, "patch_spatial": 2,
    "patch_temporal": 1, "model_channels": 64, "num_blocks": 1, "num_heads": 2, "crossattn_emb_channels": 32,
    "pos_emb_cls": "rope3d", "pos_emb_learnable": True, "use_adaln_lora": True, "adaln_lora_dim": 8,
    "rope_enable_fps_modulation": False,
}  # fmt: skip
WAN = {"dim": 64, "ffn_dim": 64, "num_heads": 2, "num_layers": 1, "text_dim": 32}
WAN22 = WAN | {"in_dim": 48, "out_dim": 48}


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        name: as people know it.
        model: the host's name, in `comfy.supported_models`.
        config: of its network, as the host would read it off a checkpoint.
        context: of the prompt's embeddings; pooled: of its pooled embedding, 0 for none.
        more: {name: shape} of what else a prompt carries.
        frames: of its latents; None where they have no time axis.
        side: of its latents; ratio: of the side of its pictures to that.
        module: the host's, of its network, where hosts differ in what they know of it.
    """

    name: str
    model: str
    config: dict
    context: int = 32
    pooled: int = 0
    more: dict = field(default_factory=dict)
    frames: int | None = None
    side: int = 8
    ratio: int = 8
    module: str = ""


def _inpainting(channels):
    return {"concat_latent_image": (1, channels, 8, 8), "concat_mask": (1, 1, 64, 64)}


_FLUX = "comfy.ldm.flux.model"
FAMILIES = {
    "sd15": Family("Stable Diffusion 1.5", "SD15", UNET | {"use_linear_in_transformer": False}),
    "sd15_inpaint": Family("Stable Diffusion 1.5, inpainting", "SD15", UNET | {"in_channels": 9}, more=_inpainting(4)),
    "sd2_v": Family("Stable Diffusion 2, v-prediction", "SD20", UNET),
    "sdxl": Family("SDXL", "SDXL", SDXL | {"adm_in_channels": 2816}, pooled=1280),
    "sdxl_refiner": Family("SDXL refiner", "SDXLRefiner", SDXL | {"adm_in_channels": 2560}, pooled=1280),
    "sd3": Family("Stable Diffusion 3 and 3.5", "SD3", MMDIT, pooled=32),
    "auraflow": Family("AuraFlow", "AuraFlow", AURA),
    "pixart": Family("PixArt Sigma", "PixArtSigma", PIXART | {"pe_interpolation": 2}, side=64),
    "lumina2": Family("Lumina 2", "Lumina2", LUMINA, more={"attention_mask": (1, 16)}),
    "z_image": Family("Z-Image", "ZImage", Z_IMAGE, more={"attention_mask": (1, 16)}),
    "hidream": Family("HiDream", "HiDream", HIDREAM, pooled=32, more={"conditioning_llama3": (1, 2, 16, 32)}),
    "flux": Family("Flux.1", "Flux", FLUX, pooled=32, module=_FLUX),
    "flux_schnell": Family("Flux.1 schnell", "FluxSchnell", FLUX | {"guidance_embed": False}, pooled=32, module=_FLUX),
    "flux_fill": Family(
        "Flux.1 Fill", "FluxInpaint", FLUX | {"in_channels": 96}, pooled=32, more=_inpainting(16), module=_FLUX
    ),
    "flux_kontext": Family(
        "Flux.1 Kontext", "Flux", FLUX, pooled=32, more={"reference_latents": (1, 16, 8, 8)}, module=_FLUX
    ),
    "flux2": Family("Flux.2", "Flux2", FLUX2, more={"reference_latents": (1, 128, 8, 8)}, ratio=16),
    "chroma": Family("Chroma", "Chroma", CHROMA, pooled=32, module="comfy.ldm.chroma.model"),
    "chroma_radiance": Family(
        "Chroma Radiance, in pixels",
        "ChromaRadiance",
        RADIANCE,
        pooled=32,
        ratio=1,
        module="comfy.ldm.chroma_radiance.model",
    ),
    "qwen_image": Family("Qwen-Image", "QwenImage", QWEN, frames=1),
    "qwen_image_edit": Family(
        "Qwen-Image-Edit", "QwenImage", QWEN, frames=1, more={"reference_latents": (1, 16, 1, 8, 8)}
    ),
    "krea2": Family("Krea 2", "Krea2", KREA, context=80, frames=1),
    "anima": Family("Anima", "Anima", COSMOS | {"crossattn_emb_channels": 1024}, context=1024, frames=1),
    "cosmos_predict2": Family("Cosmos-Predict2, text to image", "CosmosT2IPredict2", COSMOS, frames=1),
    "hunyuan_image": Family(
        "HunyuanImage 2.1", "HunyuanImage21", HUNYUAN, ratio=32, module="comfy.ldm.hunyuan_video.model"
    ),
    "wan21": Family("Wan 2.1, as an image model", "WAN21_T2V", WAN, frames=1),
    "wan21_video": Family("Wan 2.1, video", "WAN21_T2V", WAN, frames=3),
    "wan22": Family("Wan 2.2, as an image model", "WAN22_T2V", WAN22, frames=1, ratio=16),
    "wan22_video": Family("Wan 2.2, video", "WAN22_T2V", WAN22, frames=3, ratio=16),
}
#: By this the host takes a UNet of Stable Diffusion 2 for one that predicts v.
V_PREDICTION = {"output_blocks.11.1.transformer_blocks.0.norm1.bias": torch.tensor([-1.0, 1.0])}
#: Below this noise level a corner shows what it is going to be.
SEEN = 0.5


def model(family):
    """A family's MODEL, a corner of whose pictures follows the words; None where the host does not know the family.

    There a prediction is what the prompt's last token says, 1 or -1; where that says 0, it is what the picture shows,
    and -1 while there is nothing to see.
    """
    import comfy.model_management as management
    import comfy.model_patcher
    import comfy.ops
    import comfy.supported_models as supported

    kind = getattr(supported, family.model, None)
    if kind is None:
        return None
    config = kind(known(family.module, family.config) if family.module else dict(family.config))
    config.set_inference_dtype(torch.float32, None)
    config.custom_operations = comfy.ops.disable_weight_init
    built = config.get_model(V_PREDICTION, "", device=torch.device("cpu"))
    network = built.diffusion_model
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict({name: value.float() for name, value in weights(shapes).items()})
    patcher = comfy.model_patcher.ModelPatcher(built, management.get_torch_device(), management.unet_offload_device())
    patcher.set_model_unet_function_wrapper(_heed)
    return patcher


def predicts(model):
    """The host's name of what a MODEL predicts: EPS, CONST for flow matching, ..."""
    kinds = [kind.__name__ for kind in type(model.get_model_object("model_sampling")).__mro__[1:]]
    return next(name for name in kinds if not name.startswith(("ModelSampling", "Module")))


def corner(latents):
    """The part of latents (..., H, W) that follows the words."""
    high, wide = latents.shape[-2:]
    return latents[..., : high // 2, : wide // 2]


def conditioning(family, says=0):
    """CONDITIONING in the shape of a family's prompts; it differs in what its last token says alone."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(1, 16, family.context, generator=generator)
    words[:, -1] = says
    more = {name: torch.rand(shape, generator=generator) for name, shape in family.more.items()}
    more |= {name: [value] for name, value in more.items() if name == "reference_latents"}
    more |= {name: torch.ones_like(value).long() for name, value in more.items() if name == "attention_mask"}
    if family.pooled:
        more["pooled_output"] = torch.randn(1, family.pooled, generator=generator)
    return [[words, more]]


def _heed(predict, asked):
    x, sigma, prompt = asked["input"], asked["timestep"], asked["c"]
    denoised = predict(x, sigma, **prompt).clamp(-2, 2)
    said = prompt["c_crossattn"][:, -1].mean(-1).round()
    shown = torch.where(sigma < SEEN, corner(x).flatten(1).mean(1).sign(), -1.0)
    corner(denoised).copy_(torch.where(said == 0, shown, said).view(-1, *[1] * (x.ndim - 1)))
    return denoised
