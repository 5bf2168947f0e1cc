"""The audit of the testbed: its exact readers as a judge, its model as the sampler, a plan whose truth is known."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from .. import weights
from ..audit.emergence import show
from ..audit.plan import EXAMPLE, parse
from ..audit.run import AuditError
from ..audit.tone import typology_angle
from . import measure, portraits, readers
from .model import Testbed, choosing


class ReaderJudge:
    """The exact readers: an attribute is known by the words that show it, a group by its shirt."""

    name = "the testbed's readers"

    def __init__(self, plan):
        known = {phrase: (name, value) for name, words in portraits.WORDS.items() for value, phrase in enumerate(words)}
        for name, (words, _) in plan.attributes.items():
            if words not in known:
                raise AuditError(f"expected words that the testbed knows for {name!r}, got {words!r}; use one of "
                                 f"{', '.join(known)}, or a judge of other pictures")  # fmt: skip
        self.attributes = {name: known[words] for name, (words, _) in plan.attributes.items()}
        self.called = [
            next((name for name, words in plan.groups.items() if f"{group} shirt" in words), "")
            for group in portraits.GROUPS
        ]
        self.groups = tuple(name for name in self.called if name)

    def __call__(self, images):
        reading = readers.inspect(images)
        return {
            "seen": [self.called[i] for i in measure.column(reading.attributes, "group")],
            "shows": {
                name: (measure.column(reading.attributes, column) == value).numpy()
                for name, (column, value) in self.attributes.items()
            },
            "quality": -reading.flaw.numpy(),
            "tone": typology_angle(portraits.PALETTES["skin"][measure.column(reading.attributes, "skin")].numpy()),
            "features": F.avg_pool2d(images, 8).flatten(1).numpy(),
        }


class Sampler:
    """Draws a plan's units with the embedded testbed model, by Euler's method at its own noise levels and size.

    Args:
        begin: None, or a function (unit) -> (x, sigma, denoised) -> denoised, called for every corrected unit.

    Raises:
        AuditError: the plan states anything else.
    """

    def __init__(self, plan, begin=None):
        for name, own in {"sampler": "euler", "scheduler": "normal", "width": 64, "height": 64, "negative": ""}.items():
            if name in plan.stated and plan.sampling[name] != own:
                raise AuditError(
                    f"expected {name} = {own}, as the embedded testbed has it, got {plan.sampling[name]!r}; correct "
                    "the plan, or take --workflow and a ComfyUI"
                )
        self.bed, self.plan, self.begin = Testbed(), plan, begin

    def __call__(self, unit, see=None):
        s = self.plan.sampling
        correct = self.begin(unit) if self.begin and unit.corrected else None
        predicted = []

        def followed(x, sigma, denoised):
            predicted.append(correct(x, sigma, denoised) if correct else denoised)
            return predicted[-1]

        hook = followed if see else correct
        with torch.inference_mode():
            drawn = self.bed.sample([unit.words] * unit.size, unit.seed, s["steps"], s["cfg"], correct=hook)
            if see:
                show(see, predicted, self.bed.decode)
            return self.bed.decode(drawn)


def testbed_sampler(plan):
    """The embedded testbed model, the shipped corrector on for all of its groups at once."""
    corrector = weights.load(weights.SHIPPED)

    def begin(unit):
        corrections = [choosing(corrector, group, unit.size, unit.seed) for group in corrector.config.groups]

        def correct(x, sigma, denoised):  # all read the prediction as it was, as several Applies do
            return denoised + sum(correction(x, sigma, denoised) - denoised for correction in corrections)

        return correct

    return Sampler(plan, begin)


def plan(images=64):
    """A plan whose truth is known, with so many pictures of every prompt and group."""
    example = parse(EXAMPLE)
    sampling = {"images": images, "batch": min(images, 64), "seed": measure.REPORTING_SEED}
    return replace(example, sampling=example.sampling | sampling)
