"""The pack in a real ComfyUI server, used over HTTP as a pipeline uses it."""

import copy
import hashlib
import json
from contextlib import ExitStack
from io import BytesIO

import pytest
import torch
from PIL import Image
from plans import TESTBED

from rs_corrector import comfyui, demo, weights
from rs_corrector.audit import run
from rs_corrector.cli import main
from rs_corrector.pictures import from_png
from rs_corrector.testbed import measure, readers

WORKFLOW = json.loads(demo.WORKFLOW.read_text())


def with_inputs(node, **inputs):
    workflow = copy.deepcopy(WORKFLOW)
    workflow[node]["inputs"] |= inputs
    return workflow


def test_the_server_lists_the_nodes_with_words_on_every_socket(server):
    listed = {k: v for k, v in json.loads(server.get("/object_info")).items() if k.startswith("RSCorrector")}
    assert {"RSCorrectorLoader", "RSCorrectorApply", "RSCorrectorTestbed"} <= listed.keys()
    for info in listed.values():
        assert info["category"].startswith("RS-Corrector") and info["description"]
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert all(options[1]["tooltip"] for options in inputs.values())
        assert len(info["output_tooltips"]) == len(info["output"]) and all(info["output_tooltips"])


def test_the_api_workflow_corrects_the_planted_stereotype(server):
    steps = []
    pictures = server.run(with_inputs("6", batch_size=32), progress=lambda *step: steps.append(step))
    assert {node for node, _, _ in steps} == {"7", "8"} and max(value for _, value, _ in steps) == 20
    before, after = (torch.stack([from_png(p) for p in pictures[node]]) for node in ("11", "12"))
    hats = [measure.column(readers.read(images)[0], "hat").float().mean() for images in (before, after)]
    assert hats[0] >= 0.9 and hats[1] <= 0.2


def test_the_example_workflow_is_listed_as_a_template(server):
    templates = json.loads(server.get("/workflow_templates"))
    assert "before_after" in templates["rs-corrector"]


def test_a_corrector_is_made_and_used_in_one_graph(server):
    workflow = json.loads((demo.WORKFLOW.parent / "make_a_corrector_testbed.json").read_text())
    number = {node["_meta"]["title"]: name for name, node in workflow.items()}
    workflow[number["1. Record"]]["inputs"] |= dict(count=8, batch_size=8, steps=8, name="for_the_server")
    workflow[number["2. Train"]]["inputs"] |= dict(steps=20, width=16)
    pictures = server.run(workflow)
    assert [len(pictures[number[title]]) for title in ("After", "Loss", "Sheet")] == [16, 1, 1]
    saved = server.base / "models" / "rs_correctors" / "my_testbed_corrector.safetensors"
    assert weights.read_header(saved).groups == ("green",) and saved.with_suffix(".md").is_file()


def test_an_audit_from_the_shell_draws_through_a_running_server(server, tmp_path, capsys):
    plan = tmp_path / "plan.txt"
    plan.write_text(TESTBED)
    command = ["audit", "--workflow", str(demo.WORKFLOW), "--plan", str(plan), "--server", server.url]
    code = main([*command, "--out", str(tmp_path / "audit")])
    said = json.loads(capsys.readouterr().out)
    result = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert said == {"verdict": result["verdict"], "exit": result["exit"]}
    assert code == result["exit"] == 0
    assert {(r["group"], r["attribute"]) for r in result["findings"] if r["flagged"]} == {("green", "hat")}
    assert "with the correction in 0%" in result["verdict"]
    assert (tmp_path / "audit" / "audit.html").is_file() and (tmp_path / "audit" / "audit.png").is_file()


def test_a_connection_that_closes_is_no_harm(server):
    pictures = server.run(with_inputs("7", seed=11))
    server.socket.close()
    assert server.run(with_inputs("7", seed=11)) == pictures
    closed = []

    def close_once(*step):
        if not closed:
            closed.append(server.socket.close())

    assert server.run(with_inputs("7", seed=12), close_once).keys() == pictures.keys() and closed
    assert server.run(with_inputs("7", seed=12)) != pictures
    server.socket.sock.shutdown(2)  # as the other side would
    assert server.run(with_inputs("7", seed=12)).keys() == pictures.keys()
    wrong = with_inputs("3", group="nobody")
    with pytest.raises(comfyui.HostError, match="RSCorrectorApply: "):
        server.run(wrong, close_once)


def test_a_server_that_is_gone_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(comfyui, "ATTEMPTS", (0, 0))
    with comfyui.Server(comfyui.find()) as server:
        with pytest.raises(comfyui.LostServer, match="expected ComfyUI to go on"):
            server.run(with_inputs("7", seed=1), lambda *step: server.process.kill())
        with pytest.raises(comfyui.LostServer):
            server.run(with_inputs("7", seed=2))


