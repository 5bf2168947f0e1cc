"""The real ComfyUI, in this process and as a server; no mock of it anywhere."""

import asyncio
import sys
from types import SimpleNamespace

import pytest
import torch

from rs_corrector import comfyui


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    """ComfyUI's own modules and the registry with this pack's nodes, loaded as ComfyUI loads them."""
    base = tmp_path_factory.mktemp("comfyui")
    for folder in ("custom_nodes", "models", "input", "output", "temp", "user"):
        (base / folder).mkdir()
    sys.path.insert(0, str(comfyui.find()))
    from comfy.cli_args import args

    args.cpu = True
    args.base_directory = str(base)
    import comfy.samplers

    import nodes

    assert asyncio.run(nodes.load_custom_node(str(comfyui.PACK)))
    return SimpleNamespace(nodes=nodes.NODE_CLASS_MAPPINGS, samplers=comfy.samplers)


@pytest.fixture(autouse=True)
def inference_mode():
    """ComfyUI runs whole prompts in inference mode."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def bed(host):
    """The testbed as (model, clip, vae)."""
    with torch.inference_mode():
        model, clip, vae = host.nodes["RSCorrectorTestbed"].execute().args
    return SimpleNamespace(model=model, clip=clip, vae=vae)


@pytest.fixture(scope="session")
def corrector(host):
    with torch.inference_mode():
        return host.nodes["RSCorrectorLoader"].execute("testbed.safetensors").args[0]


@pytest.fixture(scope="session")
def apply(host, bed, corrector):
    """Apply RS Corrector with defaults, each of them replaceable."""

    def apply(model=None, group="green", strength=1.0, start_percent=0.0, end_percent=1.0):
        node = host.nodes["RSCorrectorApply"]
        return node.execute(model or bed.model, corrector, group, strength, start_percent, end_percent).args[0]

    return apply


@pytest.fixture(scope="session")
def sample(host, bed):
    """The native KSamplerAdvanced on a caption: returns latents (N, 4, 8, 8)."""
    cache = {}

    def encode(text):
        if text not in cache:
            cache[text] = host.nodes["CLIPTextEncode"]().encode(bed.clip, text)[0]
        return cache[text]

    def sample(model, group="green", batch=1, seed=3, steps=4, sampler="euler", scheduler="normal", until=10000):
        positive = encode(f"a portrait of a person in a {group} shirt")
        latent = {"samples": torch.zeros(batch, 4, 8, 8)}
        run = host.nodes["KSamplerAdvanced"]().sample
        common = (model, "enable", seed, steps, 3.0, sampler, scheduler, positive, encode(""), latent)
        return run(*common, 0, until, "disable" if until >= steps else "enable")[0]["samples"]

    return sample


@pytest.fixture(scope="session")
def server():
    with comfyui.Server(comfyui.find()) as server:
        yield server
