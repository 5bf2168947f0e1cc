"""The audit in the graph: drawn by the host, judged by the testbed's readers and by the host's own CLIP."""

import json

import pytest
import torch
from configs import make_config
from llava import save
from PIL import Image, PngImagePlugin
from plans import TESTBED

from rs_corrector.cli import main
from rs_corrector.comfyui import find
from rs_corrector.corrector import Corrector
from rs_corrector.pictures import to_pixels
from rs_corrector.testbed import portraits


@pytest.fixture(scope="module")
def plan(host):
    return host.run("RSCorrectorAuditPlan", plan=TESTBED, checkpoints="model")[0]


@pytest.fixture(scope="module")
def drawn(host, bed, apply, plan):
    sources = dict(model=bed.model, corrected_model=apply(), clip=bed.clip, vae=bed.vae)
    return host.run("RSCorrectorAuditRun", plan=plan, name="testbed", checkpoint="model", **sources)[0]


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    """A CLIP_VISION of the host's own class, tiny and random."""
    from comfy.clip_vision import ClipVisionModel

    config = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, image_size=64)
    config |= dict(patch_size=16, projection_dim=128, num_channels=3, hidden_act="quick_gelu", layer_norm_eps=1e-5)
    file = tmp_path_factory.mktemp("vision") / "config.json"
    file.write_text(json.dumps(config | {"model_type": "clip_vision_model"}))
    with torch.inference_mode(False):
        model = ClipVisionModel(file)
        torch.manual_seed(0)
        for parameter in model.model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def test_an_audit_in_the_graph_finds_the_planted_stereotype(host, plan, drawn):
    judge = host.run("RSCorrectorJudgeTestbed", plan=plan)[0]
    picture, verdict = host.run("RSCorrectorAuditReport", audit=drawn, judge=judge)
    assert picture.ndim == 4 and picture.shape[-1] == 3
    result = json.loads((drawn.path / "audit.json").read_text())
    assert {(r["group"], r["attribute"]) for r in result["findings"] if r["flagged"]} == {("green", "hat")}
    assert result["verdict"] == verdict and result["exit"] == 0
    assert result["setting"]["comfyui"] == host.version
    obeyed = result["checkpoints"]["model"]["consistency"]["glasses"]
    assert all(sides[side]["value"] >= 0.9 for sides in obeyed.values() for side in ("before", "after"))
    assert {file.name for file in drawn.path.iterdir()} == {
        "plan.json",
        "pictures",
        *(f"audit.{e}" for e in ("json", "png", "html")),
    }


def test_a_second_run_draws_nothing_anew(host, bed, apply, plan, drawn, monkeypatch):
    import comfy.sample

    monkeypatch.setattr(comfy.sample, "sample", lambda *a, **k: pytest.fail("drawn again"))
    sources = dict(model=bed.model, corrected_model=apply(), clip=bed.clip, vae=bed.vae)
    host.run("RSCorrectorAuditRun", plan=plan, name="testbed", checkpoint="model", **sources)


def test_at_which_step_attributes_show_is_in_the_report(host, bed, apply, plan):
    """And steps that the node draws anew are those of the same pictures."""
    sources = dict(model=bed.model, corrected_model=apply(), clip=bed.clip, vae=bed.vae)
    short = host.run("RSCorrectorAuditPlan", plan=TESTBED.replace("images = 16", "images = 4"), checkpoints="model")[0]
    run = dict(plan=short, name="steps", checkpoint="model", **sources)
    folder = host.run("RSCorrectorAuditRun", emergence=True, **run)[0]
    unit = next(unit for unit in short.units() if unit.group == "green" and not unit.corrected)
    torch.testing.assert_close(folder.read(unit, short.sampling["steps"]), folder.read(unit), atol=0.1, rtol=0)
    judge = host.run("RSCorrectorJudgeTestbed", plan=short)[0]
    host.run("RSCorrectorAuditReport", audit=folder, judge=judge)
    found = json.loads((folder.path / "audit.json").read_text())["checkpoints"]["model"]["emergence"]
    hat = next(row for row in found if (row["group"], row["attribute"]) == ("green", "hat"))
    assert hat["before"]["count"] >= 3 and 1 <= hat["before"]["early"] <= hat["before"]["late"] <= 20
    assert hat["before"]["of"] == 20 and hat["after"]["count"] == 0 < hat["after"]["judged"]


