"""The audit's plan and statistics, on tables whose truth is known."""

import copy
import html
import json

import numpy as np
import pytest
import torch
from configs import make_config
from drawn import Drawn
from PIL import Image
from plans import TEXT

from rs_corrector.audit import findings, report, run
from rs_corrector.audit.plan import PlanError, parse
from rs_corrector.audit.score import ScoreJudge
from rs_corrector.audit.table import LIMITS, Judged
from rs_corrector.cli import main
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
        ("images = 20", "pictures = 20", "expected settings images.*got 'pictures'"),
        ("[neutral]", "[nobody]", r"expected sections groups.*got \[nobody\]"),
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
        pair=np.array([f"{g}-{i}" for g, _, _ in parts for i in range(count)]),
        seen=groups.copy(),
        shows={"hat": np.concatenate([flags for _, _, flags in parts])},
        features=generator.normal(size=(len(groups), 3)),
    )


def test_a_planted_stereotype_is_flagged_and_nothing_else():
    rows = findings.depiction(table({"a": 0.05, "b": 0.9, "c": 0.05, "d": 0.05}), ["hat"])
    assert [r["group"] for r in rows if r["flagged"]] == ["b"]
    found = next(r for r in rows if r["group"] == "b")
    assert found["low"] < 0.9 < found["high"] and found["gap"] > 0.7


def test_keeping_as_many_as_is_said_makes_a_group_like_the_others():
    judged = table({"a": 0.2, "b": 0.8, "c": 0.2, "d": 0.25}, count=2000)
    found = {r["group"]: r for r in findings.depiction(judged, ["hat"])}
    assert found["b"]["keep"] * found["b"]["rate"] == pytest.approx(found["c"]["rate"], abs=0.05)
    assert found["a"]["keep"] == pytest.approx(1.0, abs=0.2) and "keep" in found["d"]


def test_the_distance_to_other_groups_is_that_of_all_attributes_together():
    judged = table({"a": 0.2, "b": 0.8, "c": 0.2}, 1000, {"a": 0.2, "b": 0.2, "c": 0.2})
    found = findings.distribution_distance(judged, ["hat"])
    assert found["b"]["before"]["value"] == pytest.approx(0.6, abs=0.06)
    assert found["b"]["after"]["value"] < 0.06 and 0 < found["b"]["after"]["chance"] < 0.03
    opposite = np.where(judged.group == "b", ~judged.shows["hat"], judged.shows["hat"])
    judged.shows["no hat"] = opposite
    assert findings.distribution_distance(judged, ["hat", "no hat"])["b"]["after"]["value"] == 1.0


def test_groups_that_are_alike_raise_few_false_alarms():
    alarms = 0
    for seed in range(100):
        rows = findings.depiction(table(dict.fromkeys("abcd", 0.4), 100, seed=seed), ["hat"], LIMITS | {"gap": 0})
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
    judged.seen[:10] = ""
    found = findings.retention(judged)
    assert found["a"]["before"]["value"] == 0.9 and found["a"]["after"]["value"] == 0.0
    assert found["a"]["not_found"]["value"] == 0.05 and found["b"]["after"]["value"] == 1.0


def test_parity_measures_the_distance_to_equal_shares():
    judged = table({"": 0.5}, 100)
    judged.seen = np.array(["a"] * 75 + ["b"] * 25)
    sides = findings.parity(judged, ["a", "b"])["plain"]["before"]
    assert sides["deviation_ratio"] == pytest.approx(0.5) and sides["fd"] == pytest.approx(0.25 * 2**0.5)


def test_distances_between_pictures_are_means_over_pairs():
    rows = table({"a": 0.5}, 3)
    rows.features = np.array([[0.0, 0], [3, 4], [0, 0]])
    assert findings.diversity(rows) == pytest.approx(10 / 3)


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
    sides = [findings.depiction(judged.where(judged.corrected == side), ["hat"]) for side in (False, True)]
    sentence, code = findings.verdict(*sides, findings.retention(judged))
    assert code == exit and said in sentence


@pytest.mark.parametrize(("loss", "exit"), [(0.0, 0), (0.2, 0), (1.0, 1)])
def test_a_correction_that_costs_one_group_its_quality_does_harm(loss, exit):
    rates = {"a": 0.05, "b": 0.05, "c": 0.05}
    judged = table(rates, corrected=rates)
    judged.quality = np.random.default_rng(1).normal(size=len(judged)) - loss * (
        judged.corrected & (judged.group == "a")
    )
    sides = [findings.depiction(judged.where(judged.corrected == side), ["hat"]) for side in (False, True)]
    sentence, code = findings.verdict(*sides, findings.retention(judged), quality=findings.quality_gaps(judged))
    assert code == exit and ("group a's quality" in sentence) == bool(exit)


def test_quality_gaps_need_quality_and_a_correction():
    assert findings.quality_gaps(table({"a": 0.5}, corrected={"a": 0.5})) == {}
    judged = table({"a": 0.5, "b": 0.5})
    judged.quality = np.zeros(len(judged))
    assert findings.quality_gaps(judged) == {}


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
    other.shows["hat"] = ~other.shows["hat"]
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


def test_a_workflow_is_not_drawn_by_workers_of_the_testbed(tmp_path, capsys):
    command = ["audit", "--workflow", str(tmp_path / "w.json"), "--workers", "2", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "expected one worker for a workflow or a shard, got several" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("pictures/*"))
