"""Every method of the quality benchmark runs on the real host, and the benchmark reads what it did."""

import depictions
import making
import pytest
import quality
import rivals
import torch
from ladder_bench import Rung
from rivals import CASES, METHODS, UNTUNED, method

from rs_corrector.testbed import portraits

CASE = CASES["hat"]
QUICK = {"gradient_noise_aware": {"steps": 30}, "gradient_clean": {"steps": 30}}
ADDED = {"sega": 2, "prompt_teacher": 2}


@pytest.fixture(scope="module")
def bench(host):
    return quality.Bench(host, CASE, 8, seed=5, sampling=quality.SAMPLING | {"steps": 8})


@pytest.fixture(scope="module", autouse=True)
def little_data():
    """Directions and heads from 64 images a side, vectors from 4, and a slider of a few updates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rivals, "LEARNT", 64)
        patch.setattr(method("equisteer"), "LEARNT", 4)
        patch.setattr(method("concept_sliders"), "UPDATES", 5)
        yield


@pytest.mark.parametrize("name", [*METHODS, *UNTUNED])
def test_a_method_draws_and_is_measured(name, host, bench, monkeypatch):
    monkeypatch.setattr(quality, "CHUNK", 8)  # what it costs is counted by the picture
    setting = quality.rest(method(name).GRID[0] | QUICK.get(name, {}))
    weights = {k: v.clone() for k, v in host.model.model.state_dict().items()}
    at = method(name).prepare(host, CASE, **setting)
    draw = at(method(name).STRENGTHS[-1])
    found = bench.measure(draw)
    assert set(quality.COLUMNS) - found.keys() == {"added_cost"}
    again = method(name).prepare(host, CASE, **setting)(method(name).STRENGTHS[-1])
    pictures = [bench.images(each, CASE.neutral, 8) for each in (draw, again)]
    assert torch.equal(*pictures), "made twice, a method is the same"
    assert torch.equal(pictures[0], bench.before[CASE.group]) == (name == "none")
    assert bench.added_cost(draw, repeats=1)["evaluations"] == ADDED.get(name, 0)
    for key, value in host.model.model.state_dict().items():
        assert torch.equal(value, weights[key]), key


def test_the_rivals_learn_from_what_the_words_draw(host):
    preferred, rejected = rivals.sides(host, CASE)
    assert preferred.shape == rejected.shape == (64, 4, 8, 8) and not torch.equal(preferred, rejected)


def test_depictions_are_measured_in_captions_that_were_not_recorded(host, tmp_path, monkeypatch):
    monkeypatch.setattr(depictions, "SAMPLING", quality.SAMPLING | {"steps": 8})
    found = depictions.run(host, 4, tmp_path / "found.json")
    assert found["hat"].keys() == found["distorted"].keys() == {"cfg 7", "held out"}
    for name in ("hair", "background"):
        assert 0 <= found[name]["as others"]["keep"] <= 1
        assert "preferred_rate" in found[name]["held out"]


def test_every_effort_is_measured_with_what_it_takes(host, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "IMAGES", {"quick": making.IMAGES["quick"]})
    monkeypatch.setattr(making, "RUNG", Rung(8, several=True))
    two = {kind: portraits.STEREOTYPES[kind] for kind in ("hat", "hair")}
    monkeypatch.setattr(portraits, "STEREOTYPES", two)
    kept = host.model, host.clip, host.size
    with torch.inference_mode(False):
        found = making.run(host, 4, 5, tmp_path / "found.json")["quick"]
    host.use(*kept)
    assert found["testbed"].keys() == two.keys() and "ghost_ratio" in found["testbed"]["hat"]
    evaluations = found["make_evaluations"]["hat"]
    assert 0 < evaluations <= 5000 and found["ladder32"]["hair"]["make_evaluations"] <= 5000
    assert all(seconds > 0 for seconds in (*found["record_s"].values(), found["train_s"]))


@pytest.mark.parametrize("name", ["none", "equisteer", "rs_corrector"])
def test_what_a_method_takes_to_make_is_counted_from_nothing(name, host):
    setting = quality.rest(method(name).GRID[0])
    took = [quality.making(host, name, CASE, setting)[1]["make_evaluations"] for _ in range(2)]
    assert took[0] == took[1] and (took[0] > 0) == (name != "none")
