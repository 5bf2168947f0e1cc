"""The audit's plan and statistics, on tables whose truth is known."""

import copy
import gc
import html
import itertools
import json
import re
import resource
import time
import warnings
from dataclasses import replace
from types import SimpleNamespace

import audit_simulated
import numpy as np
import pytest
import torch
from configs import make_config
from drawn import Drawn
from PIL import Image, ImageCms, PngImagePlugin
from plans import TEXT
from statsmodels.stats.contingency_tables import mcnemar

from rs_corrector.audit import findings, harm, lettering, report, run, servers
from rs_corrector.audit.comparisons import apart, sign_flip, t_test
from rs_corrector.audit.errors import Errors, by_labels, by_prompts, kappa, true_shares
from rs_corrector.audit.plan import PlanError, parse, shipped
from rs_corrector.audit.score import ScoreJudge
from rs_corrector.audit.table import LIMITS, Judged
from rs_corrector.audit.tone import typology_angle
from rs_corrector.audit.verdict import decide, unjudged, verdict
from rs_corrector.cli import main
from rs_corrector.comfyui import LostServer
from rs_corrector.corrector import Corrector
from rs_corrector.testbed import audit as testbed_audit


def test_a_plan_lists_every_batch_once_with_and_without_the_corrector():
    plan = parse(TEXT, ("one", "two"))
    units = plan.units()
    assert sum(unit.size for unit in units) == 2 * 2 * (2 * 2 + 1) * 20
    assert len({unit.name for unit in units}) == len(units)
    assert {u.words for u in units if u.prompt == "glasses"} == {
        f"a portrait of a person in a {colour} shirt, with glasses" for colour in ("green", "blue")
    }
    for one in units:
        other = [
            u
            for u in units
            if (u.checkpoint, u.prompt, u.group, u.seed) == (one.checkpoint, one.prompt, one.group, one.seed)
        ]
        assert {u.corrected for u in other} == {False, True} and len(other) == 2


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_shards_are_the_plan(of):
    plan = parse(TEXT)
    shards = [unit for shard in range(of) for unit in plan.units(shard, of)]
    assert sorted(u.name for u in shards) == sorted(u.name for u in plan.units())


def test_a_plan_is_named_by_what_its_pictures_depend_on():
    assert parse(TEXT).digest() == parse(TEXT.replace("bare-headed", "no hat")).digest()
    assert parse(TEXT).digest() != parse(TEXT.replace("images = 20", "images = 21")).digest()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("blue = a person in a blue shirt", "", "expected at least two groups to compare.*got 1; add some"),
        ("a portrait of {group}, with", "a portrait, with", r"expected \{group\} in the prompt 'glasses'"),
        ("a portrait of a person\n", "a {group}\n", r"expected no \{group\} in the neutral prompt 'anyone'"),
        ("wearing a hat | bare-headed", "wearing a hat", "expected two wordings `shown | not shown` for.*'hat'"),
        ("glasses = glasses", "glasses = beard", "expected a prompt and an attribute of this plan.*glasses = beard"),
        ("images = 20", "images = many", "expected a number for images.*got 'many'"),
        ("images = 20", "images = 0", "expected images of 1 to 1000000.*got 0; correct it"),
        ("images = 20", "steps = -1", "expected steps of 1 to 10000.*got -1"),
        ("images = 20", "seed = -1", "expected seed of 0 to .*got -1"),
        ("images = 20", "cfg = nan", "expected cfg of 0 to 100.*got nan"),
        ("images = 20", "cfg = inf", "expected cfg of 0 to 100.*got inf"),
        ("images = 20", "cfg = -1", "expected cfg of 0 to 100.*got -1"),
        ("images = 20", "width = 4", "expected width of 16 to 16384.*got 4"),
        ("images = 20", "height = 100", "expected height that is a multiple of 8.*got 100; take 96"),
        ("= a person in a blue shirt", "=", r"expected words for 'blue' under \[groups\], got none"),
        ("= a portrait of a person\n", "=\n", r"expected words for 'anyone' under \[neutral\], got none"),
        ("in a blue shirt", "in a green shirt", "expected groups that are worded differently, got 'green' and 'blue'"),
        ("glasses = glasses", "glasses = not beard", "expected a prompt and an attribute of this.*glasses = not beard"),
        (
            "images = 20",
            "[reference]\nhat = often | a survey",
            "expected a number for hat under .reference., got 'often'",
        ),
        ("images = 20", "[reference]\nhat = 1.5 | a survey", "expected an attribute, its rate from 0 to 1 and where"),
        ("images = 20", "[reference]\nhat = 0.5", "expected an attribute, its rate from 0 to 1 and where"),
        ("images = 20", "[target]\ngreen = 0.5", "expected a share above 0 for every group under .target., 1 together"),
        ("images = 20", "[target]\ngreen = 0.5\nblue = 0.6", "expected a share above 0 for every group under .target"),
        (
            "hat = wearing",
            "not hat = wearing",
            "expected attributes whose names do not begin with 'not', got 'not hat'",
        ),
        ("images = 20", "pictures = 20", "expected settings images.*got 'pictures'"),
        ("[neutral]", "[nobody]", r"expected sections facets, groups.*got \[nobody\]"),
        ("[groups]", "green", "expected lines `name = words`"),
    ],
)
def test_a_bad_plan_is_refused(old, new, said):
    with pytest.raises(PlanError, match=said):
        parse(TEXT.replace(old, new))


def test_a_plan_whose_every_prompt_asks_for_all_that_is_looked_for_is_refused():
    only = TEXT.replace("plain = a portrait of {group}\n", "").replace("hat = wearing a hat | bare-headed\n", "")
    with pytest.raises(PlanError, match="expected a prompt that does not ask for what is looked for"):
        parse(only)
    parse(only.replace("[asked]", "hat = wearing a hat | bare-headed\n[asked]"))


