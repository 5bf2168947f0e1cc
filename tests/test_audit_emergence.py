"""At which step attributes show, where it is known at which they do."""

import json

import numpy as np
import pytest
import torch
from drawn import Drawn

from rs_corrector.audit import emergence, report, run
from rs_corrector.cli import main
from rs_corrector.testbed import audit as testbed
from rs_corrector.testbed import measure, portraits, readers
from rs_corrector.testbed.model import choosing

STEPS = 10


@pytest.fixture
def plan():
    example = testbed.plan(4)
    return testbed.replace(example, sampling=example.sampling | {"steps": STEPS, "batch": 2})


class Emerging:
    """A drawing that comes out of a bare sky: hats and all else show from a step on."""

    def __init__(self, since):
        self.since, self.drawn, self.calls = since, Drawn(), 0

    def __call__(self, unit, see):
        self.calls += 1
        before, images = self.drawn(bare(unit)), self.drawn(unit)
        for step in emergence.looked_at(STEPS):
            see(step, STEPS, images if step >= self.since else before)
        return images


def bare(unit):
    """The same people where nothing is stereotyped: a group of which nothing is planted but a background."""
    return testbed.replace(unit, words=unit.words.replace("green", "crimson"))


def test_a_step_is_told_since_which_it_is_shown_to_the_end():
    shown = np.array([[0, 1, 1, 0, 0, np.nan], [1, 0, 1, 0, 1, 1], [1, 1, 1, 0, 0, 1]], float)
    assert emergence.shown_since(shown).tolist() == pytest.approx([1, 2, 0, np.nan, np.nan, 1], nan_ok=True)


@pytest.mark.parametrize(("steps", "count", "first"), [(4, 4, 1), (20, 20, 1), (50, 20, 1)])
def test_steps_that_are_looked_at_are_even_and_the_last_is_one(steps, count, first):
    chosen = emergence.looked_at(steps)
    assert len(chosen) == count and (chosen[0], chosen[-1]) == (first, steps)
    assert set(np.diff(chosen)) <= {steps // count, steps // count + 1}


def test_it_is_found_at_which_step_a_hat_shows(tmp_path, plan):
    folder, sample = run.Folder(tmp_path, plan), Emerging(since=6)
    assert emergence.judged(folder, None) == {}, "nothing was drawn for it"
    emergence.draw(folder, sample)
    assert sample.calls == len(emergence.watched(plan)) == 2 * 4 * 2, "a batch of every prompt, group and side"
    emergence.draw(folder, sample)
    assert sample.calls == 16, "what is there is not drawn anew"
    found = emergence.judged(folder, testbed.ReaderJudge(plan))["model"]
    rows = {(row["group"], row["attribute"]): row for row in found}
    units = [u for u in emergence.watched(plan) if u.group == "green" and not u.corrected]
    hats = sum(int(measure.shown("hat", readers.read(Drawn()(unit))[0]).sum()) for unit in units)
    asked = {"of": STEPS, "judged": 2 * len(units)}
    assert hats >= 2
    assert rows["green", "hat"]["before"] == asked | {"step": 6.0, "early": 6.0, "late": 6.0, "count": hats}
    never = dict.fromkeys(("step", "early", "late"))
    assert rows["green", "hat"]["after"] == asked | never | {"count": 0}, "the correction takes it off"
    assert rows["crimson", "rose"]["before"]["step"] == 1.0
    assert len(rows) == len(plan.groups) * len(plan.attributes)
    assert rows["blue", "glasses"]["before"]["judged"] == 2, "a prompt that asks for them does not count"


def test_what_was_cut_off_is_not_judged_and_is_drawn_anew(tmp_path, plan):
    folder, sample = run.Folder(tmp_path, plan), Emerging(since=6)

    def cut_off(unit, see):
        def some(step, of, images):
            if unit.corrected and step == 4:
                raise KeyboardInterrupt
            see(step, of, images)

        return sample(unit, some)

    with pytest.raises(KeyboardInterrupt):
        emergence.draw(folder, cut_off)
    judge = testbed.ReaderJudge(plan)
    rows = emergence.judged(folder, judge)["model"]
    first = emergence.watched(plan)[0].group
    rose = next(row for row in rows if (row["group"], row["attribute"]) == (first, "rose"))
    assert rose["before"]["judged"] == 2 and rose["after"] is None, "and not: never"
    emergence.draw(folder, sample)
    assert all(emergence.steps_of(folder, unit) == STEPS for unit in emergence.watched(plan))


def test_a_report_tells_it(tmp_path, plan):
    folder = run.Folder(tmp_path, plan)
    run.draw(folder, Drawn())
    emergence.draw(folder, Emerging(since=6))
    judge = testbed.ReaderJudge(plan)
    since = emergence.judged(folder, judge)
    result = report.summarise(plan, {judge.name: run.judged(folder, judge)}, since=since)
    report.write(folder, result, tmp_path)
    page = (tmp_path / "audit.html").read_text()
    assert "At which step attributes show" in page and "of 10 steps, of which 10 were looked at" in page
    assert "6 (6–6), " in page and "0 of 4 pictures" in page
    assert json.loads((tmp_path / "audit.json").read_text())["checkpoints"]["model"]["emergence"] == since["model"]


def test_a_step_is_no_picture_and_no_other_step(tmp_path, plan):
    folder, unit = run.Folder(tmp_path, plan), emergence.watched(plan)[0]
    folder.write(unit, torch.zeros(2, 3, 8, 8), 3)
    assert folder.has(unit, 3) and not folder.has(unit, 4) and not folder.has(unit)
    for file, other in zip(folder.files(unit, 3), folder.files(unit, 4)):
        file.rename(other)
    with pytest.raises(run.AuditError, match="expected a picture that was generated for this audit"):
        folder.read(unit, 4)


def test_the_testbed_shows_its_steps_and_draws_the_same(tmp_path):
    plan = testbed.plan(2)
    unit, seen = next(u for u in plan.units() if u.corrected and u.group == "green"), []
    sample = testbed.testbed_sampler(plan)
    images = sample(unit, lambda step, of, predicted: seen.append((step, predicted)))
    torch.testing.assert_close(images, sample(unit))
    assert [step for step, _ in seen] == list(range(1, 21))
    torch.testing.assert_close(seen[-1][1], images, atol=0.05, rtol=0)


def test_the_testbed_is_audited_as_a_node_corrects_it(monkeypatch):
    """Every picture chooses what it is to show, and not all of them the first."""
    chosen = []
    monkeypatch.setattr(testbed, "choosing", lambda *run: chosen.append(choosing(*run)) or chosen[-1])
    plan = testbed.plan(32)
    unit = next(u for u in plan.units() if u.corrected and u.group == "blue")
    hair = readers.read(testbed.testbed_sampler(plan)(unit))[0][:, portraits.COLUMN["hair"]]
    assert [correction.group for correction in chosen] == ["green", "gold", "blue", "crimson"]
    wanted = torch.tensor([portraits.HAIR.index(c) for c in ("black", "brown", "ginger", "blond")])[chosen[2].choice]
    assert len(hair.unique()) == 4 and (hair == wanted).float().mean() > 0.5, "the others had another by right"


def test_a_workflow_whose_steps_nobody_shows_is_refused(tmp_path, capsys):
    (tmp_path / "workflow.json").write_text("{}")
    command = ["audit", "--workflow", str(tmp_path / "workflow.json"), "--emergence", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "expected --testbed with --emergence, got a workflow" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
