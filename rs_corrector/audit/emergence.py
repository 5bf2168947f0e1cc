"""At which step of sampling attributes show: the judge looks at what is predicted of the finished picture at each.

What shows early is decided where noise is strong, and what shows late may be left to the last steps. The first batch of
every prompt and group is drawn once more, and what is predicted at its steps is kept beside the pictures, marked like
them.
"""

from functools import partial

import numpy as np

from .findings import SIDES
from .plan import stated

#: Steps that are looked at, evenly; of a run of fewer steps all are.
MOST = 20


def looked_at(steps):
    """Numbers, from 1, of the steps that are looked at of so many; the last is one of them."""
    return sorted({round(step) for step in np.linspace(1, steps, min(steps, MOST))})


def watched(plan, units=None):
    """Of some units those that are watched: the first batch of every prompt, of every group and side."""
    first = {}
    for unit in plan.units():
        if unit.group:
            first.setdefault((unit.checkpoint, unit.prompt, unit.group, unit.corrected), unit)
    return [unit for unit in (plan.units() if units is None else units) if unit in first.values()]


def draw(folder, sample, units=None, progress=lambda done, total: None):
    """Draw what is watched and not there yet.

    Args:
        sample: function (unit, see) that draws a unit and calls see(step, images) at every step, from 1, with
            predicted pictures, (N, 3, H, W) RGB in 0..1.
        units: of the folder's plan; None is all of them.
        progress: as of `run.draw`.
    """
    steps, units, done = looked_at(folder.plan.sampling["steps"]), watched(folder.plan, units), 0

    def keep(unit, step, images):
        if step in steps:
            folder.write(unit, images, step)

    for unit in units:
        if not all(folder.has(unit, step) for step in steps):
            sample(unit, partial(keep, unit))
        done += unit.size
        progress(done, sum(unit.size for unit in units))


def judged(folder, judge, progress=lambda done, total: None):
    """Since when attributes show, in the pictures that show them in the end.

    Returns:
        {checkpoint: [{"group", "attribute", "before", "after"}]}, both sides {"step", "early", "late", "count"} or
        None: median and quartiles of the number of the step, from 1, since which a picture shows it to the end. A
        prompt that asks for an attribute does not count for it. Empty where nothing was drawn for it.
    """
    plan, since = folder.plan, {}
    steps = looked_at(plan.sampling["steps"])
    units = [unit for unit in watched(plan) if all(folder.has(unit, step) for step in steps)]
    for done, unit in enumerate(units, 1):
        seen = [judge(folder.read(unit, step))["shows"] for step in steps]
        for attribute in set(plan.attributes) & seen[0].keys():
            if stated(plan.asked.get(unit.prompt, ""))[0] != attribute:
                found = shown_since(np.stack([np.asarray(each[attribute], float) for each in seen]))
                key = unit.checkpoint, unit.group, attribute, SIDES[unit.corrected]
                since.setdefault(key, []).extend(steps[int(place)] for place in found[~np.isnan(found)])
        progress(done, len(units))
    return {
        checkpoint: [
            {"group": group, "attribute": attribute}
            | {side: _middle(since.get((checkpoint, group, attribute, side))) for side in SIDES}
            for attribute in plan.attributes
            for group in plan.groups
        ]
        for checkpoint in plan.checkpoints
        if units
    }


def shown_since(shown):
    """(S, N) of 1 shown, 0 not shown, NaN not judged -> (N,) places since which it is shown to the end, or NaN."""
    lasting = np.logical_and.accumulate(shown[::-1] == 1).sum(0)
    return np.where(lasting > 0, len(shown) - lasting, np.nan)


def _middle(steps):
    if not steps:
        return None
    early, median, late = np.quantile(steps, (0.25, 0.5, 0.75))
    return {"step": float(median), "early": float(early), "late": float(late), "count": len(steps)}