def test_labelled_pictures_correct_the_rates_of_a_report(host, bed, plan, drawn):
    judge, said = host.run("RSCorrectorJudgeTestbed", plan=plan)[0], PngImagePlugin.PngInfo()
    said.add_text("prompt", "{}")
    generator = torch.Generator().manual_seed(0)
    rows, _ = portraits.sample_attributes(24, generator, stated=())
    for value, side in enumerate(("not shown", "shown")):
        place = host.base / "input" / "labelled" / "hat" / side
        place.mkdir(parents=True)
        rows[:, portraits.COLUMN["hat"]] = value
        for number, picture in enumerate(portraits.draw(rows)):
            Image.fromarray(to_pixels(picture)).save(place / f"{number}.png", pnginfo=said)
    host.run("RSCorrectorAuditReport", audit=drawn, judge=judge, labelled="labelled")
    result = json.loads((drawn.path / "audit.json").read_text())
    assert result["errors"]["hat"]["source"] == "48 labelled pictures"
    assert next(r for r in result["findings"] if r["attribute"] == "hat")["true"] is not None
    with pytest.raises(ValueError, match="expected a name for a place inside"):
        host.run("RSCorrectorAuditReport", audit=drawn, judge=judge, labelled="../elsewhere")


def test_a_model_that_is_asked_judges_in_the_graph(host, plan, drawn):
    folder = save(host.base / "models" / "rs_judges" / "asked", ["yes", "no", "hat?", "a"])
    (host.base / "models" / "rs_judges" / "no_model").mkdir()
    options = host.nodes["RSCorrectorJudgeQuestions"].GET_NODE_INFO_V1()["input"]["required"]["folder"][1]["options"]
    assert options == ["asked"]
    judge = host.run("RSCorrectorJudgeQuestions", plan=plan, folder="asked")[0]
    assert judge.name == f"answers by {folder.name}"
    first = host.run("RSCorrectorJudgeTestbed", plan=plan)[0]
    host.run("RSCorrectorAuditReport", audit=drawn, judge=first, second_judge=judge)
    result = json.loads((drawn.path / "audit.json").read_text())
    assert result["setting"]["judges"] == ["the testbed's readers", "answers by asked"]
    for name in ("no_model", "../rs_judges/asked"):
        with pytest.raises(FileNotFoundError, match="expected a judge's model named .* get it from whoever"):
            host.run("RSCorrectorJudgeQuestions", plan=plan, folder=name)


def test_zero_shot_clip_judges_and_disagreement_is_told(host, bed, plan, drawn, vision):
    first = host.run("RSCorrectorJudgeTestbed", plan=plan)[0]
    second = host.run("RSCorrectorJudgeCLIP", plan=plan, clip_vision=vision, clip=bed.clip)[0]
    host.run("RSCorrectorAuditReport", audit=drawn, judge=first, second_judge=second)
    result = json.loads((drawn.path / "audit.json").read_text())
    assert 0 < result["disagreement"]["zero-shot CLIP"]["green"]["hat"] <= 1
    assert sum(b["count"] for b in result["calibration"]["zero-shot CLIP"]["bins"]) == 3 * 2 * 16


