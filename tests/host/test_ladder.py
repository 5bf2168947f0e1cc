"""The exact world on the host: the same pictures as embedded, and every cell of a small ladder."""

import json
import sys

import ladder
import ladder_report
import pytest
import torch

from rs_corrector.testbed import model, portraits
from rs_corrector.testbed.exact import World, captions, stretched


@pytest.fixture(scope="module")
def exact(host):
    """The benchmark's module, which needs the host to be there."""
    import exact

    return exact


@pytest.fixture
def visit(host):
    """Takes another checkpoint for one test."""
    kept = host.model, host.clip, host.size
    yield host.use
    host.use(*kept)


@pytest.fixture(scope="module")
def world():
    with torch.inference_mode(False):
        return World(8)


@pytest.mark.parametrize("parameterisation", ["eps", "eps_wide", "v", "flow"])
def test_the_native_model_draws_what_the_embedded_world_draws(host, exact, visit, world, parameterisation):
    visit(*exact.load(host, world, parameterisation), 8)
    caption, flow = portraits.neutral("green"), parameterisation == "flow"
    sampling = host.model.get_model_object("model_sampling")
    top = float(sampling.sigma_max)
    drawn = host.sample(host.model, caption, 4, 5, scheduler="simple" if flow else "normal")
    drawn = host.model.get_model_object("latent_format").process_in(drawn)
    if flow:
        import comfy.samplers

        sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", 20)
    else:
        sigmas = model.schedule(stretched(model.sigmas(), top), 20)
    embedded = world.sample([caption] * 4, 5, sigmas, flow=flow)
    assert (drawn - embedded).abs().max() < 2e-3
    assert top == pytest.approx(1.0 if flow else 14.6, abs=0.1)


def test_every_phrase_is_understood_through_the_text_encoder(host, exact, visit, world):
    loaded = exact.load(host, world)
    visit(*loaded, 8)
    network = loaded[0].model.diffusion_model
    said = [f"{portraits.neutral('blue')}, {words}" for *_, words in captions.PHRASES]
    found = torch.cat([network.vocabulary.levels(host.encode(caption)[0][0]) for caption in said])
    assert torch.equal(found, captions.levels(said))
    half = (host.encode(said[6])[0][0] + host.encode(portraits.neutral("blue"))[0][0]) / 2
    stated = captions.levels(said[6:7]) - captions.levels([portraits.neutral("blue")])
    assert network.vocabulary.levels(half)[stated > 0].tolist() == [0.5]


def test_the_nodes_correct_it(host, visit, tmp_path):
    """A small run of the whole ladder; its numbers mean nothing, its cells are whole."""
    visit(host.model, host.clip, host.size)
    path = tmp_path / "ladder.json"
    with torch.inference_mode(False):
        ladder.climb(host, methods=ladder.METHODS, base=tmp_path, path=path, **ladder.QUICK)
    result = json.loads(path.read_text())
    assert len(result["cells"]) == len({ladder.key(cell) for cell in result["cells"]}) == 2 * 2 * len(ladder.METHODS)
    asked = {"grid", "kind", "parameterisation", "texture", "rates", "scene", "keep", "method", "stereotype_rate"}
    asked |= {"stereotype_gap", "kept", "distance", "shift", "distribution_distance", "chance_distance"}
    asked |= {"texture_ratio", "ghost_ratio", "others_content_kept", "others_attribute_kept", "group_retention"}
    asked |= {"request_obeyed", "collateral_change", "make_evaluations"}
    for cell in result["cells"]:
        assert asked <= cell.keys()
        made = cell["make_evaluations"]
        assert (made > 0) == (cell["method"] == "rs_corrector")
        if made:  # every guided step counts two: neutral, redraws and settling, mask, led and spared runs
            assert made % ladder.QUICK["learnt"] == 0 and 300 <= made / ladder.QUICK["learnt"] <= 400
    assert {start["parameterisation"] for start in result["start"]} == {"eps", "eps_wide"}
    assert (tmp_path / "ladder" / "8-eps.png").is_file()
    before = path.read_bytes()
    with torch.inference_mode(False):  # what is there is kept
        ladder.climb(host, methods=ladder.METHODS, base=tmp_path, path=path, **ladder.QUICK)
    assert path.read_bytes() == before
    ladder_report.plot(result, tmp_path / "ladder.png")
    assert len(list(ladder_report.lines(result))) == 1 + len(result["cells"])
    assert len(ladder_report.kinds(result)) == 2 + 2 * 2 and len(ladder_report.summary(result)) == 2 + 2
    assert len(ladder_report.methods(result, (8,))) == 2 + len(ladder.METHODS)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--grids", "24"], "expected a grid out of 8, 16, 32, 64, got 24"),
        (["--kinds", "shoes"], "expected a kind out of hat, distorted, hair, background, glasses, got shoes"),
    ],
)
def test_what_the_ladder_cannot_draw_is_refused(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["ladder.py", "--json", str(tmp_path / "l.json"), *arguments])
    with pytest.raises(SystemExit):
        ladder.main()
    assert message in capsys.readouterr().err


def test_a_file_of_another_size_is_not_mixed_with(host, tmp_path):
    path = tmp_path / "ladder.json"
    path.write_text(json.dumps({"host": host.version, "images": 256, "cells": [], "start": []}))
    with pytest.raises(SystemExit, match="to be of ComfyUI .* and 8 pictures a rate"):
        ladder.update(path, host, 8)
