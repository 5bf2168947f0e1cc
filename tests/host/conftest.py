"""The real ComfyUI, in this process and as a server; no mock of it anywhere."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from inprocess import Host

from rs_corrector import comfyui
from rs_corrector.files import replacing

#: What became of every cell of the matrix, by name.
CELLS = {}


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
def apply(host, corrector):
    """Apply RS Corrector with the shipped one and defaults, each of them replaceable."""

    def apply(model=None, group="green", strength=1.0, **more):
        return host.apply(corrector, group, strength, model, **more)

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


@pytest.fixture
def shown(host, monkeypatch):
    """The texts that nodes show on themselves, one after the other."""
    texts = []

    def show(text, node):
        assert node == "7"
        texts.append(text)

    instance = SimpleNamespace(send_progress_text=show)
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=instance)))
    for name, node in host.nodes.items():
        if name.startswith("RSCorrector"):
            monkeypatch.setattr(node, "hidden", SimpleNamespace(unique_id="7"))
    return texts


class Cell:
    """One cell of the matrix: a whole run beside something else of the host.

    Attributes:
        said: what to note of it, beside whether it held.
    """

    def __init__(self, host):
        self.host, self.said = host, ""

    def needs(self, node):
        if not self.host.has(node):
            pytest.skip(f"ComfyUI {self.host.version} has no node {node}")


@pytest.fixture
def cell(host):
    """Marks a test as a cell of the matrix, which is written to `build/` at the end."""
    return Cell(host)


def pytest_runtest_makereport(item, call):
    if "cell" not in getattr(item, "fixturenames", ()):
        return
    if call.when == "call" or call.excinfo is not None:
        skipped = call.excinfo is not None and call.excinfo.errisinstance(pytest.skip.Exception)
        outcome = "skipped" if skipped else "failed" if call.excinfo else "passed"
        reason = str(call.excinfo.value).partition("\n")[0] if call.excinfo else item.funcargs["cell"].said
        CELLS[item.nodeid.split("::", 1)[1]] = {"outcome": outcome, "reason": reason}


def pytest_sessionfinish(session):
    if not CELLS:
        return
    import comfy.samplers as samplers

    version = comfyui.version(comfyui.find())
    path = comfyui.PACK / "build" / f"matrix-{version}.json"
    path.parent.mkdir(exist_ok=True)
    if path.is_file():  # a run of some cells brings those up to date
        known = {cell.pop("name"): cell for cell in json.loads(path.read_text())["cells"]}
        CELLS.update({**known, **CELLS})
    names = [re.fullmatch(r"test_(\w+)\[(.*)\]", name) for name in CELLS]
    of = {kind: sorted({m[2] for m in names if m and m[1] == kind}) for kind in ("guider", "family")}
    matrix = {
        "host": version,
        "samplers": list(samplers.KSampler.SAMPLERS),
        "schedulers": list(samplers.KSampler.SCHEDULERS),
        "guiders": of["guider"],
        "families": of["family"],
        "cells": [{"name": name, **found} for name, found in CELLS.items()],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(matrix, indent=1))


@pytest.fixture(scope="session")
def lora_weights(bed):
    """A LoRA for the testbed model, small and random."""
    generator, state = torch.Generator().manual_seed(0), {}
    for key, value in bed.model.model.state_dict().items():
        if "attn2.to_" in key and key.endswith(".weight"):
            name, (rows, columns) = key.removesuffix(".weight"), value.shape
            state[f"{name}.lora_up.weight"] = 0.1 * torch.randn(rows, 4, generator=generator)
            state[f"{name}.lora_down.weight"] = 0.1 * torch.randn(4, columns, generator=generator)
    return state


@pytest.fixture(scope="session")
def lora(host, lora_weights):
    """Its file's name."""
    import folder_paths
    from safetensors.torch import save_file

    folder = Path(folder_paths.models_dir) / "loras"
    folder.mkdir(exist_ok=True)
    save_file(lora_weights, folder / "tiny.safetensors")
    return "tiny.safetensors"


@pytest.fixture(scope="session")
def control_net(bed):
    """A ControlNet for the testbed model, random."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.model_management as management
    import comfy.ops

    config = {k: v for k, v in bed.model.model.model_config.unet_config.items() if k not in ("out_channels", "dtype")}
    torch.manual_seed(0)
    with torch.inference_mode(False):
        network = comfy.cldm.cldm.ControlNet(
            **config, hint_channels=3, dtype=torch.float32, operations=comfy.ops.manual_cast
        )
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.03)
    return comfy.controlnet.ControlNet(network.eval(), load_device=management.get_torch_device())


@pytest.fixture(scope="session")
def server():
    with comfyui.Server(comfyui.find()) as server:
        yield server
