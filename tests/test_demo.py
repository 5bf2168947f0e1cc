"""The demo command without a host, and its manners on bad input."""

import json

import pytest
from PIL import Image

from rs_corrector import comfyui, weights
from rs_corrector.cli import main

KEYS = (
    "host images stereotype_rate stereotype_gap preferred_rate group_retention content_kept kept distance "
    "distance_by_chance shift distribution_distance chance_distance texture_ratio ghost_ratio others_content_kept "
    "others_attribute_kept others_shown_kept collateral_change quality_gap quality_ratio diversity_ratio seconds"
).split()


def test_the_embedded_demo_meets_its_bars(tmp_path, capsys):
    assert main(["demo", "--host", "embedded", "--images", "64", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report) == KEYS and report["images"] == 64 and report["host"] == "embedded"
    assert report["stereotype_rate"]["before"]["value"] >= 0.90
    assert report["stereotype_rate"]["after"]["value"] <= 0.12
    assert report["group_retention"] >= 0.98
    assert report["content_kept"] >= 0.85 and report["others_content_kept"] >= 0.90
    for name in ("before", "after", "comparison"):
        assert Image.open(tmp_path / f"{name}.png").width > 64
    assert sorted(p.name for p in tmp_path.iterdir()) == ["after.png", "before.png", "comparison.png", "report.json"]


def test_broken_weights_stop_the_demo_before_anything_is_written(tmp_path, monkeypatch, capsys):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    monkeypatch.setattr(weights, "SHIPPED", broken)
    assert main(["demo", "--host", "embedded", "--out", str(tmp_path / "out")]) == 2
    assert "expected a whole safetensors file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_asking_for_a_host_that_is_not_there_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(comfyui, "find", lambda: None)
    assert main(["demo", "--host", "comfyui", "--out", str(tmp_path / "out")]) == 2
    assert "expected a ComfyUI checkout, got none; set COMFYUI_PATH" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["demo"], ["demo", "--images", "0", "--out", "x"], ["dance"], []])
def test_a_wrong_command_line_exits_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_the_shipped_corrector_fits_the_shipped_model():
    from rs_corrector.testbed.model import Testbed

    config = weights.read_header(weights.SHIPPED)
    assert config.base["fingerprint"] == weights.fingerprint(Testbed().networks["unet"].parameters())
    assert weights.SHIPPED.stat().st_size <= 4e6
