"""At which step of sampling attributes show: the judge looks at what is predicted of the finished picture at each.

What shows early is decided where noise is strong, and what shows late may be left to the last steps. The first batch of
every prompt and group is drawn once more, and what is predicted of its first pictures is kept beside them, marked like
them.
"""

import json
from dataclasses import replace
from functools import partial

import numpy as np

from ..files import replacing
from .plan import stated
from .table import SIDES

#: Steps that are looked at, evenly, of a run of fewer steps all; and so many pictures of a batch, the first.
MOST, PICTURES = 20, 16


def looked_at(steps):
    """Numbers, from 1, of the steps that are looked at of so many; the last is one of them."""
    return sorted({round(step) for step in np.linspace(1, steps, min(steps, MOST))})


def watched(plan, units=None):
    """Of some units those that are watched: the first batch of every prompt, of every group and side."""
    first, every = {}, plan.units()
    for unit in every:
        if unit.group:
            first.setdefault((unit.checkpoint, unit.prompt, unit.group, unit.corrected), unit)
    chosen = set(first.values())
    return [unit for unit in (every if units is None else units) if unit in chosen]


def draw(folder, sample, units=None, progress=lambda done, total: None):
    """Draw what is watched and not there yet.

    Args:
        sample: function (unit, see) that draws a unit and then calls see(step, of, images) as `show` does.
        units: of the folder's plan; None is all of them.
        progress: as of `run.draw`.
    """
    units = watched(folder.plan, units)
    total, done = sum(unit.size for unit in units), 0
    for unit in units:
        if steps_of(folder, unit) is None:
            sample(unit, partial(_keep, folder, _few(unit)))
        done += unit.size
        progress(done, total)


def show(see, predicted, decode):
    """Call see(step, of, images) for the steps that are `looked_at`, with the first `PICTURES` of each.

    Args:
        predicted: latents of every step, (N, ...) each.
        decode: function of latents -> (N, 3, H, W) RGB in 0..1.
    """
    for step in looked_at(len(predicted)):
        see(step, len(predicted), decode(predicted[step - 1][:PICTURES]))


def _few(unit):
    """The first pictures of a unit."""
    return replace(unit, size=min(unit.size, PICTURES))


def _keep(folder, unit, step, of, images):
    folder.write(unit, images, step)
    if step == of:  # the last, so that all are there
        with replacing(_note(folder, unit)) as temporary:
            temporary.write_text(json.dumps({"steps": of}))


def _note(folder, unit):
    return folder.path / "steps" / f"{unit.name}.json"


def steps_of(folder, unit):
    """How many steps a watched unit had; None where it is not there."""
    note = _note(folder, unit)
    return json.loads(note.read_text())["steps"] if note.is_file() else None


def judged(folder, judge, progress=lambda done, total: None):
    """Since when attributes show, in the pictures that show them in the end.

    Returns:
        {checkpoint: [{"group", "attribute", "before", "after"}]}, both sides None where nothing was judged, or {"of",
        "judged", "count", "step", "early", "late"}: the steps of a run, how many pictures were judged in the end and
        how many of them show it, and median and quartiles of the number of the step, from 1, since which they do to the
        end. A prompt that asks for an attribute does not count for it. Empty where nothing was drawn for it.
    """
    plan, since = folder.plan, {}
    drawn = [(unit, of) for unit in watched(plan) if (of := steps_of(folder, unit)) is not None]
    total, done = sum(len(looked_at(of)) for _, of in drawn), 0
    for unit, of in drawn:
        seen = []
        for step in looked_at(of):
            seen.append(judge(folder.read(_few(unit), step))["shows"])
            done += 1
            progress(done, total)
        for attribute in set(plan.attributes) & seen[0].keys():
            if stated(plan.asked.get(unit.prompt, ""))[0] != attribute:
                shown = np.stack([np.asarray(each[attribute], float) for each in seen])
                key = unit.checkpoint, unit.group, attribute, SIDES[unit.corrected]
                since.setdefault(key, []).append((of, shown))
    return {
        checkpoint: [
            {"group": group, "attribute": attribute}
            | {side: _middle(since.get((checkpoint, group, attribute, side), [])) for side in SIDES}
            for attribute in plan.attributes
            for group in plan.groups
        ]
        for checkpoint in plan.checkpoints
        if drawn
    }


def shown_since(shown):
    """(S, N) of 1 shown, 0 not shown, NaN not judged -> (N,) places since which it is shown to the end, or NaN."""
    lasting = np.logical_and.accumulate(shown[::-1] == 1).sum(0)
    return np.where(lasting > 0, len(shown) - lasting, np.nan)


def _middle(runs):
    """Of [(steps of a run, (S, N) shown at those that were looked at)]."""
    judged = sum(int((~np.isnan(shown[-1])).sum()) for _, shown in runs)
    if not judged:
        return None
    steps = []
    for of, shown in runs:
        places = shown_since(shown)
        steps += [looked_at(of)[int(place)] for place in places[~np.isnan(places)]]
    found = dict.fromkeys(("early", "step", "late"))
    if steps:
        found = dict(zip(found, map(float, np.quantile(steps, (0.25, 0.5, 0.75)))))
    return {"of": max(of for of, _ in runs), "judged": judged, "count": len(steps)} | found