def test_a_clip_of_transformers_judges_on_the_command_line(tmp_path, capsys):
    import transformers

    tokenizer = find() / "comfy" / "sd1_tokenizer"
    transformers.AutoTokenizer.from_pretrained(tokenizer).save_pretrained(tmp_path / "clip")
    small = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=small, vision_config=small | dict(image_size=32, patch_size=16), projection_dim=16
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path / "clip")
    size = dict(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.CLIPImageProcessor(**size).save_pretrained(tmp_path / "clip")
    (tmp_path / "plan.txt").write_text(TESTBED.replace("images = 16", "images = 2"))
    command = ["audit", "--testbed", "--plan", str(tmp_path / "plan.txt"), "--out", str(tmp_path / "out")]
    assert main([*command, "--judge", "readers", "--judge", "clip", str(tmp_path / "clip")]) == 0
    result = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert result["setting"]["judges"] == ["the testbed's readers", "zero-shot CLIP clip"]
    assert result["disagreement"]["zero-shot CLIP clip"]["green"]["group"] is not None


def test_two_judges_of_one_name_are_told_apart(host, bed, plan, drawn, vision):
    judges = [host.run("RSCorrectorJudgeCLIP", plan=plan, clip_vision=vision, clip=bed.clip)[0] for _ in range(2)]
    host.run("RSCorrectorAuditReport", audit=drawn, judge=judges[0], second_judge=judges[1])
    result = json.loads((drawn.path / "audit.json").read_text())
    assert result["setting"]["judges"] == ["zero-shot CLIP", "zero-shot CLIP (2)"]
    assert result["disagreement"]["zero-shot CLIP (2)"]["green"]["hat"] == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("cfg = 3", "cfg = 3\nsampler = dpm++ 2m", "expected as sampler one that.*dpmpp_2m.*got 'dpm"),
        ("cfg = 3", "cfg = 3\nscheduler = kerras", "expected as scheduler one that.*karras.*got 'kerras'"),
    ],
)
def test_names_that_the_host_would_silently_take_for_others_are_refused(host, bed, old, new, said):
    plan = host.run("RSCorrectorAuditPlan", plan=TESTBED.replace(old, new), checkpoints="model")[0]
    sources = dict(model=bed.model, corrected_model=bed.model, clip=bed.clip, vae=bed.vae)
    with pytest.raises(ValueError, match=said):
        host.run("RSCorrectorAuditRun", plan=plan, name="refused", checkpoint="model", **sources)


def test_an_aesthetic_head_adds_a_named_quality(host, plan, drawn, vision, tmp_path):
    from pathlib import Path

    import folder_paths
    from safetensors.torch import save_file

    folder = Path(folder_paths.models_dir) / "rs_judges"
    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    layers = {"layers.0": (16, 128), "layers.2": (1, 16)}
    state = {f"{name}.weight": torch.randn(shape, generator=generator) for name, shape in layers.items()}
    state |= {f"{name}.bias": torch.randn(shape[0], generator=generator) for name, shape in layers.items()}
    save_file(state, folder / "taste.safetensors")
    readers = host.run("RSCorrectorJudgeTestbed", plan=plan)[0]
    judge = host.run("RSCorrectorJudgeAesthetics", judge=readers, clip_vision=vision, head="taste.safetensors")[0]
    images = drawn.read(plan.units()[0])
    embeddings = torch.nn.functional.normalize(
        vision.encode_image(images.movedim(1, -1))["image_embeds"].float(), dim=1
    )
    hidden = embeddings @ state["layers.0.weight"].T + state["layers.0.bias"]
    expected = (hidden @ state["layers.2.weight"].T + state["layers.2.bias"])[:, 0]
    torch.testing.assert_close(torch.from_numpy(judge(images)["quality"]), expected, atol=1e-3, rtol=1e-3)
    assert "taste.safetensors" in judge.name
    host.run("RSCorrectorAuditReport", audit=drawn, judge=judge)
    quality = json.loads((drawn.path / "audit.json").read_text())["checkpoints"]["model"]["quality"]
    assert quality["green"]["after"]["count"] == 32


def test_a_pair_of_denoisers_adds_its_score_by_noise_level(host, bed, plan, drawn):
    from comfy.model_management import get_torch_device
    from comfy.model_patcher import ModelPatcher

    with torch.inference_mode(False):
        torch.manual_seed(0)
        pair = Corrector(make_config(kind="denoiser_pair", groups=("green",)))
        for parameter in pair.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    patcher = ModelPatcher(pair.eval(), get_torch_device(), torch.device("cpu"))
    readers = host.run("RSCorrectorJudgeTestbed", plan=plan)[0]
    sources = dict(model=bed.model, vae=bed.vae, corrector=patcher, group="")
    judge = host.run("RSCorrectorJudgeScore", judge=readers, **sources)[0]
    host.run("RSCorrectorAuditReport", audit=drawn, judge=judge)
    scores = json.loads((drawn.path / "audit.json").read_text())["checkpoints"]["model"]["scores"]
    assert len(scores["green"]["after"]) == 16


def test_a_checkpoint_that_the_plan_does_not_name_is_refused(host, bed, plan):
    sources = dict(model=bed.model, corrected_model=bed.model, clip=bed.clip, vae=bed.vae)
    with pytest.raises(ValueError, match="expected a checkpoint of the plan \\(model\\), got 'other'"):
        host.run("RSCorrectorAuditRun", plan=plan, name="other", checkpoint="other", **sources)
