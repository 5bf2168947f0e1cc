"""What a plan states arrives in a workflow of any make, or the audit refuses before the first picture."""

import copy
import json

import checkpoints
import pytest
from plans import TESTBED

from rs_corrector import comfyui, demo
from rs_corrector.audit import run
from rs_corrector.audit.graph import is_link
from rs_corrector.audit.plan import parse
from rs_corrector.audit.run import AuditError
from rs_corrector.audit.workflow import Workflow
from rs_corrector.cli import main

TEXT = TESTBED + "steps = 7\nsampler = dpmpp_2m\nscheduler = karras\nseed = 42\n"
PLAIN = json.loads(demo.WORKFLOW.read_text())
SCHEDULER = {"scheduler": "normal", "steps": 20, "denoise": 1, "model": ["1", 0]}
CUSTOM = {
    "20": {"class_type": "RandomNoise", "inputs": {"noise_seed": 1}},
    "21": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "22": {"class_type": "BasicScheduler", "inputs": SCHEDULER},
    "23": {"class_type": "SplitSigmas", "inputs": {"sigmas": ["22", 0], "step": 0}},
}


def workflow(*changes):
    """The example's, changed by functions that are given it."""
    made = copy.deepcopy(PLAIN)
    for change in changes:
        change(made)
    return made


def custom(nodes, guider="CFGGuider"):
    """Samplers that take noise, guider, sampler and sigmas from other nodes."""
    nodes |= copy.deepcopy(CUSTOM)
    for sampler, own, model in (("7", "24", "1"), ("8", "25", "3")):
        inputs = {"model": [model, 0], "positive": ["4", 0], "negative": ["5", 0], "cfg": 1.0}
        if guider == "BasicGuider":
            inputs = {"model": [model, 0], "conditioning": ["4", 0]}
        nodes[own] = {"class_type": guider, "inputs": inputs}
        links = {"noise": "20", "guider": own, "sampler": "21", "sigmas": "23", "latent_image": "6"}
        nodes[sampler] |= {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {name: [node, int(name == "sigmas")] for name, node in links.items()},
        }


def two_texts(nodes):
    """A text encoder that takes a prompt twice."""
    nodes["4"] |= {
        "class_type": "CLIPTextEncodeFlux",
        "inputs": {"clip": ["1", 1], "clip_l": "", "t5xxl": "", "guidance": 3.5},
    }


def primitives(nodes):
    """Texts, numbers and seeds that stand on primitives."""
    kinds = {"30": "PrimitiveString", "31": "PrimitiveInt", "32": "PrimitiveFloat", "33": "PrimitiveInt"}
    nodes |= {n: {"class_type": k, "inputs": {"value": "" if n == "30" else 1}} for n, k in kinds.items()}
    nodes["4"]["inputs"]["text"] = ["30", 0]
    for sampler in ("7", "8"):
        nodes[sampler]["inputs"] |= {"seed": ["31", 0], "cfg": ["32", 0], "steps": ["33", 0]}


class Caught:
    """A server that is asked what it has, and never draws."""

    def __init__(self, server):
        self.get, self.sent = server.get, []

    def run(self, nodes):
        self.sent.append(nodes)
        raise KeyboardInterrupt


def sent(server, nodes, text=TEXT):
    """What would be queued for every unit of a plan."""
    caught = Caught(server)
    draw = Workflow(caught, nodes, parse(text))
    for unit in draw.plan.units():
        with pytest.raises(KeyboardInterrupt):
            draw(unit)
    return draw.plan.units(), caught.sent


def reached(nodes, start):
    """All values that a node's result depends on."""
    values = []
    for name, value in nodes[start]["inputs"].items():
        values += reached(nodes, value[0]) if is_link(value) else [(name, value)]
    return values


@pytest.mark.parametrize(
    "changes", [(), (custom,), (two_texts,), (primitives,), (custom, two_texts)], ids=lambda c: str(len(c))
)
def test_all_that_a_plan_states_reaches_the_pictures(server, changes):
    units, queued = sent(server, workflow(*changes))
    assert len({json.dumps(nodes, sort_keys=True) for nodes in queued}) == len(units)
    for unit, nodes in zip(units, queued):
        seen = reached(nodes, "12" if unit.corrected else "11")
        values = [value for _, value in seen]
        for wanted in (unit.words, unit.seed, 7, "dpmpp_2m", "karras", 3.0, unit.size, 64):
            assert wanted in values, wanted
        texts = [value for name, value in seen if name in ("text", "clip_l", "t5xxl", "value") and value]
        assert {text for text in texts if isinstance(text, str)} == {unit.words}


