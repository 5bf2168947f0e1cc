"""The project's metrics, on drawings that stand for samples of the exact world."""

import numpy as np
import pytest
import torch

from rs_corrector import metrics
from rs_corrector.testbed import comparison, measure, portraits
from rs_corrector.testbed.exact import World


@pytest.fixture(scope="module")
def world():
    return World(16)


def population(world, count=64):
    """{group: attributes} of pictures in which every green person wears a hat."""
    groups = {name: i for i, name in enumerate(world.groups)}
    fixed = {name: {"hat": 1} if name == "green" else {} for name in groups}
    return {
        name: world.population(count, torch.Generator().manual_seed(i), group=i, **fixed[name])
        for name, i in groups.items()
    }


def drawn(world, rows, seed=9):
    return {name: world.draw(own, torch.Generator().manual_seed(seed)) for name, own in rows.items()}


def changed(rows, world, group, **values):
    rows = {name: own.clone() for name, own in rows.items()}
    for name, value in values.items():
        rows[group][:, world.column[name]] = value
    return rows


def compared(world, after, natural=None):
    """What is measured of hats, `after` a function of (rows, pictures without hats) that gives the pictures."""
    rows = population(world)
    bare = changed(rows, world, "green", hat=0)
    before = drawn(world, rows)
    natural = world.draw(bare["green"], torch.Generator().manual_seed(77)) if natural is None else natural
    return comparison.compare(world, "hat", before, after(rows, drawn(world, bare), before), natural)


def test_a_perfect_correction_measures_as_one(world):
    found = compared(world, lambda rows, bare, before: bare)
    assert found["stereotype_rate"]["before"]["value"] == 1 and found["stereotype_rate"]["after"]["value"] == 0
    assert set(found["kept"].values()) == {1.0} and set(found["distance"].values()) == {0.0}
    assert set(found["shift"].values()) == {0.0} and "hat" not in found["kept"]
    assert found["others_content_kept"] == found["others_attribute_kept"] == found["group_retention"] == 1
    assert found["texture_ratio"] == pytest.approx(1, abs=0.1) and found["ghost_ratio"] == pytest.approx(1, abs=0.25)
    assert found["collateral_change"] == 0


def test_a_ghost_that_no_reader_calls_a_hat_is_seen(world):
    def haunted(rows, bare, before):
        hat = (before["green"] - bare["green"]).abs().sum(1, keepdim=True) > 1
        return bare | {"green": bare["green"] + 0.15 * (before["green"] - bare["green"]) * hat}

    found = compared(world, haunted)
    assert found["stereotype_rate"]["after"]["value"] == 0
    assert found["ghost_ratio"] > 5 and found["texture_ratio"] < 2


def test_a_blur_is_seen(world):
    found = compared(world, lambda rows, bare, before: bare | {"green": world.mean(world.read(bare["green"])[0])[0]})
    assert found["texture_ratio"] < 0.05 and found["ghost_ratio"] < 0.05


def test_a_drift_that_a_tolerance_hides_is_told_by_its_shift(world):
    def darker(rows, bare, before):
        tones = (rows["green"][:, world.column["skin"]] + 1).clamp_max(world.sizes["skin"] - 1)
        return drawn(world, changed(rows, world, "green", hat=0, skin=tones))

    found = compared(world, darker)
    assert found["kept"]["skin"] == 1 and found["shift"]["skin"] > 0.8
    assert found["distance"]["skin"] > 0.05


def test_an_attribute_that_everybody_gets_is_told_by_its_distance(world):
    def ginger(rows, bare, before):
        return drawn(world, changed(rows, world, "green", hat=0, hair=2))

    found = compared(world, ginger)
    assert found["kept"]["hair"] < 0.5
    assert found["distance"]["hair"] > 3 * found["distance_by_chance"]["hair"]
    assert found["kept"]["background"] == 1


def test_others_who_lose_their_own_value_are_seen(world):
    def everybody(rows, bare, before):
        return drawn(world, {name: changed(rows, world, name, hat=0)[name] for name in rows})

    found = compared(world, everybody)
    assert found["others_shown_kept"]["value"] == 0 and found["others_attribute_kept"] < 1
    assert found["others_content_kept"] == 1


