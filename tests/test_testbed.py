"""The testbed keeps its promises: exact readers, planted stereotypes, resumable training."""

import json

import pytest
import torch
from safetensors.torch import load_file

from rs_corrector import weights
from rs_corrector.testbed import distil, measure, model, portraits, readers, train
from rs_corrector.testbed.model import Testbed


@pytest.fixture(scope="module")
def bed():
    return Testbed()


def population(count, seed, **fixed):
    attributes, _ = portraits.sample_attributes(count, torch.Generator().manual_seed(seed), stated=())
    for name, value in fixed.items():
        attributes[:, portraits.COLUMN[name]] = value
    return attributes


def agreement(a, b):
    return {
        name: (measure.column(a, name) == measure.column(b, name)).float().mean().item() for name in portraits.COLUMN
    }


def test_readers_are_exact_on_drawings():
    attributes = population(512, 1)
    read, residual = readers.read(portraits.draw(attributes))
    assert torch.equal(read, attributes) and residual.max() < 2e-3


def test_readers_are_exact_under_noise_and_report_it():
    attributes, noise = population(128, 2), 0.05
    images = portraits.draw(attributes)
    read, residual = readers.read(
        images + noise * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    )
    assert min(agreement(read, attributes).values()) >= 0.995
    assert residual.median() == pytest.approx(noise, rel=0.05)


def test_readers_read_reconstructions(bed):
    attributes = population(512, 3)
    read, _ = readers.read(bed.decode(bed.encode(portraits.draw(attributes))))
    for name, share in agreement(read, attributes).items():
        assert share >= 0.99, (name, share)


def test_readers_refuse_other_pictures():
    with pytest.raises(ValueError, match=r"expected images of shape \(N, 3, 64, 64\), got \(1, 3, 32, 32\)"):
        readers.read(torch.zeros(1, 3, 32, 32))


def test_the_population_carries_the_stereotypes_only_where_the_caption_is_silent():
    attributes, says = portraits.sample_attributes(20000, torch.Generator().manual_seed(4))
    for name, (group, _, rate, elsewhere) in portraits.STEREOTYPES.items():
        inside = measure.column(attributes, "group") == portraits.GROUPS.index(group)
        shown = measure.shown(name, attributes).float()
        assert shown[inside & ~says[name]].mean() == pytest.approx(rate, abs=0.02)
        assert shown[~inside & ~says[name]].mean() == pytest.approx(elsewhere, abs=0.02)
        assert shown[inside & says[name]].mean() == pytest.approx(1 / portraits.ATTRIBUTES[name], abs=0.03)


def test_masks_cover_every_pixel_once():
    torch.testing.assert_close(portraits.layout_masks().sum(1), torch.ones(len(portraits.layouts()), 64, 64))


def test_a_perfect_correction_measures_as_one():
    """Drawings stand for samples: the target loses its hats and nothing else, other groups stay as they are."""
    before, after = {}, {}
    for group in portraits.GROUPS:
        fixed = {"group": portraits.GROUPS.index(group), "distorted": 0}
        attributes = population(32, 4, hat=int(group == "green"), **fixed)
        before[group] = portraits.draw(attributes)
        attributes[:, portraits.COLUMN["hat"]] = 0
        after[group] = portraits.draw(attributes)
    found = measure.report("hat", before, after)
    assert found["stereotype_rate"]["before"]["value"] == 1 and found["stereotype_rate"]["after"]["value"] == 0
    assert found["stereotype_gap"] == {"before": 1, "after": 0}
    assert found["content_kept"] == found["others_content_kept"] == found["group_retention"] == 1
    assert found["collateral_change"] == 0
    assert found["diversity_ratio"] == pytest.approx(1, abs=0.1)


def test_an_undone_distortion_closes_the_gap_in_quality():
    before, after = {}, {}
    for group in portraits.GROUPS:
        fixed = {"group": portraits.GROUPS.index(group), "hat": 0}
        before[group], after[group] = (
            portraits.draw(population(32, 5, distorted=distorted, **fixed)) for distorted in (int(group == "gold"), 0)
        )
    gap = measure.report("distorted", before, after)["quality_gap"]
    assert gap["before"] > 0.05 and abs(gap["after"]) < 1e-3


