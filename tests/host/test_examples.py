"""The example workflows in API format, run by a real server; those for other checkpoints on the testbed model."""

import json
import shutil

import pytest
from PIL import Image
from safetensors.torch import save_file

from rs_corrector import weights
from rs_corrector.comfyui import PACK
from rs_corrector.testbed import portraits

FOLDER = PACK / "example_workflows" / "api"
#: Which outputs of the testbed's loader stand for those of other loaders.
LOADERS = {"CheckpointLoaderSimple": (0, 1, 2), "UNETLoader": (0,), "DualCLIPLoader": (1,), "VAELoader": (2,)}
SMALL = {"width": 64, "height": 64, "steps": 8, "count": 8, "batch_size": 4, "low_threshold": 0.1, "name": "made_here"}
#: What the testbed has words for, by the titles of the nodes that say it.
SAID = dict(zip(("Neutral", "Preferred", "Rejected"), portraits.wordings("hat")[1:]))
OTHERS = {
    "make_a_corrector": None,
    "sdxl": "my_sdxl_corrector.safetensors",
    "flux": "my_flux_corrector.safetensors",
    "controlnet_lora": "my_corrector.safetensors",
}


def on_the_testbed(workflow):
    """A workflow with the testbed model in the place of its loaders, small and quick."""
    loaders = {name: LOADERS[n["class_type"]] for name, n in workflow.items() if n["class_type"] in LOADERS}
    kept = {name: node for name, node in workflow.items() if name not in loaders}
    for node in kept.values():
        inputs = node["inputs"]
        inputs |= {key: value for key, value in SMALL.items() if key in inputs}
        for key, value in inputs.items():
            if isinstance(value, list) and value[0] in loaders:
                inputs[key] = ["testbed", loaders[value[0]][value[1]]]
        if node["_meta"]["title"] in SAID:
            inputs["text"] = SAID[node["_meta"]["title"]]
        if node["class_type"] == "RSCorrectorPairsFromWords":
            inputs |= {side.lower(): text for side, text in SAID.items()}
        if node["class_type"] == "EmptySD3LatentImage":
            node["class_type"] = "EmptyLatentImage"
    return kept | {"testbed": {"class_type": "RSCorrectorTestbed", "inputs": {}}}


@pytest.fixture(scope="module")
def equipped(server, lora_weights, control_net):
    """The server, with the files that the examples name."""
    models = server.base / "models"
    for folder in ("rs_correctors", "loras", "controlnet"):
        (models / folder).mkdir(exist_ok=True)
    for name in filter(None, OTHERS.values()):
        shutil.copy(weights.SHIPPED, models / "rs_correctors" / name)
    save_file(lora_weights, models / "loras" / "my_lora.safetensors")
    network = {f"control_model.{k}": v.contiguous() for k, v in control_net.control_model.state_dict().items()}
    save_file(network, models / "controlnet" / "control_v11p_sd15_canny_fp16.safetensors")
    Image.new("RGB", (64, 64), "grey").save(server.base / "input" / "example.png")
    return server


@pytest.mark.parametrize("name", OTHERS)
def test_an_example_for_other_checkpoints_runs_on_the_testbed(name, equipped):
    workflow = on_the_testbed(json.loads((FOLDER / f"{name}.json").read_text()))
    for node in workflow.values():
        if node["class_type"] == "RSCorrectorApply":
            node["inputs"]["group"] = "green" if OTHERS[name] else ""
    pictures = equipped.run(workflow)
    shown = {n for n, node in workflow.items() if node["class_type"] in ("SaveImage", "PreviewImage")}
    assert shown and all(pictures[n] for n in shown)


def test_every_example_has_its_twin_and_its_thumbnail():
    names = {path.stem for path in FOLDER.glob("*.json")}
    for kind in ("json", "jpg"):
        assert {path.stem for path in FOLDER.parent.glob(f"*.{kind}")} == names
