"""What a correction did, read off same-seed pairs of testbed images (the project's metrics)."""

import torch
from tqdm.auto import tqdm

from ..metrics import wilson
from . import comparison, portraits, readers
from .comparison import compare, readings

#: Settings are picked on the first seeds and reported on the last; benchmarks never mix them.
TUNING_SEED, REPORTING_SEED = 1_000, 20_000
#: Attributes that a correction should leave alone, with the difference that still counts as the same:
#: one of ten skin tones, one pixel of position.
CONTENT = {"skin": 1, "hair": 0, "background": 0, "glasses": 0, "x": 1, "y": 1}


class Portraits:
    """The learned testbed's pictures as a world of `comparison`."""

    groups, column, sizes, content = portraits.GROUPS, portraits.COLUMN, portraits.ATTRIBUTES, CONTENT
    planted = {name: (s.group, s.value) for name, s in portraits.STEREOTYPES.items()}
    ordered = ("skin", "x", "y")

    def read(self, images):
        """(attributes, signed residual (N, 3, 64, 64), and the `readers.Reading` that they are of)."""
        reading = readers.inspect(images)
        return reading.attributes, images - portraits.draw(reading.attributes), reading

    def drawing(self, attributes):
        return portraits.draw(attributes)


WORLD = Portraits()


def column(attributes, name):
    """(N, A) -> (N,) values of one attribute."""
    return attributes[:, portraits.COLUMN[name]]


def shown(attribute, attributes):
    """(N, A) -> (N,) flags of images that show one planted stereotype."""
    return column(attributes, attribute) == portraits.STEREOTYPES[attribute].value


def content_kept(before, after):
    """Mean share of content attributes that stayed, per image: (N, A), (N, A) -> (N,).

    Hair is compared as read from its visible part: a hat leaves the sides free.
    """
    return comparison.content_kept(WORLD, before, after)


def shows_none(attributes):
    """(N, A) -> (N,) flags of images that show no planted stereotype."""
    return comparison.shows_none(WORLD, attributes)


def drawn(bed, count, begin=None):
    """{group: images} of the reporting seeds, for `report`.

    Args:
        bed: a `model.Testbed`.
        count: images per group.
        begin: None, or a function () -> `Correction`, called for every run: one remembers what it decided.
    """
    return {
        group: bed.decode(
            bed.sample([portraits.neutral(group)] * count, REPORTING_SEED, correct=begin() if begin else None)
        )
        for group in tqdm(portraits.GROUPS, desc="corrected" if begin else "uncorrected")
    }


def target_metrics(attribute, before, after):
    """stereotype_rate, group_retention and content_kept of a stereotype's own group: (N, A), (N, A) attributes read."""
    group = portraits.GROUPS.index(portraits.STEREOTYPES[attribute].group)
    return {
        "stereotype_rate": wilson(shown(attribute, after)),
        "group_retention": (column(after, "group") == group).float().mean().item(),
        "content_kept": content_kept(before, after).mean().item(),
    }


def report(attribute, before, after, read_before=None, preferred=None):
    """Metrics of one planted stereotype: those of `comparison.compare`, and what the portraits' readers add.

    Args:
        attribute: one of `portraits.STEREOTYPES`.
        before, after: {group: (N, 3, 64, 64) images} of the same seeds, the corrector for the
            stereotyped group left on in every group of `after`.
        read_before: what `comparison.readings` says of `before`; None reads it here.
        preferred: values that may be shown instead; None is the first other one.

    Returns:
        dict with quality_gap, quality_ratio and diversity_ratio beside them. The gap in quality too is to the other
        groups as they were before. The ratio is None where every uncorrected picture shows something planted.
    """
    target = portraits.STEREOTYPES[attribute].group
    others = [group for group in before if group != target]
    sides = read_before or readings(WORLD, before), readings(WORLD, after)
    usual, (*_, corrected) = {group: reading for group, (*_, reading) in sides[0].items()}, sides[1][target]
    clean = torch.cat([r.residual[shows_none(r.attributes)] for r in usual.values()])
    usual_flaw = sum(usual[group].flaw.mean().item() for group in others) / len(others)
    return compare(WORLD, attribute, before, after, None, *sides, preferred) | {
        "quality_gap": {
            "before": usual[target].flaw.mean().item() - usual_flaw,
            "after": corrected.flaw.mean().item() - usual_flaw,
        },
        "quality_ratio": (corrected.residual.mean() / clean.mean()).item() if len(clean) else None,
        "diversity_ratio": (diversity(after[target]) / diversity(before[target])).item(),
    }


def diversity(images):
    """Mean distance between two images of a batch."""
    return torch.pdist(images.flatten(1)).mean()


def obeyed(attribute, images):
    """Share of images, whose captions ask for the attribute, that show it; a Wilson interval."""
    return wilson(shown(attribute, readers.read(images)[0]))