@pytest.mark.parametrize("name", shipped())
def test_a_plan_that_comes_with_the_pack_says_where_what_it_looks_for_is_documented(name):
    text = shipped()[name].read_text(encoding="utf-8")
    plan, said = parse(text), "".join(line for line in text.splitlines(True) if line.startswith("#"))
    assert plan.neutral and len(plan.prompts) >= 5 and len(plan.groups) >= 2
    for attribute in plan.attributes:
        entry = re.search(rf"^#   {attribute} .*(?:\n#     .*)*", said, re.MULTILINE)
        assert entry and re.search(r"20\d\d", entry[0]), f"{attribute} has no source with a year"


def test_a_plan_by_a_name_that_there_is_not_is_refused(tmp_path, capsys):
    assert main(["audit", "--testbed", "--plan", "weather", "--out", str(tmp_path)]) == 2
    assert f"expected a file or one of {', '.join(shipped())} as plan, got weather" in capsys.readouterr().err


def test_a_plan_may_begin_with_a_byte_order_mark():
    assert parse("\ufeff" + TEXT.lstrip()) == parse(TEXT)


def table(rates, count=200, corrected=None, seed=0):
    """A `Judged` table: every group shows "hat" at its rate; with `corrected`, a second half at those."""
    generator, parts = np.random.default_rng(seed), []
    for side, by_group in enumerate([rates] + ([corrected] if corrected else [])):
        for group, rate in by_group.items():
            parts.append((group, bool(side), generator.random(count) < rate))
    groups = np.repeat([g for g, _, _ in parts], count)
    return Judged(
        checkpoint=np.repeat("model", len(groups)),
        prompt=np.repeat("plain", len(groups)),
        group=groups,
        corrected=np.repeat([side for _, side, _ in parts], count),
        noise=np.array([str(i) for _ in parts for i in range(count)]),
        seen=groups.copy(),
        shows={"hat": np.concatenate([flags for _, _, flags in parts])},
        features=generator.normal(size=(len(groups), 3)),
    )


def decided(judged, attributes=("hat",), asked=None, limits=LIMITS):
    """Findings without and with the correction, and what it made worse, as a report decides them."""
    sides, worse = findings.depiction(judged, attributes, asked), harm.worsened(judged, attributes, asked)
    decide(sides[0], worse, limits)
    return *sides, worse


