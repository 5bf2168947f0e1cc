"""The exact world on the host: the same pictures as embedded, and every cell of a small ladder."""

import json

import ladder
import ladder_bench
import ladder_report
import pytest
import torch
from PIL import Image

from rs_corrector import counterparts
from rs_corrector.testbed import model, portraits
from rs_corrector.testbed.exact import PLANTED, World, captions, stretched


@pytest.fixture(scope="module")
def native(host):
    """`exact_host.load`, which needs the host to be there."""
    from exact_host import load

    return load


@pytest.fixture
def visit(host):
    """Takes another checkpoint for one test."""
    kept = host.model, host.clip, host.size
    yield host.use
    host.use(*kept)


@pytest.fixture(scope="module")
def world():
    return World(8)


@pytest.mark.parametrize("parameterisation", ["eps", "eps_wide", "v", "flow"])
def test_the_native_model_draws_what_the_embedded_world_draws(host, native, visit, world, parameterisation):
    visit(*native(host, world, parameterisation), 8)
    caption, flow = portraits.neutral("green"), parameterisation == "flow"
    sampling = host.model.get_model_object("model_sampling")
    drawn = host.sample(host.model, caption, 4, 5, scheduler="simple" if flow else "normal")
    drawn = host.model.get_model_object("latent_format").process_in(drawn)
    top = {"flow": 1.0, "eps_wide": 58.4}.get(parameterisation, 14.61)
    assert float(sampling.sigma_max) == pytest.approx(top, rel=1e-3)
    if flow:
        import comfy.samplers

        sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", 20)
    else:
        sigmas = model.schedule(stretched(model.sigmas(), float(sampling.sigma_max)), 20)
    embedded = world.sample([caption] * 4, 5, sigmas, flow=flow)
    assert (drawn - embedded).abs().max() < 2e-3


def test_every_phrase_is_understood_through_the_text_encoder(host, native, visit, world):
    loaded = native(host, world)
    visit(*loaded, 8)
    network = loaded[0].model.diffusion_model
    said = [f"{portraits.neutral('blue')}, {words}" for *_, words in captions.PHRASES]
    found = torch.cat([network.vocabulary.levels(host.encode(caption)[0][0]) for caption in said])
    assert torch.equal(found, captions.levels(said))
    half = (host.encode(said[6])[0][0] + host.encode(portraits.neutral("blue"))[0][0]) / 2
    stated = captions.levels(said[6:7]) - captions.levels([portraits.neutral("blue")])
    assert network.vocabulary.levels(half)[stated > 0].tolist() == [0.5]


@pytest.fixture(scope="module")
def quick(host, tmp_path_factory):
    """A small run of the whole ladder, whose numbers mean nothing; its training is cut off once."""
    path, kept = tmp_path_factory.mktemp("ladder") / "ladder.json", (host.model, host.clip, host.size)
    arguments = ladder.parse_args(["--json", str(path), "--quick"])
    with torch.inference_mode(False):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(host.nodes["RSCorrectorSave"], "execute", classmethod(cut_off))
            ladder.run(host, arguments)
        ladder.run(host, arguments)
    yield path, arguments
    host.use(*kept)


def cut_off(cls, **inputs):
    raise KeyboardInterrupt


def test_every_cell_of_a_ladder_is_whole(quick):
    result = json.loads(quick[0].read_text())
    count = 2 * 2 * len(ladder.METHODS) + 2  # several depictions are of hair alone, without rivals
    assert len(result["cells"]) == len({ladder.key(cell) for cell in result["cells"]}) == count
    asked = {"grid", "kind", "parameterisation", "texture", "rates", "scene", "keep", "method", "stereotype_rate"}
    asked |= {"stereotype_gap", "kept", "distance", "shift", "distribution_distance", "chance_distance"}
    asked |= {"texture_ratio", "ghost_ratio", "others_content_kept", "others_attribute_kept", "group_retention"}
    asked |= {"request_obeyed", "collateral_change", "make_evaluations"}
    for cell in result["cells"]:
        assert asked <= cell.keys()
        if cell["method"] == "none":
            assert cell["content_kept"] == cell["others_content_kept"] == 1 and cell["texture_ratio"] is None
        if cell["method"] in ("none", "rs_corrector"):
            assert cell["request_obeyed"]["value"] == 1, "however little was learnt, requests are told"
    assert {start["parameterisation"] for start in result["start"]} == {"eps", "eps_wide"}


