"""Checkpoints with random weights in the shapes that people use: `python benchmarks/checkpoints.py sd15 FILE`.

For timing, and for seeing that the host's own loading and sampling of every family take the correction. SD 1.5, SD 2
and SDXL have their full size; transformers have one block of each sort, for the host reads their depth off the file.
Names and shapes come from the host's own classes, built without memory.
"""

import argparse
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from safetensors.torch import save_file

from rs_corrector.files import replacing

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "legacy": False,
}
SD = UNET | {
    "num_res_blocks": [2] * 4,
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1] * 6 + [0] * 2,
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1] * 9 + [0] * 3,
}


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint.

    Attributes:
        network: the host's class, as module:name.
        config: its arguments.
        context: of the prompt's embeddings; pooled: of its pooled embedding, 0 for none.
        prediction: the host's name of what it predicts: EPS, V_PREDICTION, or CONST for flow matching.
        latent_format: the host's name of its latents.
        dimensions: of the latents, 2 for images, 3 for video, and for images with a time axis of one frame.
        whole: the file has a text encoder and an autoencoder too.
        counted: the network wants to know how many of a prompt's tokens are words.
    """

    network: str
    config: dict
    context: int
    pooled: int = 0
    prediction: str = "EPS"
    latent_format: str = "SD15"
    channels: int = 4
    dimensions: int = 2
    whole: bool = False
    counted: bool = False


_LDM = "comfy.ldm.modules.diffusionmodules"
FAMILIES = {
    "sd15": Family(f"{_LDM}.openaimodel:UNetModel", SD | {"context_dim": 768, "num_heads": 8}, 768, whole=True),
    "sd2_v": Family(
        f"{_LDM}.openaimodel:UNetModel",
        SD | {"context_dim": 1024, "num_head_channels": 64, "use_linear_in_transformer": True},
        1024,
        prediction="V_PREDICTION",
    ),
    "sdxl": Family(
        f"{_LDM}.openaimodel:UNetModel",
        UNET
        | {
            "num_res_blocks": [2] * 3,
            "channel_mult": [1, 2, 4],
            "transformer_depth": [0, 0, 2, 2, 10, 10],
            "transformer_depth_middle": 10,
            "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
            "context_dim": 2048,
            "num_head_channels": 64,
            "use_linear_in_transformer": True,
            "num_classes": "sequential",
            "adm_in_channels": 2816,
        },
        2048,
        pooled=1280,
        latent_format="SDXL",
    ),
    "sd3": Family(
        f"{_LDM}.mmdit:OpenAISignatureMMDITWrapper",
        {
            "input_size": None,
            "in_channels": 16,
            "depth": 2,
            "num_patches": 1024,
            "pos_embed_max_size": 32,
            "adm_in_channels": 2048,
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": 4096, "out_features": 128},
            },
        },
        4096,
        pooled=2048,
        prediction="CONST",
        latent_format="SD3",
        channels=16,
    ),
    "flux": Family(
        "comfy.ldm.flux.model:Flux",
        {
            "in_channels": 16,
            "out_channels": 16,
            "vec_in_dim": 768,
            "context_in_dim": 4096,
            "hidden_size": 3072,
            "mlp_ratio": 4.0,
            "num_heads": 24,
            "depth": 1,
            "depth_single_blocks": 1,
            "axes_dim": [16, 56, 56],
            "theta": 10000,
            "patch_size": 2,
            "qkv_bias": True,
            "guidance_embed": True,
            "txt_ids_dims": [],
        },
        4096,
        pooled=768,
        prediction="CONST",
        latent_format="Flux",
        channels=16,
    ),
    "lumina2": Family(
        "comfy.ldm.lumina.model:NextDiT",
        {
            "patch_size": 2,
            "in_channels": 16,
            "dim": 2304,
            "cap_feat_dim": 2304,
            "n_layers": 1,
            "qk_norm": True,
            "n_heads": 24,
            "n_kv_heads": 8,
            "axes_dims": [32, 32, 32],
            "axes_lens": [300, 512, 512],
        },
        2304,
        counted=True,
        prediction="CONST",
        latent_format="Flux",
        channels=16,
    ),
    "qwen_image": Family(
        "comfy.ldm.qwen_image.model:QwenImageTransformer2DModel",
        {"num_layers": 1},
        3584,
        prediction="CONST",
        latent_format="Wan21",
        channels=16,
        dimensions=3,
    ),
    "wan": Family(
        "comfy.ldm.wan.model:WanModel",
        {"dim": 256, "ffn_dim": 512, "num_heads": 2, "num_layers": 1},
        4096,
        prediction="CONST",
        latent_format="Wan21",
        channels=16,
        dimensions=3,
    ),
}


def build(family):
    """A family's diffusion network as the host's own class, without memory."""
    import comfy.ops

    module, name = family.network.split(":")
    with torch.device("meta"):
        return getattr(import_module(module), name)(
            **known(module, family.config),
            device="meta",
            dtype=torch.float16,
            operations=comfy.ops.disable_weight_init,
        )


@contextmanager
def on_meta():
    """While it lasts new tensors have no memory, and the host's attention does not ask how much of it is free."""
    from comfy import model_management

    free, model_management.get_free_memory = model_management.get_free_memory, lambda *_: (2**50, 2**50)
    try:
        with torch.device("meta"):
            yield
    finally:
        model_management.get_free_memory = free