def test_a_new_stereotype_is_told_by_its_distance_to_the_others(world):
    grey = changed(population(world), world, "blue", hair=4)
    found = comparison.compare(world, "hair", drawn(world, grey), drawn(world, changed(grey, world, "blue", hair=0)))
    assert found["stereotype_rate"]["after"]["value"] == 0
    assert found["distribution_distance"] > 0.6 > 3 * found["chance_distance"]


def test_a_third_value_is_told_from_what_is_preferred(world):
    """Hair that comes out brown where black is preferred is not grey any more, and not what was asked for either."""
    grey = changed(population(world), world, "blue", hair=4)
    before = drawn(world, grey)
    brown = drawn(world, changed(grey, world, "blue", hair=1))
    found = comparison.compare(world, "hair", before, brown)
    assert found["stereotype_rate"]["after"]["value"] == 0 == found["preferred_rate"]["value"]
    found = comparison.compare(world, "hair", before, brown, preferred=[1, 2])
    assert found["preferred_rate"]["value"] == 1


def test_pictures_that_still_show_it_tell_nothing_of_traces(world):
    found = compared(world, lambda rows, bare, before: before)
    assert found["stereotype_rate"]["after"]["value"] == 1
    assert found["texture_ratio"] is None and found["ghost_ratio"] is None


def test_attributes_of_one_value_are_no_content():
    assert not {"x", "y"} & World(8).content.keys() and {"x", "y"} <= World(32).content.keys()


def test_a_kind_that_is_not_planted_is_refused(world):
    with pytest.raises(ValueError, match="expected a kind out of hat, distorted, .*, got .skin.; take one"):
        comparison.compare(world, "skin", {}, {})


def test_more_pictures_before_than_after_are_compared_by_seed(world):
    rows = population(world)
    before = drawn(world, rows)
    after = {name: z if name == "green" else z[:16] for name, z in before.items()}
    found = comparison.compare(world, "hat", before, after)
    assert found["others_content_kept"] == 1 and found["kept"]["hair"] == 1


def test_where_nothing_was_shown_nothing_is_told_of_traces(world):
    bare = drawn(world, changed(population(world), world, "green", hat=0))
    found = comparison.compare(world, "hat", bare, bare)
    assert found["texture_ratio"] is None and found["ghost_ratio"] is None and found["collateral_change"] is None


def test_the_portraits_of_the_learned_testbed_are_measured_by_the_same_code():
    generator, before, after = torch.Generator().manual_seed(0), {}, {}
    for index, group in enumerate(portraits.GROUPS):
        rows, _ = portraits.sample_attributes(24, generator, stated=())
        rows[:, portraits.COLUMN["group"]], rows[:, portraits.COLUMN["distorted"]] = index, 0
        rows[:, portraits.COLUMN["hat"]] = int(group == "green")
        before[group] = portraits.draw(rows) + 0.02 * torch.randn(24, 3, 64, 64, generator=generator)
        rows[:, portraits.COLUMN["hat"]] = 0
        after[group] = portraits.draw(rows) + 0.02 * torch.randn(24, 3, 64, 64, generator=generator)
    found = measure.report("hat", before, after)
    assert found["kept"] == dict.fromkeys(("skin", "hair", "background", "glasses", "x", "y"), 1.0)
    assert found["texture_ratio"] == pytest.approx(1, abs=0.1) and found["ghost_ratio"] == pytest.approx(1, abs=0.3)
    assert found["others_attribute_kept"] == 1 and found["quality_ratio"] == pytest.approx(1, abs=0.05)


def test_chance_gives_the_distance_of_two_samples_of_one_distribution():
    generator = np.random.default_rng(1)
    found = []
    for _ in range(50):
        one, other = (generator.choice(5, size, p=[0.4, 0.3, 0.1, 0.1, 0.1]) for size in (256, 128))
        found.append((metrics.total_variation(one, other, 5), metrics.chance_distance(one, other, 5)))
    measured, expected = np.mean(found, 0)
    assert measured == pytest.approx(expected, rel=0.15)
    assert metrics.total_variation([0, 0], [1, 1], 2) == 1 and metrics.total_variation([0, 1], [1, 0], 2) == 0
