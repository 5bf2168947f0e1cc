"""What a correction did, read off same-seed pairs of testbed images (the project's metrics)."""

import torch
from tqdm.auto import tqdm

from ..metrics import wilson
from . import portraits, readers

#: Settings are picked on the first seeds and reported on the last; benchmarks never mix them.
TUNING_SEED, REPORTING_SEED = 1_000, 20_000
#: Attributes that a correction should leave alone, with the difference that still counts as the same:
#: one of ten skin tones, one pixel of position.
CONTENT = {"skin": 1, "hair": 0, "background": 0, "glasses": 0, "x": 1, "y": 1}


def column(attributes, name):
    """(N, A) -> (N,) values of one attribute."""
    return attributes[:, portraits.COLUMN[name]]


def content_kept(before, after, without=()):
    """Mean share of content attributes that stayed, per image: (N, A), (N, A) -> (N,).

    Hair is compared as read from its visible part: a hat leaves the sides free.
    """
    same = [
        (column(before, name) - column(after, name)).abs() <= tolerance
        for name, tolerance in CONTENT.items()
        if name not in without
    ]
    return torch.stack(same).float().mean(0)


def shows_none(attributes):
    """(N, A) -> (N,) flags of images that show no planted stereotype."""
    return sum(column(attributes, name) for name in portraits.STEREOTYPES) == 0


def drawn(bed, count, correct=None):
    """{group: images} of the reporting seeds, for `report`.

    Args:
        bed: a `model.Testbed`.
        count: images per group.
        correct: None, or a function (x, sigma, denoised) -> denoised.
    """
    return {
        group: bed.decode(bed.sample([portraits.neutral(group)] * count, REPORTING_SEED, correct=correct))
        for group in tqdm(portraits.GROUPS, desc="corrected" if correct else "uncorrected")
    }


def target_metrics(attribute, before, after):
    """stereotype_rate, group_retention and content_kept of a stereotype's own group: (N, A), (N, A) attributes read."""
    group = portraits.GROUPS.index(portraits.STEREOTYPES[attribute][0])
    return {
        "stereotype_rate": wilson(column(after, attribute) == 1),
        "group_retention": (column(after, "group") == group).float().mean().item(),
        "content_kept": content_kept(before, after).mean().item(),
    }


def report(attribute, before, after):
    """Metrics of one planted stereotype.

    Args:
        attribute: "hat" or "distorted".
        before, after: {group: (N, 3, 64, 64) images} of the same seeds, the corrector for the
            stereotyped group left on in every group of `after`.

    Returns:
        dict with stereotype_rate, stereotype_gap, quality_gap, group_retention, content_kept, others_content_kept,
        collateral_change, quality_ratio and diversity_ratio. Both gaps are to the other groups as they were before, so
        that harm done to them closes none. collateral_change is None where nothing that needed it was changed.
    """
    target = portraits.STEREOTYPES[attribute][0]
    others = [group for group in before if group != target]
    read, residual, flaw = {}, {}, {}
    for side, pictures in (("before", before), ("after", after)):
        readings = {group: readers.inspect(images) for group, images in pictures.items()}
        read[side] = {group: reading.attributes for group, reading in readings.items()}
        residual[side] = {group: reading.residual for group, reading in readings.items()}
        flaw[side] = {group: reading.flaw.mean().item() for group, reading in readings.items()}
    shows = {group: column(rows, attribute) == 1 for group, rows in read["before"].items()}
    rates = {
        side: {group: wilson(column(rows, attribute) == 1) for group, rows in groups.items()}
        for side, groups in read.items()
    }
    change = {group: (after[group] - before[group]).abs().mean((1, 2, 3)) for group in before}
    own = target_metrics(attribute, read["before"][target], read["after"][target])
    others_kept = [content_kept(read["before"][group], read["after"][group]) for group in others]
    corrected = change[target][shows[target]].mean().item()
    needless = torch.cat([change[target][~shows[target]], *(change[group] for group in others)])
    usual_residual = torch.cat(
        [residual["before"][group][shows_none(rows)] for group, rows in read["before"].items()]
    ).mean()

    def usual(values):
        return sum(values[group] for group in others) / len(others)

    typical = usual({group: rates["before"][group]["value"] for group in others})
    return {
        "stereotype_rate": {side: rates[side][target] for side in rates},
        "stereotype_gap": {side: rates[side][target]["value"] - typical for side in rates},
        "quality_gap": {side: flaw[side][target] - usual(flaw["before"]) for side in flaw},
        "group_retention": own["group_retention"],
        "content_kept": own["content_kept"],
        "others_content_kept": torch.cat(others_kept).mean().item(),
        "collateral_change": needless.mean().item() / corrected if corrected > 0 else None,
        "quality_ratio": (residual["after"][target].mean() / usual_residual).item(),
        "diversity_ratio": (diversity(after[target]) / diversity(before[target])).item(),
    }


def diversity(images):
    """Mean distance between two images of a batch."""
    return torch.pdist(images.flatten(1)).mean()


def obeyed(attribute, images):
    """Share of images, whose captions ask for the attribute, that show it; a Wilson interval."""
    return wilson(column(readers.read(images)[0], attribute) == 1)
