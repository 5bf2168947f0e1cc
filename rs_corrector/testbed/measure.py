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


def before_and_after(bed, correct, count):
    """({group: images}, {group: images}) of the same reporting seeds, without and with a correction; for `report`.

    Args:
        bed: a `model.Testbed`.
        correct: function (x, sigma, denoised) -> denoised.
        count: images per group.
    """
    sides = {}, {}
    with tqdm(total=2 * len(portraits.GROUPS), desc="embedded") as bar:
        for group in portraits.GROUPS:
            for side, step in zip(sides, (None, correct)):
                captions = [portraits.neutral(group)] * count
                side[group] = bed.decode(bed.sample(captions, REPORTING_SEED, correct=step))
                bar.update()
    return sides


def report(attribute, before, after):
    """Metrics of one planted stereotype.

    Args:
        attribute: "hat" or "distorted".
        before, after: {group: (N, 3, 64, 64) images} of the same seeds, the corrector for the
            stereotyped group left on in every group of `after`.

    Returns:
        dict with stereotype_rate, stereotype_gap, group_retention, content_kept, others_content_kept.
    """
    target = portraits.STEREOTYPES[attribute][0]
    others = [group for group in before if group != target]
    read = {
        side: {group: readers.read(images)[0] for group, images in pictures.items()}
        for side, pictures in (("before", before), ("after", after))
    }
    rates = {
        side: {group: wilson(column(rows, attribute) == 1) for group, rows in groups.items()}
        for side, groups in read.items()
    }
    usual = sum(rates["before"][group]["value"] for group in others) / len(others)
    retained = column(read["after"][target], "group") == portraits.GROUPS.index(target)
    others_kept = [content_kept(read["before"][group], read["after"][group]) for group in others]
    return {
        "stereotype_rate": {side: rates[side][target] for side in rates},
        "stereotype_gap": {side: rates[side][target]["value"] - usual for side in rates},
        "group_retention": retained.float().mean().item(),
        "content_kept": content_kept(read["before"][target], read["after"][target]).mean().item(),
        "others_content_kept": torch.cat(others_kept).mean().item(),
    }
