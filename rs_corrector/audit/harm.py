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
    known = [group for group in named.named if named.can_tell(group)]
    seen = named.cube(named.seen == named.group)
    rows += _own("recognised", seen, named.named, lambda b, a: b - a, lambda change: sign_flip(-change), known)
    if named.quality is not None:
        spread = float(np.nanstd(named.quality[~named.corrected])) or 1.0
        rows += _gaps("quality", named.cube(named.quality / spread), named.named, t_test)
    if named.tone is not None:
        tone = named.cube(named.tone)
        rows += _own("tone", tone, named.named, lambda b, a: abs(a - b), lambda d: apart(t_test, d, 0 * d[:, None]))
    if named.features is not None:
        distance = named.cube(distances(named))
        rows += _own("diversity", distance, named.named, lambda b, a: 1 - a / b if b else 0.0, lambda d: t_test(-d))
    return [row for row in rows if row is not None]


def _own(what, cube, groups, worse, test, told=None):
    """Whether something of each group's own changed: worse is of (before, after), the test of paired differences."""
    for g, group in enumerate(groups):
        if told is None or group in told:
            before, after = mean_of(cube)[g]
            yield _row(what, group, before, after, worse(before, after), test(cube[:, g, 1] - cube[:, g, 0]))


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
