"""The real ComfyUI, in this process and as a server; no mock of it anywhere."""

from types import SimpleNamespace

import pytest
import torch
from inprocess import Host

from rs_corrector import comfyui


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    """ComfyUI's own nodes and this pack's, loaded as ComfyUI loads them."""
    return Host(tmp_path_factory.mktemp("comfyui"))


@pytest.fixture(autouse=True)
def inference_mode():
    """ComfyUI runs whole prompts in inference mode."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def bed(host):
    """The testbed's native classes."""
    return SimpleNamespace(model=host.model, clip=host.clip, vae=host.vae)


@pytest.fixture(scope="session")
def corrector(host):
    return host.run("RSCorrectorLoader", corrector_name="testbed.safetensors")[0]


@pytest.fixture(scope="session")
def apply(host, bed, corrector):
    """Apply RS Corrector with defaults, each of them replaceable."""

    def apply(model=None, group="green", strength=1.0, start_percent=0.0, end_percent=1.0, **more):
        node = host.nodes["RSCorrectorApply"]
        return node.execute(model or bed.model, corrector, group, strength, start_percent, end_percent, **more).args[0]

    return apply


@pytest.fixture(scope="session")
def sample(host):
    """The native KSamplerAdvanced on a caption that names a group, and more: latents (N, 4, 8, 8)."""

    def sample(
        model, group="green", batch=1, seed=3, steps=4, sampler="euler", scheduler="normal", until=10000, more=""
    ):
        positive = host.encode(f"a portrait of a person in a {group} shirt{more}")
        latent = {"samples": torch.zeros(batch, 4, 8, 8)}
        run = host.nodes["KSamplerAdvanced"]().sample
        common = (model, "enable", seed, steps, 3.0, sampler, scheduler, positive, host.encode(""), latent)
        return run(*common, 0, until, "disable" if until >= steps else "enable")[0]["samples"]

    return sample


@pytest.fixture(scope="session")
def server():
    with comfyui.Server(comfyui.find()) as server:
        yield server