def evaluation(family, size, rows=1):
    """A function that passes so many rows through a family's network once, without memory: to be counted.

    size: height and width of the latents.
    """
    network, half = build(family), {"device": "meta", "dtype": torch.float16}
    x, context = torch.zeros(rows, family.channels, size, size, **half), torch.zeros(rows, 77, family.context, **half)
    more = {"y": torch.zeros(rows, 2816, **half)} if family.latent_format == "SDXL" else {}
    level = torch.zeros(rows, device="meta")

    def call():
        with on_meta():
            return network(x, level, context=context, **more)

    return call


def known(module, config):
    """A network's configuration without what this host does not know yet."""
    kinds = [kind for name, kind in vars(import_module(module)).items() if name.endswith("Params")]
    names = {name for kind in kinds for name in kind.__dataclass_fields__}
    return {key: value for key, value in config.items() if not names or key in names}


def encoders():
    """{tensor name: shape} of SD 1.5's text encoder and autoencoder, as its checkpoints name them."""
    import comfy.sd1_clip
    from comfy.ldm.models.autoencoder import AutoencoderKL

    drawn = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
    drawn |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    with torch.device("meta"):
        text = comfy.sd1_clip.SD1ClipModel(device="meta", dtype=torch.float16).clip_l.transformer
        vae = AutoencoderKL(embed_dim=4, ddconfig=drawn)
    found = {f"cond_stage_model.transformer.{key}": tuple(value.shape) for key, value in text.state_dict().items()}
    return found | {f"first_stage_model.{key}": tuple(value.shape) for key, value in vae.state_dict().items()}


def weights(named_shapes, seed=0):
    """fp16 tensors that keep activations at their size: scales of norms near 1, matrices by fan-in, biases of 0.1."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for name, shape in named_shapes.items():
        spread, middle = 0.1, 0.0
        if len(shape) > 1:
            spread = torch.Size(shape[1:]).numel() ** -0.5
        elif name.endswith(("weight", "scale")):
            middle = 1.0
        state[name] = (middle + spread * torch.randn(shape, generator=generator)).half()
    return state


def write(name, path):
    """Write one family's checkpoint."""
    family = FAMILIES[name]
    prefix = "model.diffusion_model." if family.whole else ""
    named = {prefix + key: tuple(value.shape) for key, value in build(family).state_dict().items()}
    if family.whole:
        named |= encoders()
    with replacing(path) as temporary:
        save_file(weights(named), temporary)


def place(name):
    """Write one family's checkpoint where the host of this process looks for it; its path."""
    import folder_paths

    folder = Path(folder_paths.models_dir) / ("checkpoints" if FAMILIES[name].whole else "diffusion_models")
    folder.mkdir(exist_ok=True)
    write(name, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def load(host, name):
    """(MODEL, ...) of a checkpoint that `place` wrote, by the host's own loader."""
    if FAMILIES[name].whole:
        return host.call("CheckpointLoaderSimple", ckpt_name=f"{name}.safetensors")
    return host.call("UNETLoader", unet_name=f"{name}.safetensors", weight_dtype="default")


def conditioning(family, seed):
    """Random embeddings in the shape of a family's prompts, as CONDITIONING."""
    generator, more = torch.Generator().manual_seed(seed), {}
    if family.pooled:
        more["pooled_output"] = torch.randn(1, family.pooled, generator=generator)
    if family.counted:
        more["attention_mask"] = torch.ones(1, 77, dtype=torch.int64)
    return [[torch.randn(1, 77, family.context, generator=generator), more]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    from inprocess import Host

    Host()
    write(args.family, args.file)
    print(f"wrote {args.file} ({args.file.stat().st_size / 2**30:.2f} GiB)")


if __name__ == "__main__":
    main()