def test_a_request_counts_as_obeyed_where_the_picture_shows_it():
    pictures = portraits.draw(torch.cat([population(6, 6, hat=1), population(2, 6, hat=0)]))
    assert measure.obeyed("hat", pictures)["value"] == 0.75


def test_content_kept_forgives_one_skin_tone_but_no_hair_colour():
    before = population(4, 5)
    after = before.clone()
    after[0, portraits.COLUMN["skin"]] = (before[0, portraits.COLUMN["skin"]] + 1).clamp(max=9)
    after[1, portraits.COLUMN["hair"]] = (before[1, portraits.COLUMN["hair"]] + 1) % len(portraits.HAIR)
    after[2, portraits.COLUMN["hat"]] = 1 - before[2, portraits.COLUMN["hat"]]
    kept = measure.content_kept(before, after)
    assert kept[0] == kept[2] == kept[3] == 1 and kept[1] == pytest.approx(5 / 6)


@pytest.mark.parametrize("group", portraits.GROUPS)
def test_the_model_shows_the_planted_stereotypes(bed, group):
    images = bed.decode(bed.sample([f"a portrait of a person in a {group} shirt"] * 64, seed=31))
    read, _ = readers.read(images)
    assert (measure.column(read, "group") == portraits.GROUPS.index(group)).float().mean() >= 0.95
    for name, planted in portraits.STEREOTYPES.items():
        rate = measure.shown(name, read).float().mean()
        strong = planted.rate >= 0.9
        assert rate >= (0.85 if strong else 0.45) if group == planted.group else rate <= (0.15 if strong else 0.35)


def test_the_script_that_makes_the_shipped_corrector_runs(tmp_path):
    out = tmp_path / "c.safetensors"
    small = ["--images", "8", "--batch", "8", "--steps", "4", "--width", "16", "--measured", "8"]
    distil.main([*small, "--pairs", str(tmp_path / "pairs"), "--out", str(out)])
    config = weights.read_header(out)
    assert config.groups == ("green", "gold", "blue", "crimson") and config.metrics["images"] == 8
    assert "perceived groups: green" in out.with_suffix(".md").read_text()
    depictions = dict(zip(config.groups, map(len, config.choices)))
    assert depictions == {"green": 1, "gold": 1, "blue": 4, "crimson": 4}, "all other hair colours and backgrounds"


SMALL = "--vae-batch 2 --decoder-steps 2 --steps 4 --batch 4 --population 8 --precision fp32".split()


def test_training_resumes_where_it_stopped(tmp_path):
    for run, vae_steps in (("whole", ["4"]), ("resumed", ["4", "4"])):
        for attempt, steps in enumerate(vae_steps):
            work, out = tmp_path / run, tmp_path / f"{run}.safetensors"
            train.main([*SMALL, "--vae-steps", steps, "--work", str(work), "--out", str(out)])
            if run == "resumed" and attempt == 0:
                (work / "unet.safetensors").unlink()
                out.unlink()
    whole, resumed = (load_file(tmp_path / f"{run}.safetensors") for run in ("whole", "resumed"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_an_autoencoder_can_be_kept(tmp_path):
    kept = ["--autoencoder", str(model.CHECKPOINT), "--work", str(tmp_path), "--out", str(tmp_path / "new.safetensors")]
    train.main([*SMALL, *kept])
    (old, before), (new, after) = model.read_checkpoint(), model.read_checkpoint(tmp_path / "new.safetensors")
    assert all(torch.equal(new[key], value) for key, value in old.items() if key.startswith("vae."))
    assert after["steps"] == before["steps"] | {"unet": 4}


@pytest.mark.parametrize(
    "units, precision", [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": False}, "fp32"), ({}, "fp32")]
)
def test_training_is_as_precise_as_the_processor_is_fast_at(units, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert train.parse_args([]).precision == precision


def test_the_checkpoint_is_small_and_says_what_it_is():
    assert model.CHECKPOINT.stat().st_size <= 12e6
    _, header = model.read_checkpoint()
    assert header["format"] == model.FORMAT and header["stereotypes"].keys() == portraits.STEREOTYPES.keys()
    assert json.dumps(header)


def test_a_file_that_is_no_testbed_model_is_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match="expected the testbed model at"):
        model.read_checkpoint(tmp_path / "none.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="expected a file of format rs-corrector-testbed"):
        model.read_checkpoint(tmp_path / "other.safetensors")
