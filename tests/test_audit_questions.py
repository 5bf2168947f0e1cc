"""The judge that is asked, on a tiny model of the signature that vision-language models have."""

import numpy as np
import pytest
import torch
from llava import save

from rs_corrector.audit import questions
from rs_corrector.audit.plan import parse
from rs_corrector.audit.questions import QuestionJudge
from rs_corrector.audit.run import AuditError

PLAN = """[groups]
green = a green shirt
blue = a blue shirt
[prompts]
plain = a portrait of {group}
[attributes]
hat = a hat | no hat
"""


def test_questions_are_asked_of_every_picture(tmp_path):
    judge = QuestionJudge(parse(PLAN), save(tmp_path / "asked", ["yes", "no", "hat?", "a"]))
    judge_answers = judge.answers
    judge.answers = lambda image, question: [2 * p for p in judge_answers(image, question)]  # of six words, not of two
    seen = judge(torch.rand(3, 3, 48, 48))
    assert judge.name == "answers by asked" and judge.groups == ("green", "blue")
    assert set(seen["seen"]) <= {"green", "blue", ""} and set(seen["shows"]["hat"]) <= {0.0, 1.0}


def test_likelier_answers_decide_and_no_answer_is_not_judged(tmp_path, monkeypatch):
    judge = QuestionJudge(parse(PLAN), save(tmp_path / "asked", ["yes", "no"]))
    said = {"a green shirt": (0.2, 0.7), "a blue shirt": (0.8, 0.1), "a hat": (0.1, 0.1)}
    asked = {questions.QUESTION.format(words): likely for words, likely in said.items()}
    monkeypatch.setattr(judge, "answers", lambda image, question: asked[question])
    seen = judge(torch.rand(2, 3, 48, 48))
    assert seen["seen"] == ["blue"] * 2 and seen["confidence"] == pytest.approx([8 / 9] * 2)
    assert np.isnan(seen["shows"]["hat"]).all() and seen["found"].all()


def test_a_model_without_answers_and_a_folder_without_a_model_are_refused(tmp_path):
    with pytest.raises(AuditError, match="expected a model that can say 'yes'"):
        QuestionJudge(parse(PLAN), save(tmp_path / "mute", ["a", "hat?"]))
    with pytest.raises(AuditError, match="expected a vision-language model of transformers in the folder"):
        QuestionJudge(parse(PLAN), tmp_path / "nothing")
