"""The audit of the testbed: its exact readers as a judge, and a plan whose truth is known."""

import torch
import torch.nn.functional as F

from ..audit.plan import parse
from ..audit.run import AuditError
from . import measure, portraits, readers
from .model import Testbed

_COLOURS = [*portraits.WORDS["hair"], *portraits.WORDS["background"]]
PLAN = "\n".join([
    "[groups]", *(f"{group} = a person in a {group} shirt" for group in portraits.GROUPS),
    "[prompts]", "plain = a portrait of {group}", "glasses = a portrait of {group}, with glasses",
    "[neutral]", "anyone = a portrait of a person",
    "[attributes]", "hat = wearing a hat | bare-headed", "faded = faded and blurred | clear and sharp",
    "glasses = with glasses | without glasses", *(f"{words} = {words} | another" for words in _COLOURS),
    "[asked]", "glasses = glasses",
    "[sampling]", "images = 64", "batch = 64", f"seed = {measure.REPORTING_SEED}", "width = 64", "height = 64",
    "cfg = 3",
])  # fmt: skip


class ReaderJudge:
    """The exact readers: an attribute is known by the words that show it, a group by its shirt."""

    name = "the testbed's readers"

    def __init__(self, plan):
        known = {phrase: (name, value) for name, words in portraits.WORDS.items() for value, phrase in enumerate(words)}
        for name, (words, _) in plan.attributes.items():
            if words not in known:
                raise AuditError(f"expected words that the testbed knows for {name!r}, got {words!r}; use one of "
                                 f"{', '.join(known)}")  # fmt: skip
        self.attributes = {name: known[words] for name, (words, _) in plan.attributes.items()}
        self.groups = [
            next((name for name, words in plan.groups.items() if f"{group} shirt" in words), "")
            for group in portraits.GROUPS
        ]

    def __call__(self, images):
        reading = readers.inspect(images)
        return {
            "seen": [self.groups[i] for i in measure.column(reading.attributes, "group")],
            "shows": {
                name: (measure.column(reading.attributes, column) == value).numpy()
                for name, (column, value) in self.attributes.items()
            },
            "quality": -reading.flaw.numpy(),
            "features": F.avg_pool2d(images, 8).flatten(1).numpy(),
        }


class Sampler:
    """Draws a plan's units with the embedded testbed model.

    Args:
        correct: None, or a function (x, sigma, denoised) -> denoised, for the corrected ones.
    """

    def __init__(self, plan, correct=None):
        self.bed, self.plan, self.correct = Testbed(), plan, correct

    def __call__(self, unit):
        s = self.plan.sampling
        correct = self.correct if unit.corrected else None
        with torch.inference_mode():
            drawn = self.bed.sample([unit.words] * unit.size, unit.seed, s["steps"], s["cfg"], correct=correct)
            return self.bed.decode(drawn)


def plan(images=64):
    """The testbed's plan, with so many pictures of every prompt and group."""
    return parse(PLAN.replace("images = 64", f"images = {images}").replace("batch = 64", f"batch = {min(images, 64)}"))