def test_three_servers_of_which_one_is_killed_draw_what_one_draws(server, tmp_path, monkeypatch):
    plan = tmp_path / "plan.txt"
    plan.write_text(TESTBED.replace("images = 16", "images = 2").replace("batch = 16", "batch = 1") + "steps = 4\n")
    command = ["audit", "--workflow", str(demo.WORKFLOW), "--plan", str(plan)]
    code = main([*command, "--server", server.url, "--out", str(tmp_path / "one")])
    with ExitStack() as stack:
        others = [stack.enter_context(comfyui.Server(comfyui.find())) for _ in range(2)]
        write, written = run.Folder.write, []

        def mortal(folder, unit, images):
            written.append(unit)
            if len(written) == 5:
                others[0].process.kill()
            write(folder, unit, images)

        monkeypatch.setattr(run.Folder, "write", mortal)
        named = [part for each in (server, *others) for part in ("--server", each.url)]
        assert main([*command, *named, "--out", str(tmp_path / "three")]) == code
    one, three = ({f.name: f.read_bytes() for f in (tmp_path / n / "pictures").iterdir()} for n in ("one", "three"))
    assert one == three
    reports = [json.loads((tmp_path / name / "audit.json").read_text()) for name in ("one", "three")]
    servers = [report["setting"].pop("servers") for report in reports]
    assert reports[0] == reports[1] and [len(each) for each in servers] == [1, 3]


def test_a_saved_picture_says_how_it_was_made_and_with_which_weights(server):
    small = with_inputs("6", batch_size=1)["6"]
    changes = ("8", dict(seed=1)), ("8", dict(seed=2)), ("12", dict(filename_prefix="other")), ("3", dict(strength=0))
    for node, inputs in changes:  # the second time only the samplers run, the third time only Save does
        picture = server.run(with_inputs(node, **inputs) | {"6": small})["12"][0]
        prompt = json.loads(Image.open(BytesIO(picture)).info["prompt"])
        assert inputs.items() <= prompt[node]["inputs"].items()
        assert prompt["2"]["_meta"]["sha256"] == hashlib.sha256(weights.SHIPPED.read_bytes()).hexdigest()[:16]


def test_correctors_of_one_name_in_two_folders_are_told_apart(server):
    folder, shipped = server.base / "models" / "rs_correctors", weights.load(weights.SHIPPED)
    workflow = with_inputs("6", batch_size=1)
    for loader, apply, name in (("2", "3", "a/x.safetensors"), ("20", "30", "b/x.safetensors")):
        weights.save(shipped, folder / name, torch.float16 if name[0] == "a" else torch.float32)
        workflow[loader] = {"class_type": "RSCorrectorLoader", "inputs": {"corrector_name": name}}
        model = {"corrector": [loader, 0], "model": ["1" if apply == "3" else "3", 0]}
        workflow[apply] = {"class_type": "RSCorrectorApply", "inputs": WORKFLOW["3"]["inputs"] | model}
    workflow["8"]["inputs"]["model"] = ["30", 0]
    prompt = json.loads(Image.open(BytesIO(server.run(workflow)["12"][0])).info["prompt"])
    for loader in ("2", "20"):
        content = (folder / prompt[loader]["inputs"]["corrector_name"]).read_bytes()
        assert prompt[loader]["_meta"]["sha256"] == hashlib.sha256(content).hexdigest()[:16]


@pytest.mark.parametrize(
    ("node", "inputs", "said"),
    [
        ("3", dict(group="mauve"), "expected one of the corrector's groups (green, gold, blue, crimson), got 'mauve'"),
        ("3", dict(start_percent=0.7, end_percent=0.2), "expected start_percent below end_percent"),
        ("2", dict(corrector_name="nowhere.safetensors"), "expected corrector weights named 'nowhere.safetensors'"),
        ("2", dict(corrector_name="nowhere.safetensors"), "make one with the template make_a_corrector"),
    ],
)
def test_bad_input_is_an_error_that_a_pipeline_can_read(server, node, inputs, said):
    with pytest.raises(comfyui.HostError) as error:
        server.run(with_inputs(node, **inputs))
    assert said in str(error.value)


def test_the_log_is_free_of_complaints_about_the_pack(server):
    complaints = (
        "Cannot import",
        "IMPORT FAILED",
        "Error while calling comfy_entrypoint",
        "clip missing",
        "unet missing",
    )
    for complaint in (*complaints, "Missing VAE keys", "unet unexpected"):
        assert complaint not in server.log()


def test_the_demo_runs_on_the_host(tmp_path):
    report = demo.run("comfyui", 16, tmp_path)
    assert report["host"].startswith("ComfyUI 0.")
    assert report["stereotype_rate"]["before"]["value"] > report["stereotype_rate"]["after"]["value"] + 0.5
