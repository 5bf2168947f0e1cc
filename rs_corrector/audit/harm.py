"""What a correction may have made worse: pictures of the same noise, without and with it."""

import numpy as np

from .comparisons import apart, reference, sign_flip, t_test
from .findings import distances, freely, mean_of

#: What is said to have got worse, and the limit that each may get worse by.
WORSE = {
    "gap": "gap_growth",
    "recognised": "retention_loss",
    "quality": "quality_gap_growth",
    "diversity": "diversity_loss",
    "tone": "tone_change",
}


def worsened(judged, attributes, asked=None):
    """What a correction may have made worse, each with a paired test of its having changed at all.

    Returns:
        [{"what", "group", "attribute", "before", "after", "worse", "p"}]: what is a name of `WORSE`; before and after a
        gap of rates, the share that is seen as the group that was asked for, the gap of quality in standard deviations
        of uncorrected pictures, the mean distance of two pictures of a prompt, or the typology angle of skin; worse by
        how much, of diversity as a share; p is not corrected for the number of comparisons.
    """
    named = judged.where(judged.group != "")
    if not named.corrected.any() or named.corrected.all():
        return []
    rows = []
    for attribute in attributes:
        free = freely(named, attribute, asked)
        rows += _gaps("gap", free.cube(free.shows[attribute]), named.named, sign_flip, attribute)
    seen = named.cube(named.seen == named.group)
    for g, group in enumerate(named.named):
        if named.groups is None or group in named.groups:
            before, after = mean_of(seen)[g]
            p = sign_flip(seen[:, g, 0] - seen[:, g, 1])
            rows.append(_row("recognised", group, before, after, before - after, p))
    if named.quality is not None:
        spread = float(np.nanstd(named.quality[~named.corrected])) or 1.0
        rows += _gaps("quality", named.cube(named.quality / spread), named.named, t_test)
    if named.tone is not None:
        tone = named.cube(named.tone)
        for g, group in enumerate(named.named):
            before, after = mean_of(tone)[g]
            p = apart(t_test, tone[:, g, 1], tone[:, g, :1])
            rows.append(_row("tone", group, before, after, abs(after - before), p))
    if named.features is not None:
        distance = named.cube(distances(named))
        for g, group in enumerate(named.named):
            before, after = mean_of(distance)[g]
            p = t_test(distance[:, g, 0] - distance[:, g, 1])
            rows.append(_row("diversity", group, before, after, 1 - after / before if before else 0.0, p))
    return [row for row in rows if row is not None]


def _gaps(what, cube, groups, test, attribute=None):
    """Whether gaps to the typical group grew: difference in differences, of pictures from the same noise."""
    means = mean_of(cube)
    for g, group in enumerate(groups):
        if middle := reference(means[:, 0], g):
            before, after = means[g] - means[middle].mean(0)
            changed = cube[..., 1] - cube[..., 0]
            p = apart(test, changed[:, g], changed[:, middle])
            yield _row(what, group, before, after, abs(after) - abs(before), p, attribute)


def _row(what, group, before, after, worse, p, attribute=None):
    if np.isnan(before + after):
        return None
    row = {"what": what, "group": group, "attribute": attribute, "before": before, "after": after, "worse": worse}
    return {name: float(v) if isinstance(v, np.floating) else v for name, v in row.items()} | {"p": p}