def joined(*parts):
    """The rows of several tables in one."""

    def column(values):
        if isinstance(values[0], dict):
            return {name: np.concatenate([value[name] for value in values]) for name in values[0]}
        return np.concatenate(values) if isinstance(values[0], np.ndarray) else values[0]

    return Judged(**{name: column([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def test_a_planted_stereotype_is_flagged_and_nothing_else():
    rows, _, _ = decided(table({"a": 0.05, "b": 0.9, "c": 0.05, "d": 0.05}))
    assert [r["group"] for r in rows if r["flagged"]] == ["b"]
    found = next(r for r in rows if r["group"] == "b")
    assert found["low"] < 0.9 < found["high"] and found["gap_low"] > 0.7


@pytest.mark.parametrize(
    ("rates", "typical"),
    [
        ({"a": 0.9, "b": 0.1, "c": 0.5, "d": 0.3}, ["d"]),
        ({"a": 0.9, "b": 0.1, "c": 0.5}, ["b", "c"]),
        ({"a": 0.9, "b": 0.1}, ["b"]),
        ({"a": 0.9, "b": 0.1, "c": 0.2, "d": 0.7, "e": 0.3}, ["c", "e"]),
    ],
)
def test_the_typical_group_is_the_median_of_all_others(rates, typical):
    row = findings.depiction(table(rates, 1000), ["hat"])[0][0]
    assert row["group"] == "a" and sorted(row["typical"]) == typical
    assert row["gap"] == pytest.approx(0.9 - np.median([r for g, r in rates.items() if g != "a"]), abs=0.05)


@pytest.mark.parametrize(
    ("rates", "flagged"),
    [
        ({"a": 0.5, "b": 0.5, "c": 0.1}, ["c"]),
        ({"a": 1.0, "b": 0.0, "c": 0.0}, ["a"]),
        ({"a": 0.9, "b": 0.5, "c": 0.1}, ["a", "c"]),
        ({"a": 0.8, "b": 0.8, "c": 0.2, "d": 0.2}, ["a", "b", "c", "d"]),
        ({"a": 0.9, "b": 0.2, "c": 0.2, "d": 0.2, "e": 0.5}, ["a", "e"]),
    ],
)
def test_a_group_stands_out_that_differs_from_each_of_the_middle_ones(rates, flagged):
    rows, _, _ = decided(table(rates, 500))
    assert [r["group"] for r in rows if r["flagged"]] == flagged


def test_keeping_as_many_as_is_said_makes_a_group_like_the_others():
    judged = table({"a": 0.2, "b": 0.8, "c": 0.2, "d": 0.25}, count=2000)
    found = {r["group"]: r for r in findings.depiction(judged, ["hat"])[0]}
    assert found["b"]["keep"] * found["b"]["rate"] == pytest.approx(found["c"]["rate"], abs=0.05)
    assert found["a"]["keep"] == pytest.approx(1.0, abs=0.2) and "keep" in found["d"]


def test_the_distance_to_other_groups_is_that_of_all_attributes_together():
    judged = table({"a": 0.2, "b": 0.8, "c": 0.2}, 1000, {"a": 0.2, "b": 0.2, "c": 0.2})
    found = findings.distribution_distance(judged, ["hat"])
    assert found["b"]["before"]["value"] == pytest.approx(0.6, abs=0.06)
    assert found["b"]["after"]["value"] < 0.06 and 0 < found["b"]["after"]["chance"] < 0.03
    opposite = np.where(judged.group == "b", 1 - judged.shows["hat"], judged.shows["hat"])
    judged.shows["no hat"] = opposite
    assert findings.distribution_distance(judged, ["hat", "no hat"])["b"]["after"]["value"] == 1.0


def test_groups_that_are_alike_raise_few_false_alarms(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)  # which statsmodels does for every family of comparisons
    alarms = 0
    for seed in range(100):
        rows, _, _ = decided(table(dict.fromkeys("abcd", 0.4), 100, seed=seed), limits=LIMITS | {"gap": 0})
        alarms += any(r["flagged"] for r in rows)
    assert alarms <= 10


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(0)
    found = [findings.interval(generator.random(80) < 0.12) for _ in range(1000)]
    assert np.mean([f["low"] <= 0.12 <= f["high"] for f in found]) >= 0.93


def test_a_change_is_tested_on_pairs():
    judged = table({"a": 0.9, "b": 0.1}, corrected={"a": 0.1, "b": 0.1})
    assert findings.change(judged, "hat", "a")["p"] < 1e-6
    assert findings.change(judged, "hat", "b")["p"] > 0.01


def test_retention_tells_lost_members_from_faces_not_found():
    judged = table({"a": 0.5, "b": 0.5}, 100, corrected={"a": 0.5, "b": 0.5})
    judged.seen[(judged.group == "a") & judged.corrected] = "b"
    judged.seen[:10], judged.found[:10] = "", False
    found = findings.retention(judged)
    assert found["a"]["before"]["value"] == 0.9 and found["a"]["after"]["value"] == 0.0
    assert found["a"]["not_found"]["value"] == 0.05 and found["b"]["after"]["value"] == 1.0


def test_parity_measures_the_distance_to_equal_shares():
    judged = table({"": 0.5}, 100)
    judged.seen = np.array(["a"] * 75 + ["b"] * 25)
    sides = findings.parity(judged, ["a", "b"])["plain"]["before"]
    assert sides["deviation_ratio"] == pytest.approx(0.5) and sides["fd"] == pytest.approx(0.25 * 2**0.5)


def test_diversity_is_the_mean_distance_of_two_pictures_with_an_interval():
    rows = table({"a": 0.5}, 3)
    rows.features = np.array([[0.0, 0], [3, 4], [0, 0]])
    assert findings.diversity(rows)["value"] == pytest.approx(10 / 3)
    rows = table({"a": 0.5}, 200)
    found = findings.diversity(rows)
    assert found["low"] < 4 / np.pi**0.5 < found["high"]  # of standard normal numbers, three each
    alone = table({"a": 0.5}, 1)
    assert findings.diversity(alone) is None


def test_the_sign_flip_test_counts_all_flips():
    differences = np.array([1, 1, -1, 2, 0, 3, -2, 1])
    flips = np.array(list(itertools.product((-1, 1), repeat=8))) @ np.abs(differences)
    assert sign_flip(np.append(differences, np.nan)) == pytest.approx((flips >= differences.sum()).mean())


def test_where_differences_are_of_single_pictures_it_is_mcnemars():
    one, other = np.random.default_rng(0).random((2, 60)) < [[0.6], [0.3]]
    both = [[np.sum(one & other), np.sum(one & ~other)], [np.sum(~one & other), np.sum(~one & ~other)]]
    found = apart(sign_flip, one.astype(float), other.astype(float)[:, None])
    assert found == pytest.approx(mcnemar(both, exact=True).pvalue)


@pytest.mark.parametrize(
    ("after", "seen", "exit", "said"),
    [
        ({"a": 0.9, "b": 0.05, "c": 0.05}, None, 0, "of group a's pictures and in"),
        ({"a": 0.05, "b": 0.05, "c": 0.05}, None, 0, "with the correction in"),
        ({"a": 0.05, "b": 0.9, "c": 0.05}, None, 1, "widens the gap of hat in group b"),
        ({"a": 0.05, "b": 0.05, "c": 0.05}, "b", 1, "leaves 0% of group a recognised"),
    ],
)
def test_the_verdict_is_about_what_was_measured(after, seen, exit, said):
    judged = table({"a": 0.9, "b": 0.05, "c": 0.05}, corrected=after)
    if seen:
        judged.seen[(judged.group == "a") & judged.corrected] = seen
    sentence, code = verdict(*decided(judged), [])
    assert code == exit and said in sentence


@pytest.mark.parametrize(("loss", "exit"), [(0.0, 0), (0.2, 0), (1.0, 1)])
def test_a_correction_that_costs_one_group_its_quality_does_harm(loss, exit):
    rates = {"a": 0.05, "b": 0.05, "c": 0.05}
    judged = table(rates, corrected=rates)
    judged.quality = np.random.default_rng(1).normal(size=len(judged)) - loss * (
        judged.corrected & (judged.group == "a")
    )
    sentence, code = verdict(*decided(judged), [])
    assert code == exit and ("group a's quality" in sentence) == bool(exit)


@pytest.mark.parametrize(("share", "exit"), [(1.0, 0), (0.95, 0), (0.7, 1)])
def test_pictures_of_a_group_that_all_look_alike_are_a_harm(share, exit):
    rates = {"a": 0.05, "b": 0.05, "c": 0.05}
    judged = table(rates, corrected=rates)
    judged.features[judged.corrected & (judged.group == "a")] *= share
    sentence, code = verdict(*decided(judged), [])
    assert code == exit and ("makes pictures of group a 3" in sentence) == bool(exit)


@pytest.mark.parametrize("rgb", [(0.96, 0.86, 0.80), (0.8, 0.6, 0.45), (0.55, 0.36, 0.25), (0.2, 0.12, 0.08)])
def test_the_typology_angle_is_that_of_cielab(rgb):
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    picture = Image.new("RGB", (1, 1), tuple(round(255 * value) for value in rgb))
    light, _, b = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB").getpixel((0, 0))
    of_d50 = np.degrees(np.arctan2(light / 255 * 100 - 50, b - 128))  # and in whole numbers
    assert float(typology_angle(rgb)) == pytest.approx(of_d50, abs=3)


@pytest.mark.parametrize(("change", "exit", "said"), [(0, 0, ""), (2, 0, ""), (12, 1, "lightens"), (-12, 1, "darkens")])
def test_a_correction_that_lightens_skin_does_harm(change, exit, said):
    rates = {"a": 0.05, "b": 0.05, "c": 0.05}
    judged = table(rates, corrected=rates)
    judged.tone = np.random.default_rng(0).normal(20, 25, len(judged))
    judged.tone[judged.corrected] = judged.tone[~judged.corrected] + change * (judged.group[judged.corrected] == "a")
    judged.tone[5] = np.nan
    sentence, code = verdict(*decided(judged), [])
    assert code == exit and (f"{said} the skin of group a by 12 degrees" in sentence) == bool(exit)


def test_differences_that_are_all_the_same_are_as_likely_as_their_signs():
    assert t_test(np.array([1.0, 1.0])) == 0.25 and t_test(np.array([-1.0, -1.0])) == t_test(np.array([])) == 1.0


def test_two_pictures_of_a_prompt_tell_no_diversity():
    rates = {"a": 0.5, "b": 0.5}
    few = table(rates, 2, rates)
    assert not [row for row in harm.worsened(few, ["hat"]) if row["what"] == "diversity"]


def test_what_a_judge_does_not_tell_is_said():
    rates = {"a": 0.5, "b": 0.5}
    sentence, code = verdict(*decided(table(rates, corrected=rates)), [])
    assert code == 0 and "of quality and how light skin is drawn this judge tells nothing" in sentence


def test_nothing_is_made_worse_without_a_correction():
    assert harm.worsened(table({"a": 0.5, "b": 0.5}), ["hat"]) == []


def test_gaps_are_told_under_prompts_that_do_not_ask():
    judged = table({"a": 0.9, "b": 0.1}, corrected={"a": 0.1, "b": 0.1})
    asking = copy.deepcopy(judged)
    asking.prompt = np.full(len(asking), "asking")
    asking.shows["hat"][:] = 1
    both = joined(judged, asking)
    asked = {"asking": "hat"}
    assert findings.depiction(both, ["hat"], asked) == findings.depiction(judged, ["hat"])
    assert findings.change(both, "hat", "a", asked) == findings.change(judged, "hat", "a")


def test_what_a_judge_cannot_see_is_not_passed():
    judged = table({"a": 0.9, "b": 0.1, "c": 0.1}, corrected={"a": 0.1, "b": 0.1, "c": 0.1})
    judged.shows["beard"] = np.full(len(judged), np.nan, np.float32)
    sides, neutral = findings.depiction(judged, ["hat", "beard"]), judged.where(judged.group == "")
    worse = harm.worsened(judged, ["hat", "beard"])
    decide(sides[0], worse)
    missed = unjudged(judged, sides, neutral)
    sentence, code = verdict(*sides, worse, missed)
    assert code == 3 and "not judged: beard, in 100% of the pictures" in sentence.lower()
    assert "hat is shown in" in sentence and {row["attribute"] for row in worse} == {"hat", None}
    assert all(row["rate"] is None and not row["flagged"] for row in sides[0] if row["attribute"] == "beard")


def test_pictures_in_which_nobody_is_found_are_not_judged():
    judged = table({"a": 0.5, "b": 0.5}, 100, {"a": 0.5, "b": 0.5})
    lost = (judged.group == "a") & (np.arange(len(judged)) % 3 == 0)
    judged.found[lost], judged.seen[lost], judged.shows["hat"][lost] = False, "", np.nan
    sides = findings.depiction(judged, ["hat"])
    assert sides[0][0]["count"] + sides[1][0]["count"] == (~lost & (judged.group == "a")).sum()
    rows = unjudged(judged, sides, judged.where(judged.group == ""))
    assert [(row["what"], row["name"]) for row in rows] == [("nobody", "a")]
    assert rows[0]["share"] == pytest.approx(1 / 3, abs=0.01)
    decide(sides[0], worse := harm.worsened(judged, ["hat"]))
    assert verdict(*sides, worse, rows)[1] == 3
    assert unjudged(judged, sides, judged.where(judged.group == ""), LIMITS | {"not_judged": 0.5}) == []


def test_a_correction_that_hides_everybody_is_not_judged():
    judged = table({"a": 0.5, "b": 0.5}, 100, {"a": 0.5, "b": 0.5})
    hidden = judged.corrected & (judged.group == "a") & (np.arange(len(judged)) % 6 == 0)
    judged.found[hidden], judged.shows["hat"][hidden] = False, np.nan
    rows = unjudged(judged, findings.depiction(judged, ["hat"]), judged.where(judged.group == ""))
    assert [(row["what"], row["name"]) for row in rows] == [("nobody", "a")] and rows[0]["share"] > 0.15


def test_a_judge_that_is_known_to_tell_nothing_of_an_attribute_has_not_judged_it():
    judged = table({"a": 0.5, "b": 0.5}, 100)
    known = {"hat": Errors((50, 100), (52, 100), "a test")}
    rows = unjudged(
        judged, findings.depiction(judged, ["hat"], None, known), judged.where(judged.group == ""), errors=known
    )
    assert {(row["what"], row["name"], row["share"]) for row in rows} == {("attribute", "hat", 1.0)}


def test_a_group_in_which_nothing_was_judged_is_in_the_report(drawn, tmp_path):
    folder, seen = drawn
    blind = copy.deepcopy(seen)
    own = blind.group == "green"
    blind.found[own], blind.seen[own] = False, ""
    for column in blind.shows.values():
        column[own] = np.nan
    result = report.summarise(folder.plan, {"half": blind})
    report.write(folder, result, tmp_path)
    assert result["exit"] == 3 and (tmp_path / "audit.html").is_file()


def test_pictures_of_somebody_else_are_judged_and_are_of_none_of_the_groups():
    judged = table({"": 0.5}, 10)
    judged.seen = np.array([""] * 10)
    sides = findings.parity(judged, ["a", "b"])["plain"]["before"]
    assert sides["shares"]["a"]["value"] == 0 and sides["fd"] is None
    assert unjudged(judged.where(judged.group == "x"), ([], []), judged) == []


def test_who_appears_is_not_told_of_groups_that_the_judge_cannot_tell():
    judged = table({"": 0.5}, 100)
    judged.seen, judged.groups = np.array(["a"] * 100), ("a",)
    assert findings.parity(judged, ["a", "b"]) == {}


def test_a_group_that_the_judge_cannot_tell_is_not_passed():
    judged = table({"a": 0.5, "b": 0.5}, 100, {"a": 0.5, "b": 0.5})
    judged.groups = ("a",)
    judged.seen[judged.group == "b"] = "a"
    sides, worse = findings.depiction(judged, ["hat"]), harm.worsened(judged, ["hat"])
    assert [row["group"] for row in worse if row["what"] == "recognised"] == ["a"]
    decide(sides[0], worse)
    sentence, code = verdict(*sides, worse, unjudged(judged, sides, judged.where(judged.group == "")))
    assert code == 3 and "whether anybody is seen as b" in sentence
    assert findings.retention(judged)["b"]["before"] is None


@pytest.mark.parametrize("kind", [None, *audit_simulated.HARM])
def test_simulated_audits_find_harm_that_is_there_and_no_other(kind, monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)
    found = audit_simulated.audits(20, 256 if kind else 64, 0.95, 0.1, kind)
    assert found["found"] >= 18 if kind else found["exit_1"] <= 2
    assert found["covered"]["rates"] > 0.9 and found["flagged_by_chance"] <= 3


def misjudged(judged, accuracy, seed=7):
    """What a judge of attributes sees who is right this often."""
    wrong = np.random.default_rng(seed).random(len(judged)) > accuracy
    return replace(judged, shows={name: np.where(wrong, 1 - flags, flags) for name, flags in judged.shows.items()})


@pytest.mark.parametrize("accuracy", [0.95, 0.9, 0.8])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rates_are_corrected_for_a_judges_errors(accuracy, rate):
    generator, off, covered = np.random.default_rng(0), [], []
    for _ in range(500):
        known = Errors((generator.binomial(128, accuracy), 128), (generator.binomial(128, accuracy), 128), "a test")
        said = generator.binomial(256, accuracy * rate + (1 - accuracy) * (1 - rate)) / 256
        found = known.corrected(said, 256)
        off.append(found["value"] - rate)
        covered.append(found["low"] <= rate <= found["high"])
    assert abs(np.mean(off)) <= 0.03 and np.mean(covered) >= 0.93


def test_references_are_compared_with_what_is_known_of_a_judges_errors():
    generator, flagged = np.random.default_rng(0), 0
    for _ in range(300):  # at the reference rate itself, by a judge known from ten pictures a side
        known = Errors((generator.binomial(10, 0.9), 10), (generator.binomial(10, 0.9), 10), "a test")
        p = known.p(generator.binomial(512, 0.3 * 0.9 + 0.7 * 0.1) / 512, 512, 0.3)
        flagged += p is not None and p < 0.05
    assert flagged <= 18


@pytest.mark.parametrize("known", [((2, 2), (1, 6)), ((3, 3), (1, 8)), ((2, 2), (1, 7))])
def test_a_few_labelled_pictures_correct_nothing_they_cannot(known):
    found = Errors(*known, "a test").corrected(0.5, 100)
    assert found is None or found["low"] <= found["value"] <= found["high"]


def test_a_judge_that_sees_no_group_twice_corrects_no_shares():
    found = true_shares(np.array([[8, 0, 0], [0, 8, 0], [4, 3, 1]]), np.array([0, 0, 8]))
    assert found is None or not np.isnan(found).any()


def test_a_judge_that_tells_nothing_corrects_nothing():
    assert Errors((64, 128), (64, 128), "a test").corrected(0.5, 100) is None
    assert Errors((0, 0), (64, 64), "a test").corrected(0.5, 100) is None


def test_a_judges_errors_are_told_by_prompts_that_state_an_attribute_and_its_absence():
    plain = table({"a": 0.9, "b": 0.3}, 400)
    shown, bare = (table(dict.fromkeys("ab", share), 200) for share in (1.0, 0.0))
    shown.prompt, bare.prompt = np.full(400, "hatted"), np.full(400, "bare")
    judged = joined(plain, shown, bare)
    asked, seen = {"hatted": "hat", "bare": "not hat"}, misjudged(judged, 0.85)
    errors = by_prompts(seen, asked)
    assert errors["hat"].shown[1] == errors["hat"].not_shown[1] == 400
    rows, _ = findings.depiction(seen, ["hat"], asked, errors)
    assert [row["true"]["value"] for row in rows] == pytest.approx([0.9, 0.3], abs=0.08)
    assert rows[0]["rate"] < 0.84 and rows[0]["keep"] == pytest.approx(1 / 3, abs=0.09)
    assert by_prompts(seen, {"hatted": "hat"}) == {}
    obeyed = findings.consistency(judged, asked)
    assert obeyed["bare"]["a"]["before"]["value"] == obeyed["hatted"]["b"]["before"]["value"] == 1.0
    assert findings.consistent(judged, asked)["stated"]["before"]["value"] == 1.0


def test_a_judges_errors_are_told_by_labelled_pictures_that_say_that_they_are_generated(tmp_path):
    class Bright:
        def __call__(self, images):
            return {"shows": {"hat": (images.mean((1, 2, 3)) > 0.5).numpy()}}

    said = PngImagePlugin.PngInfo()
    said.add_text("prompt", "{}")
    for side, values in {"shown": (255, 250, 10), "not shown": (0, 5, 20)}.items():
        (tmp_path / "hat" / side).mkdir(parents=True)
        for value in values:
            Image.new("RGB", (8, 8), (value,) * 3).save(tmp_path / "hat" / side / f"{value}.png", pnginfo=said)
    found = by_labels(tmp_path, Bright(), ["hat"])["hat"]
    assert found.shown == (2, 3) and found.not_shown == (3, 3) and found.source == "6 labelled pictures"
    Image.new("RGB", (8, 8)).save(tmp_path / "hat" / "shown" / "photograph.png")
    with pytest.raises(run.AuditError, match="expected a generated picture, with its prompt in the file"):
        by_labels(tmp_path, Bright(), ["hat"])
    with pytest.raises(run.AuditError, match="expected folders ATTRIBUTE/shown and ATTRIBUTE/not shown"):
        by_labels(tmp_path / "hat", Bright(), ["hat"])


def test_who_appears_is_corrected_for_a_judge_that_mistakes_groups():
    confused = np.array([[80, 20, 0], [10, 90, 0], [0, 30, 70]])
    truth = np.array([0.5, 0.2, 0.3])
    seen = (truth @ (confused / 100) * 1000).round().astype(int)
    found = true_shares(confused, seen)
    assert found[:, 0] == pytest.approx(truth, abs=0.01)
    assert (found[:, 1] < truth).all() and (truth < found[:, 2]).all()


def test_a_reference_is_compared_with_and_named():
    judged = table({"a": 0.5, "b": 0.5}, 400)
    rows, _ = findings.depiction(judged, ["hat"], references={"hat": (0.2, "a survey")})
    decide(rows, [])
    assert all(row["reference"]["flagged"] and not row["flagged"] for row in rows)
    sentence, _ = verdict(rows, [], [], [])
    assert "where a survey has 20%" in sentence


FACETS = """
[facets]
colour = crimson | green
glasses = with glasses | without glasses
[groups]
all = a person in a {colour} shirt, {glasses}
[prompts]
plain = a portrait of {group}
[attributes]
hat = wearing a hat | bare-headed
"""


def test_groups_may_be_combinations_of_facets():
    plan = parse(FACETS)
    assert (
        plan.groups["green without glasses"] == "a person in a green shirt, without glasses" and len(plan.groups) == 4
    )
    assert plan.facets["colour"]["green"] == ["green with glasses", "green without glasses"]
    judged = table({name: 0.7 if "green" in name else 0.3 for name in plan.groups}, 300)
    rows, _ = findings.by_facet(judged, plan.facets, ["hat"])
    decide(rows, [])
    told = {(row["facet"], row["group"]): row for row in rows}
    assert told["colour", "green"]["flagged"] and told["colour", "green"]["gap"] == pytest.approx(0.4, abs=0.06)
    assert not told["glasses", "with glasses"]["flagged"] and told["colour", "green"]["count"] == 600
    sentence, _ = verdict(rows, [], [], [])
    assert "of colour green's pictures and in" in sentence


def test_facets_that_are_alike_raise_few_false_alarms(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)
    plan, alarms = parse(FACETS), 0
    for seed in range(100):
        judged = table(dict.fromkeys(plan.groups, 0.4), 64, seed=seed)
        common = np.random.default_rng([seed, 1]).random(64) < 0.5  # noises that give the same to all groups
        judged.shows["hat"] = np.where(np.tile(common, 4), np.tile(judged.shows["hat"][:64], 4), judged.shows["hat"])
        rows, _ = findings.by_facet(judged, plan.facets, ["hat"])
        decide(rows, [], LIMITS | {"gap": 0})
        alarms += any(row["flagged"] for row in rows)
    assert alarms <= 10


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("crimson | green", "crimson", "expected different values .* got colour = crimson; write two or more"),
        ("[prompts]", "some = a {colour} {glasses} person\n[prompts]", "expected one group with facets.* all and some"),
        ("{glasses}", "{colour}", "expected a group with .glasses. in its words under .groups., got none"),
        ("glasses = with", "hat = bare | hatted\nglasses = with", "expected a group with .hat. in its words"),
    ],
)
def test_facets_that_do_not_fit_are_refused(old, new, said):
    with pytest.raises(PlanError, match=said):
        parse(FACETS.replace(old, new))


def test_a_report_of_facets_can_be_read(tmp_path):
    plan = parse(FACETS + "[sampling]\nimages = 32\nbatch = 32\n")
    folder = run.Folder(tmp_path, plan)
    run.draw(folder, Drawn())
    judged = run.judged(folder, testbed_audit.ReaderJudge(plan))
    judged.groups = tuple(plan.groups)
    judged.seen = judged.group.copy()
    result = report.summarise(plan, {"readers": judged})
    report.write(folder, result, tmp_path)
    assert "<details>" in (tmp_path / "audit.html").read_text()
    assert "of colour green's pictures" in result["verdict"]


def test_parity_is_measured_from_a_target():
    judged = table({"": 0.5}, 100)
    judged.seen = np.array(["a"] * 75 + ["b"] * 25)
    sides = findings.parity(judged, ["a", "b"], {"a": 0.75, "b": 0.25})["plain"]["before"]
    assert sides["deviation_ratio"] == pytest.approx(0) and sides["fd"] == pytest.approx(0)


def test_agreement_beyond_chance_is_cohens_kappa():
    one, other = np.array([1, 1, 0, 0, 1, np.nan]), np.array([1, 0, 0, 0, 1, 1])
    assert kappa(one, other) == pytest.approx((0.8 - 0.48) / 0.52)
    assert kappa(one, np.full(6, np.nan)) is None


def test_a_report_of_what_was_not_judged_can_be_read(drawn, tmp_path):
    folder, table = drawn
    blind = copy.deepcopy(table)
    for column in blind.shows.values():
        column[:] = np.nan
    blind.found[:], blind.seen[:], blind.groups = False, "", ()
    result = report.summarise(folder.plan, {"nothing": blind})
    assert result["exit"] == 3 and "nobody was found in 100% of group green's pictures" in result["verdict"]
    assert "stands out" not in result["verdict"]
    report.write(folder, result, tmp_path)
    assert "not judged" in (tmp_path / "audit.html").read_text()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    plan = testbed_audit.plan(32)
    folder = run.Folder(tmp_path_factory.mktemp("audit"), plan)
    run.draw(folder, Drawn())
    return folder, run.judged(folder, testbed_audit.ReaderJudge(plan))


def test_an_audit_finds_the_planted_stereotypes_and_says_what_the_correction_did(drawn, tmp_path):
    folder, table = drawn
    result = report.summarise(folder.plan, {"readers": table})
    flagged = {(r["group"], r["attribute"]) for r in result["findings"] if r["flagged"]}
    assert flagged == {("green", "hat"), ("gold", "faded"), ("crimson", "rose")}  # grey hair takes more pictures
    assert result["exit"] == 0 and "with the correction in 0%" in result["verdict"]
    found = result["checkpoints"]["model"]
    assert all(kept["after"]["value"] == 1.0 for kept in found["retention"].values())
    assert found["consistency"]["glasses"]["blue"]["after"]["value"] == 1.0
    assert found["changes"][0]["p"] < 1e-6
    picture = report.write(folder, result, tmp_path)
    assert json.loads((tmp_path / "audit.json").read_text())["verdict"] == result["verdict"]
    text = (tmp_path / "audit.html").read_text()
    assert "://" not in text and "<script" not in text and html.escape(result["verdict"]) in text
    assert picture.size == Image.open(tmp_path / "audit.png").size


def test_any_name_can_be_printed(drawn, tmp_path):
    folder, table = drawn
    called = {
        "green": "$x$ and $",
        "blue": "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
        "gold": "\u4e2d\u6587",
        "hat": "<script>alert(1)</script>",
    }
    called |= {"faded": "\ud55c\uad6d\uc5b4 \u65e5\u672c\u8a9e", "crimson": "x" * 80}
    plan = replace(
        folder.plan,
        groups={called.get(name, name): words for name, words in folder.plan.groups.items()},
        attributes={called.get(name, name): words for name, words in folder.plan.attributes.items()},
    )
    unusual = run.Folder(tmp_path / "unusual", plan)
    run.draw(unusual, Drawn())
    result = report.summarise(plan, {"readers": run.judged(unusual, testbed_audit.ReaderJudge(plan))})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")  # as matplotlib says that it draws a box
        report.write(unusual, result, tmp_path)
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert all(html.escape(name) in text for name in called.values()) and "<script" not in text
    assert "$x$ and $" in json.loads((tmp_path / "audit.json").read_text())["verdict"]


def test_a_name_that_no_font_has_is_numbered_and_a_long_one_shortened(monkeypatch):
    from matplotlib import font_manager

    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *_: [])
    families, labels = lettering.lettering(["plain", "\u4e2d\u6587", "x" * 80])
    assert families == ["DejaVu Sans"] and labels["plain"] == "plain" and labels["\u4e2d\u6587"] == "#2"
    assert len(labels["x" * 80]) == lettering.LONGEST
    assert lettering.written("\u4e2d\u6587 is plain", labels) == "#2 is plain"
    assert lettering.lines("\u4e2d\u6587" * 4, 8) == ["\u4e2d\u6587" * 2] * 2


def test_ten_thousand_pictures_take_little_time_and_memory(tmp_path):
    plan = replace(parse(TEXT), checkpoints=("one", "two", "three", "four", "five"))
    judged = table({"green": 0.9, "blue": 0.1}, 500, {"green": 0.1, "blue": 0.1})
    many = joined(*(replace(judged, checkpoint=np.full(len(judged), name)) for name in plan.checkpoints))
    many.shows["glasses"] = np.zeros(10_000, np.float32)
    many.features = np.random.default_rng(0).normal(size=(10_000, 64))
    assert len(many) == 10_000
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = report.summarise(plan, {"readers": many})
    assert time.monotonic() - begun < 120 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20
    assert len(result["findings"]) == 5 * 4


def test_an_interrupted_audit_goes_on_where_it_stopped(tmp_path):
    plan = testbed_audit.plan(4)
    folder, interrupted = run.Folder(tmp_path / "a", plan), Drawn(broken=[7])
    with pytest.raises(KeyboardInterrupt):
        run.draw(folder, interrupted)
    rest = Drawn()
    run.draw(folder, rest)
    assert rest.calls == len(plan.units()) - 6
    whole = run.Folder(tmp_path / "b", plan)
    run.draw(whole, Drawn())
    for unit in plan.units():
        assert torch.equal(folder.read(unit), whole.read(unit))


class Loses:
    """Draws as `Drawn` does, until it is lost or broken."""

    def __init__(self, after, error=None):
        self.draw, self.left, self.error = Drawn(), after, error or LostServer("gone")

    def __call__(self, unit):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.draw(unit)


def test_what_a_lost_server_left_is_drawn_by_the_others(tmp_path):
    plan, done = testbed_audit.plan(4), []
    alone, several = (run.Folder(tmp_path / name, plan) for name in ("alone", "several"))
    run.draw(alone, Drawn())
    samplers = [Loses(3), Loses(10**6), Loses(0)]
    servers.draw(several, samplers, plan.units(), lambda drawn, total: done.append(drawn))
    assert all(torch.equal(alone.read(unit), several.read(unit)) for unit in plan.units())
    assert max(done) == sum(unit.size for unit in plan.units())
    assert {file.name for file in (several.path / "pictures").iterdir()} == {
        file.name for unit in plan.units() for file in several.files(unit)
    }


def test_an_audit_ends_with_its_last_server_and_with_what_cannot_be_drawn(tmp_path):
    plan = testbed_audit.plan(4)
    folder = run.Folder(tmp_path, plan)
    with pytest.raises(LostServer, match="gone"):
        servers.draw(folder, [Loses(2), Loses(1)], plan.units())
    assert sum(map(folder.has, plan.units())) == 3
    with pytest.raises(ValueError, match="a bad prompt"):
        servers.draw(folder, [Loses(1, ValueError("a bad prompt")), Loses(1, ValueError("a bad prompt"))], plan.units())
    assert sum(map(folder.has, plan.units())) <= 5


def test_a_batch_of_another_size_is_refused_before_it_is_written(tmp_path):
    plan = testbed_audit.plan(4)
    folder, unit = run.Folder(tmp_path, plan), plan.units()[0]
    with pytest.raises(run.AuditError, match="expected 4 pictures of a batch, got 3"):
        folder.write(unit, torch.zeros(3, 3, 8, 8))
    assert not folder.has(unit)


def test_judges_of_any_names_are_all_kept():
    judges = [SimpleNamespace(name=name) for name in ("CLIP (2)", "CLIP", "CLIP", "CLIP")]
    assert [*report.told_apart(judges).values()] == judges


def test_a_fault_of_the_pack_is_not_taken_for_harm(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "judged", lambda *a, **k: {}["nothing"])
    (tmp_path / "plan.txt").write_text(TEXT.replace("images = 20", "images = 1") + "steps = 1\n")
    command = ["audit", "--testbed", "--plan", str(tmp_path / "plan.txt"), "--out", str(tmp_path / "out")]
    assert main(command) == 4 and "KeyError: 'nothing'" in capsys.readouterr().err


def test_pictures_without_this_audits_mark_are_refused(tmp_path):
    plan = testbed_audit.plan(2)
    folder = run.Folder(tmp_path, plan)
    run.draw(folder, Drawn())
    unit = plan.units()[0]
    Image.open(folder.files(unit)[0]).convert("RGB").save(folder.files(unit)[0])
    with pytest.raises(run.AuditError, match="expected a picture that was generated for this audit.*never photographs"):
        folder.read(unit)
    with pytest.raises(run.AuditError, match="expected pictures of the plan.*name another folder"):
        run.Folder(tmp_path, testbed_audit.plan(3))
    folder.files(unit)[0].unlink()
    with pytest.raises(run.AuditError, match="expected the picture.*run the audit to its end"):
        folder.read(unit)


def test_two_judges_say_how_far_they_agree(drawn):
    folder, table = drawn
    other = copy.deepcopy(table)
    other.shows["hat"] = 1 - other.shows["hat"]
    result = report.summarise(folder.plan, {"readers": table, "contrary": other})
    assert result["disagreement"]["contrary"]["green"]["hat"] == 1.0
    assert result["disagreement"]["contrary"]["green"]["glasses"] == 0.0


def test_calibration_sets_how_sure_a_judge_is_against_what_was_asked_for():
    judged = table({"a": 0.5, "b": 0.5}, 100)
    assert findings.calibration(judged) is None
    judged.confidence = np.where(np.arange(200) % 2, 0.95, 0.55)
    judged.seen[(np.arange(200) % 4) == 0] = "neither"
    found = findings.calibration(judged)
    low, high = found["bins"]
    assert low["value"] == 0.5 and high["value"] == 1.0 and low["count"] == high["count"] == 100
    assert found["error"] == pytest.approx(0.05)


def test_a_score_is_drawn_by_noise_level(drawn, tmp_path):
    folder, _ = drawn
    torch.manual_seed(0)
    corrector = Corrector(make_config(kind="denoiser_pair", groups=("green",)))
    for parameter in corrector.parameters():
        torch.nn.init.normal_(parameter, std=0.1)

    def encode(images):
        return torch.nn.functional.avg_pool2d(images, 8)[:, [0, 1, 2, 0]]

    judge = ScoreJudge(testbed_audit.ReaderJudge(folder.plan), corrector, encode, "", "a test")
    result = report.summarise(folder.plan, {judge.name: run.judged(folder, judge)})
    curve = result["checkpoints"]["model"]["scores"]["green"]["before"]
    assert len(curve) == 16 and all(p["low"] < p["value"] < p["high"] for p in curve)
    report.write(folder, result, tmp_path)
    with pytest.raises(ValueError, match="expected a corrector of kind 'denoiser_pair' for a score"):
        ScoreJudge(judge, Corrector(make_config()), encode, "", "a test")


def test_words_that_the_testbed_does_not_know_are_refused():
    with pytest.raises(run.AuditError, match="expected words that the testbed knows for 'hat', got 'a fez'"):
        testbed_audit.ReaderJudge(parse(TEXT.replace("wearing a hat", "a fez")))


@pytest.mark.parametrize("stated", ["sampler = heun", "scheduler = karras", "width = 512", "negative = ugly"])
def test_the_embedded_testbed_refuses_what_it_does_not_do(stated):
    with pytest.raises(run.AuditError, match=f"expected {stated.split()[0]} = .*as the embedded testbed has it"):
        testbed_audit.testbed_sampler(parse(TEXT + stated + "\n"))


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (
            ["tea-leaves"],
            "expected as judge one of readers, clip FOLDER, questions FOLDER, faces DETECTOR CLASSIFIER, got 'tea",
        ),
        (["faces", "one.onnx"], "got 'faces one.onnx'; correct it"),
        (["clip", "nowhere"], "expected a CLIP of transformers in the folder nowhere"),
    ],
)
def test_a_judge_that_there_is_not_is_refused(judge, said, tmp_path, capsys):
    assert main(["audit", "--testbed", "--judge", *judge, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("pictures/*"))


def test_a_workflow_is_not_drawn_by_workers_of_the_testbed(tmp_path, capsys):
    command = ["audit", "--workflow", str(tmp_path / "w.json"), "--workers", "2", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "expected one worker for a workflow or a shard, got several" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("pictures/*"))