def test_what_a_plan_does_not_state_stays_as_it_is_in_the_workflow(server):
    nodes = workflow()
    for sampler in ("7", "8"):
        nodes[sampler]["inputs"] |= {"cfg": 1.5, "steps": 9, "scheduler": "simple"}
    unstated = TESTBED.replace("cfg = 3", "")
    made = Workflow(server, nodes, parse(unstated))
    assert {name: made.plan.sampling[name] for name in ("cfg", "steps", "scheduler")} == {
        "cfg": 1.5, "steps": 9, "scheduler": "simple",
    }  # fmt: skip
    _, (first, *_) = sent(server, nodes, unstated)
    assert first["7"]["inputs"]["cfg"] == 1.5 and first["7"]["inputs"]["steps"] == 9


def unchanged(nodes):
    """The example's as it is."""


def computed(nodes):
    nodes["30"] = {"class_type": "StringConcatenate", "inputs": {"string_a": "a", "string_b": "b", "delimiter": " "}}
    nodes["4"]["inputs"]["text"] = ["30", 0]


def shared(nodes):
    nodes["30"] = {"class_type": "PrimitiveInt", "inputs": {"value": 1}}
    for sampler in ("7", "8"):
        nodes[sampler]["inputs"] |= {"steps": ["30", 0], "seed": ["30", 0]}


def absent(nodes):
    nodes["4"]["class_type"] = "NodeOfAnotherPack"


def without_cfg(nodes):
    custom(nodes, "BasicGuider")


@pytest.mark.parametrize(
    ("change", "text", "said"),
    [
        (unchanged, TEXT.replace("dpmpp_2m", "dpm++ 2m"), "as sampler of.*'Sample before'.*dpmpp_2m.*got 'dpm.. 2m'"),
        (unchanged, TEXT.replace("karras", "kerras"), "as scheduler of.*karras.*got 'kerras'"),
        (without_cfg, TEXT, "a place for cfg at.*'Sample before'.*SamplerCustomAdvanced.*cfg out of the plan"),
        (computed, TEXT, "expected a place for text at the node titled 'Prompt'.*CLIPTextEncode"),
        (shared, TEXT, "expected a place each for seed of .* and steps of"),
        (absent, TEXT, "expected nodes that this ComfyUI has, got 'NodeOfAnotherPack'"),
    ],
)
def test_what_cannot_be_set_is_refused_before_the_first_picture(server, change, text, said):
    caught = Caught(server)
    with pytest.raises(AuditError, match=said):
        Workflow(caught, workflow(change), parse(text))
    assert not caught.sent


def test_a_workflow_of_separate_nodes_is_drawn(server):
    draw = Workflow(
        server, workflow(custom), parse(TEXT.replace("batch = 16", "batch = 2").replace("images = 16", "images = 2"))
    )
    one, other = (draw(unit) for unit in draw.plan.units()[:2])
    assert one.shape == other.shape == (2, 3, 64, 64) and not one.equal(other)


def test_a_server_of_its_own_uses_the_models_of_a_folder(tmp_path):
    for kind, name in (("checkpoints", "mine.safetensors"), ("rs_correctors", "ours.safetensors")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / name).touch()
    with comfyui.Server(comfyui.find(), models=tmp_path) as server:
        for node, name in (("CheckpointLoaderSimple", "mine.safetensors"), ("RSCorrectorLoader", "ours.safetensors")):
            assert name in server.get(f"/object_info/{node}").decode()
    with pytest.raises(comfyui.HostError, match="expected a folder with folders of models.*got .*nowhere"):
        comfyui.Server(comfyui.find(), models=tmp_path / "nowhere")


@pytest.mark.full
def test_the_command_of_the_readme_runs_a_checkpoint_file(host, tmp_path):
    (tmp_path / "models" / "checkpoints").mkdir(parents=True)
    checkpoints.write("sd15", tmp_path / "models" / "checkpoints" / "mine.safetensors")
    nodes = workflow(
        lambda nodes: nodes["1"].update(class_type="CheckpointLoaderSimple", inputs={"ckpt_name": "mine.safetensors"})
    )
    (tmp_path / "my_workflow.json").write_text(json.dumps(nodes))
    few = "[sampling]\nimages = 2\nbatch = 2\nsteps = 2\nwidth = 64\nheight = 64\ncfg = 3\n"
    (tmp_path / "my_plan.txt").write_text(TESTBED.split("[sampling]")[0] + few)
    files = {"--workflow": "my_workflow.json", "--plan": "my_plan.txt", "--models": "models", "--out": "my_audit"}
    named = [part for option, file in files.items() for part in (option, str(tmp_path / file))]
    assert main(["audit", *named]) in (0, 1, 3)  # whatever pictures of random weights look like
    folder, plan = tmp_path / "my_audit", parse((tmp_path / "my_plan.txt").read_text())
    assert json.loads((folder / "audit.json").read_text())["setting"]["workflow"] == nodes
    drawn = run.Folder(folder, plan)
    pictures = [drawn.read(unit) for unit in plan.units() if not unit.corrected and unit.prompt == "plain"]
    assert len(pictures) == 3 and not pictures[0].equal(pictures[1]) and not pictures[1].equal(pictures[2])
