"""A judge that is asked: a vision-language model of yours, in yes-or-no questions in the plan's own words."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..pictures import to_pixels
from .brought import load
from .run import AuditError

QUESTION = "Does this picture show {}? Answer with yes or no."
ANSWERS = ("yes", "no")
#: Where yes and no together are less likely than this, the model did not answer, and nothing is judged.
LEAST = 0.5


class QuestionJudge:
    """Asks for every attribute, and for every group, whether a picture shows what the plan's words say.

    Args:
        plan: what to ask for.
        folder: a model that transformers loads by AutoModelForImageTextToText and AutoProcessor, with a chat template.
        device: where it runs, in half precision unless that is the CPU.

    Raises:
        AuditError: no such model in the folder, or one that has no words for yes and no.
        ImportError: transformers is not installed.
    """

    def __init__(self, plan, folder, device="cpu"):
        kinds = "AutoModelForImageTextToText", "AutoProcessor"
        self.model, self.processor = load(folder, "a vision-language model", *kinds)
        self.device = torch.device(device)
        half = torch.float16 if self.device.type != "cpu" else None
        self.model.to(self.device, half).eval()
        self.name, self.groups = f"answers by {Path(folder).name}", tuple(plan.groups)
        self.group_words = [QUESTION.format(words) for words in plan.groups.values()]
        self.attributes = {name: QUESTION.format(shown) for name, (shown, _) in plan.attributes.items()}
        first = [self._first(answer) for answer in ANSWERS]
        self.words = [sorted(own - other) for own, other in (first, first[::-1])]  # both may begin by a space
        for answer, tokens in zip(ANSWERS, self.words):
            if not tokens:
                raise AuditError(
                    f"expected a model that can say {answer!r}, got one whose tokenizer cannot; use another"
                )

    def _first(self, answer):
        """The first tokens of an answer, however it is written."""
        tokenizer = self.processor.tokenizer
        written = {answer, answer.capitalize(), f" {answer}", f" {answer.capitalize()}"}
        first = {ids[0] for ids in (tokenizer(word, add_special_tokens=False).input_ids for word in written) if ids}
        return first - {tokenizer.unk_token_id}

    @torch.inference_mode()
    def answers(self, image, question):
        """Likelihoods of yes and of no, for one picture by PIL."""
        asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        text = self.processor.apply_chat_template(asked, add_generation_prompt=True)
        inputs = self.processor(images=[image], text=[text], return_tensors="pt")
        inputs = inputs.to(self.device, self.model.dtype)  # numbers alone: tokens stay whole
        likely = self.model(**inputs).logits[0, -1].float().softmax(0)
        return [float(likely[tokens].sum()) for tokens in self.words]

    def yes(self, image, question):
        """How likely yes is, beside no; NaN where the model did not answer."""
        yes, no = self.answers(image, question)
        return yes / (yes + no) if yes + no >= LEAST else np.nan

    def __call__(self, images):
        pictures = [Image.fromarray(to_pixels(image)) for image in images]
        asked = np.array([[self.yes(picture, words) for words in self.group_words] for picture in pictures])
        told = ~np.isnan(asked).all(1)
        best = np.nan_to_num(asked, nan=-1).argmax(1)
        sure = np.nan_to_num(asked, nan=0).max(1)
        shows = {
            name: [self.yes(picture, question) for picture in pictures] for name, question in self.attributes.items()
        }
        return {
            "seen": [self.groups[i] if likely > 0.5 else "" for i, likely in zip(best, sure)],
            "shows": {
                name: np.where(np.isnan(likely), np.nan, np.array(likely) > 0.5) for name, likely in shows.items()
            },
            "found": told,
            "confidence": sure,
        }