def test_what_making_took_is_counted_at_the_model_and_survives_an_interruption(quick):
    reading = len(counterparts.READ_LEVELS) * counterparts.READ_DRAWS
    levels = counterparts.LEVELS * len(counterparts.WORDINGS) / 2  # at most
    runs, each_run = 3.5, 2 * 20  # neutral, led, everybody else's, half as many preferred; guided, of 20 steps
    surely = runs * each_run + counterparts.MASK_DRAWS + 2.5 * reading * len(counterparts.WORDINGS)
    redraw = 2 * counterparts.REDRAW_STEPS + counterparts.FEWEST_STEPS + reading  # in part, settled, read
    for cell in json.loads(quick[0].read_text())["cells"]:
        made = cell["make_evaluations"] / ladder.QUICK["learnt"]
        if cell["method"] in ladder_bench.LEARNT_FROM:
            mask, settled, good = 2 * counterparts.MASK_DRAWS, 20, 2 * reading
            assert surely < made < surely + levels + mask + counterparts.TRIES * redraw + settled + good
        else:
            assert made == 0


def test_cells_that_are_there_are_kept(host, quick):
    path, arguments = quick
    before = path.read_bytes()
    ladder.run(host, arguments)
    assert path.read_bytes() == before


def test_a_ladder_is_shown_in_pictures_and_tables(quick):
    path, result = quick[0], json.loads(quick[0].read_text())
    sheet = Image.open(path.with_suffix("") / "8-eps.png")
    assert sheet.size == (12 * 64, 2 * len(PLANTED) * 64)
    assert path.with_suffix(".png").is_file()
    assert len(list(ladder_report.lines(result))) == 1 + len(result["cells"])
    assert len(ladder_report.kinds(result)) == 2 + 2 * 2 + 1 and len(ladder_report.summary(result)) == 2 + 2 + 1
    assert Image.open(path.with_suffix("") / "8-eps-several.png").size == (12 * 64, 2 * 2 * 64)
    assert len(ladder_report.methods(result, (8,))) == 2 + len(ladder.METHODS)
    assert len(ladder_report.starts(result)) == 2 + 2


def test_what_the_node_refuses_is_said(host, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise ValueError("expected redraws that show the preferred depiction")

    monkeypatch.setattr(ladder_bench, "record", refuse)
    for name in ("model", "clip", "size", "_encoded"):  # come back afterwards
        monkeypatch.setattr(host, name, getattr(host, name))
    monkeypatch.setattr(host, "base", tmp_path)
    path = tmp_path / "ladder.json"
    with torch.inference_mode(False):
        ladder.climb(host, [ladder.Rung(8)], ["hat"], ["none", "rs_corrector"], 4, path)
    result = json.loads(path.read_text())
    assert [cell["method"] for cell in result["cells"]] == ["none"]
    (refused,) = result["refused"]
    assert (refused["kind"], refused["method"]) == ("hat", "rs_corrector")
    assert list(ladder_report.lines(result))[-1].endswith("refused: expected redraws that show the preferred depiction")
    assert not path.with_suffix("").exists(), "there is nothing to show"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--grids", "24"], "expected a grid out of 8, 16, 32, 64, got 24"),
        (["--grids", "8", "--rungs", "64-eps"], "expected --grids and --rungs that have a rung in common"),
        (["--kinds", "shoes"], "expected a kind out of hat, distorted, hair, background, glasses, got shoes"),
    ],
)
def test_what_the_ladder_cannot_draw_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        ladder.parse_args(["--json", "unused.json", *arguments])
    assert message in capsys.readouterr().err


def test_a_file_of_another_size_is_not_mixed_with(host, tmp_path):
    path = tmp_path / "ladder.json"
    path.write_text(json.dumps({"host": host.version, "images": 256, "cells": [], "start": []}))
    with pytest.raises(SystemExit, match="to be of ComfyUI .* and 8 pictures a rate"):
        ladder.update(path, host, 8)
