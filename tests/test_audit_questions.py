"""The judge that is asked, on a tiny model of the signature that vision-language models have."""

import numpy as np
import pytest
import torch

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
PART = "{{ '<image>' if c.type == 'image' else c.text }} "
CHAT = f"{{% for m in messages %}}{{% for c in m.content %}}{PART}{{% endfor %}}{{% endfor %}}"


def save(folder, words):
    """A LLaVA of random weights that knows these words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    vocabulary = {word: i for i, word in enumerate(["[UNK]", "[PAD]", "<image>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        extra_special_tokens={"image_token": "<image>"},
    )
    size = {"height": 32, "width": 32}
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size), tokenizer=fast, patch_size=16,
        vision_feature_select_strategy="default", chat_template=CHAT, num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    small = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    torch.manual_seed(0)
    LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(**small, image_size=32, patch_size=16),
            text_config=LlamaConfig(**small, vocab_size=len(vocabulary)),
            image_token_index=vocabulary["<image>"],
        )
    ).save_pretrained(folder)
    return folder


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
