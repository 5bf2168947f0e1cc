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
        dict with stereotype_rate, stereotype_gap, quality_gap, group_retention, content_kept, others_content_kept,
        collateral_change, quality_ratio and diversity_ratio. Both gaps are to the other groups as they were before, so
        that harm done to them closes none. collateral_change is None where nothing that needed it was changed.
    """
    target = portraits.STEREOTYPES[attribute][0]
    others = [group for group in before if group != target]
    read, residual, flaw = {}, {}, {}
    for side, pictures in (("before", before), ("after", after)):
        both = {group: readers.read(images) for group, images in pictures.items()}
        read[side] = {group: rows for group, (rows, _) in both.items()}
        residual[side] = {group: distance for group, (_, distance) in both.items()}
        flaw[side] = {group: readers.read(images, clear=True)[1].mean().item() for group, images in pictures.items()}
    shows = {group: column(rows, attribute) == 1 for group, rows in read["before"].items()}
    rates = {
        side: {group: wilson(column(rows, attribute) == 1) for group, rows in groups.items()}
        for side, groups in read.items()
    }
    change = {group: (after[group] - before[group]).abs().mean((1, 2, 3)) for group in before}
    retained = column(read["after"][target], "group") == portraits.GROUPS.index(target)
    others_kept = [content_kept(read["before"][group], read["after"][group]) for group in others]
    corrected = change[target][shows[target]].mean().item()
    needless = torch.cat([change[target][~shows[target]], *(change[group] for group in others)])
    clear = {
        group: sum(column(rows, name) for name in portraits.STEREOTYPES) == 0 for group, rows in read["before"].items()
    }
    usual_residual = torch.cat([residual["before"][group][clear[group]] for group in before]).mean()

    def usual(values):
        return sum(values[group] for group in others) / len(others)

    typical = usual({group: rates["before"][group]["value"] for group in others})
    return {
        "stereotype_rate": {side: rates[side][target] for side in rates},
        "stereotype_gap": {side: rates[side][target]["value"] - typical for side in rates},
        "quality_gap": {side: flaw[side][target] - usual(flaw["before"]) for side in flaw},
        "group_retention": retained.float().mean().item(),
        "content_kept": content_kept(read["before"][target], read["after"][target]).mean().item(),
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
