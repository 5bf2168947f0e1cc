"""What an audit found: all of it as a dict for JSON, and as one picture."""

import io
import json
import platform
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .. import __version__
from ..files import replacing
from . import findings, harm
from .errors import by_prompts, kappa
from .lettering import lettering, lines, written
from .page import FLAG, page
from .table import LIMITS, both_judged
from .verdict import HARM, NOT_JUDGED, PASSED, decide, unjudged, verdict

BEFORE, AFTER = "#D55E00", "#0072B2"  # Okabe and Ito's palette: told apart by all kinds of sight, and in grey
PAIRS = 8  # same-seed pairs to show, per row


def told_apart(judges):
    """{name: judge}: judges of one name are numbered, and none is lost."""
    found = {}
    for judge in judges:
        names = (judge.name, *(f"{judge.name} ({number})" for number in range(2, len(judges) + 2)))
        found[next(name for name in names if name not in found)] = judge
    return found


def summarise(plan, tables, setting=None, limits=LIMITS, errors=None, since=None):
    """All findings of an audit.

    Args:
        plan: the `Plan`.
        tables: {judge's name: `Judged`}; the first decides, the others tell how far they agree with it.
        setting: hashes and versions to write down.
        errors: {attribute: `Errors`} of the first judge, from labelled pictures; others are told by prompts that state
            an attribute, and prompts that state its absence, where the plan has both.
        since: what `emergence.judged` returns.

    Returns:
        A dict for JSON: findings, verdict, exit, and by checkpoint what is behind them.
    """
    limits = LIMITS | limits
    (name, table), *others = tables.items()
    named, result = table.where(table.group != ""), {"findings": [], "checkpoints": {}}
    seen = {checkpoint: named.where(named.checkpoint == checkpoint) for checkpoint in plan.checkpoints}
    looked_for = plan.attributes, plan.asked
    errors = by_prompts(named, plan.asked) | (errors or {})
    sides = {
        checkpoint: findings.depiction(rows, *looked_for, errors, plan.reference) for checkpoint, rows in seen.items()
    }
    worsened = {checkpoint: harm.worsened(rows, *looked_for) for checkpoint, rows in seen.items()}
    facets = {checkpoint: findings.by_facet(rows, plan.facets, *looked_for) for checkpoint, rows in seen.items()}
    rows = [row for found, _ in (*sides.values(), *facets.values()) for row in found]
    decide(rows, sum(worsened.values(), []), limits)
    sentences, codes = [], []
    for checkpoint, rows in seen.items():
        found, corrected = sides[checkpoint]
        of_facets, corrected_facets = facets[checkpoint]
        neutral = table.where((table.group == "") & (table.checkpoint == checkpoint))
        not_judged = unjudged(rows, sides[checkpoint], neutral, limits, errors)
        told = of_facets + found, corrected_facets + corrected
        sentence, code = verdict(*told, worsened[checkpoint], not_judged)
        codes.append(code)
        sentences.append(sentence if len(plan.checkpoints) == 1 else f"{checkpoint}: {sentence}")
        result["findings"] += [{"checkpoint": checkpoint, **row} for row in found]
        result["checkpoints"][checkpoint] = {
            "corrected": [_without_p(row) for row in corrected],
            "facets": of_facets,
            "corrected_facets": [_without_p(row) for row in corrected_facets],
            "changes": [
                {"group": r["group"], "attribute": r["attribute"]}
                | findings.change(rows, r["attribute"], r["group"], plan.asked)
                for r in found
                if r["flagged"]
            ],
            "worsened": worsened[checkpoint],
            "not_judged": not_judged,
            "retention": findings.retention(rows),
            "consistency": findings.consistency(rows, plan.asked),
            "consistent": findings.consistent(rows, plan.asked),
            "content_kept": findings.content_kept(rows, plan.attributes),
            "distribution_distance": findings.distribution_distance(rows, plan.attributes),
            "quality": findings.by_group(rows, findings.mean_quality),
            "tone": findings.by_group(rows, findings.mean_tone),
            "diversity": findings.by_group(rows, findings.diversity),
            "parity": findings.parity(
                neutral, list(plan.groups), plan.target, findings.confusion(rows, list(plan.groups))
            ),
            "emergence": (since or {}).get(checkpoint, []),
            "scores": findings.by_group(rows, findings.score_curve) if rows.scores else {},
        }
    result["verdict"], result["exit"] = " ".join(sentences), min(codes, key=(HARM, NOT_JUDGED, PASSED).index)
    result["errors"] = {attribute: asdict(error) for attribute, error in errors.items()}
    result["disagreement"] = {other: disagreement(table, seen) for other, seen in others}
    result["kappa"] = {other: agreement(table, seen) for other, seen in others}
    sure = {judge: findings.calibration(seen) for judge, seen in tables.items()}
    result["calibration"] = {judge: found for judge, found in sure.items() if found is not None}
    result["setting"] = {
        "plan": plan.digest(), "checkpoints": plan.checkpoints, "groups": plan.groups, "prompts": plan.prompts,
        "neutral": plan.neutral, "attributes": plan.attributes, "asked": plan.asked, "reference": plan.reference,
        "target": plan.target, "sampling": plan.sampling,
        "judges": [name, *(other for other, _ in others)], "limits": limits, "rs_corrector": __version__,
        "torch": torch.__version__, "python": platform.python_version(),
    } | (setting or {})  # fmt: skip
    return result


def _without_p(row):
    return {name: value for name, value in row.items() if name != "p"}


def disagreement(one, other):
    """{group: {attribute: share of pictures that two judges see differently}}, and of the group itself.

    Of pictures that both judged; None where there are none.
    """
    found = {}
    for group in dict.fromkeys(one.group):
        rows = one.group == group
        found[group or "neutral"] = {a: _unlike(one.shows[a][rows], other.shows[a][rows]) for a in one.shows}
        both = rows & one.found & other.found
        found[group or "neutral"]["group"] = float(np.mean(one.seen[both] != other.seen[both])) if both.any() else None
    return found


def agreement(one, other):
    """{attribute: kappa}: how far two judges agree beyond chance, over all pictures that both judged."""
    return {attribute: kappa(one.shows[attribute], other.shows[attribute]) for attribute in one.shows}


def _unlike(one, other):
    unlike = np.not_equal(*both_judged(one, other))
    return float(unlike.mean()) if len(unlike) else None


def bars(axis, rows_before, rows_after, attribute, labels):
    """One attribute: its rate in every group with intervals, before and after."""
    groups = list(dict.fromkeys(r["group"] for r in rows_before))
    for offset, colour, hatch, rows in ((-0.2, BEFORE, "", rows_before), (0.2, AFTER, "//", rows_after)):
        own = {r["group"]: r for r in rows if r["attribute"] == attribute}
        if not own:
            continue
        rates, low, high = (
            np.array([100 * own[g][side] if own[g]["count"] else np.nan for g in groups])
            for side in ("rate", "low", "high")
        )
        axis.bar(
            np.arange(len(groups)) + offset, rates, 0.38, color=colour, hatch=hatch, edgecolor="white",
            yerr=np.clip([rates - low, high - rates], 0, None), ecolor="black", capsize=3,
        )  # fmt: skip
    flagged = {r["group"] for r in rows_before if r["attribute"] == attribute and r["flagged"]}
    ticks = ["\n".join(lines(labels[g], 36 // len(groups))) + FLAG * (g in flagged) for g in groups]
    axis.set_xticks(range(len(groups)), ticks)
    axis.set(title=labels[attribute], ylim=(0, 105), ylabel="% of pictures")
    axis.spines[["top", "right"]].set_visible(False)


def curves(axis, found, group):
    """The score of one group's pictures by noise level, before and after, with intervals."""
    for side, colour, dashes in (("before", BEFORE, "--"), ("after", AFTER, "-")):
        sigma, mean, low, high = ([p[key] for p in found[side]] for key in ("sigma", "value", "low", "high"))
        axis.semilogx(sigma, mean, dashes, color=colour, linewidth=2)
        axis.fill_between(sigma, low, high, color=colour, alpha=0.25, linewidth=0)
    axis.axhline(0, color="#999999", linewidth=1)
    axis.set(title=f"score, group {group}", xlabel="noise level", ylabel="positive is preferred")
    axis.spines[["top", "right"]].set_visible(False)


def shown(result):
    """Attributes worth a chart, those that stand out first."""
    flagged = [r["attribute"] for r in result["findings"] if r["flagged"]]
    return list(dict.fromkeys(flagged + [r["attribute"] for r in result["findings"]]))[:6]


def pairs(folder, group, checkpoint):
    """The same seeds without and with the correction: two batches (N, 3, H, W)."""
    units = [u for u in folder.plan.units() if (u.group, u.checkpoint) == (group, checkpoint)]
    return [folder.read(next(u for u in units if u.corrected == side))[:PAIRS] for side in (False, True)]


def targets(result, checkpoint):
    """The groups to show: where something stands out most, two at most, or the first."""
    rows = [r for r in result["findings"] if r["checkpoint"] == checkpoint]
    rows.sort(key=lambda r: (not r["flagged"], -abs(r["gap"] or 0)))
    return list(dict.fromkeys(r["group"] for r in rows if r["flagged"] or r is rows[0]))[:2]


def portraits(part, sides, title):
    """The same seeds, one row without and one with the corrector."""
    part.suptitle(title, fontsize=13)
    for row, (images, label, colour) in enumerate(zip(sides, ("without", "with"), (BEFORE, AFTER))):
        for column, image in enumerate(images):
            axis = part.add_subplot(2, PAIRS, row * PAIRS + column + 1)
            axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set(color=colour, linewidth=3)
            if column == 0:
                axis.set_ylabel(label, fontsize=13)


def sheet(folder, result):
    """The audit as one picture: the bytes of a PNG."""
    from matplotlib import rc_context

    families, labels = lettering([*folder.plan.groups, *folder.plan.attributes, *folder.plan.checkpoints])
    with rc_context({"font.family": families, "text.parse_math": False}):
        return _sheet(folder, result, labels)


def _sheet(folder, result, labels):
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    checkpoint, charts = folder.plan.checkpoints[0], shown(result)
    said = lines(written(result["verdict"], labels), 135)
    if any(label.startswith("#") for label in labels.values()):
        said.append("(# stands for a name that no font on this machine has; audit.html has all names.)")
    groups, scores = targets(result, checkpoint), result["checkpoints"][checkpoint]["scores"]
    scored = [group for group in groups if group in scores]
    rows = -(-(len(charts) + len(scored)) // 3)
    heights = [0.3 + 0.25 * len(said), *[3.0 for _ in groups], 2.6 * rows]
    figure = Figure(figsize=(15, 1.05 * sum(heights)), dpi=110, layout="constrained")
    top, *middle, lower = figure.subfigures(len(heights), 1, height_ratios=heights)
    top.text(0.01, 0.5, "\n".join(said), fontsize=14, va="center")
    for part, group in zip(middle, groups):
        portraits(part, pairs(folder, group, checkpoint), f"group {labels[group]}, the same seeds")
    after = result["checkpoints"][checkpoint]["corrected"]
    before = [r for r in result["findings"] if r["checkpoint"] == checkpoint]
    axes = lower.subplots(rows, 3, squeeze=False).flatten()
    for axis, attribute in zip(axes, charts):
        bars(axis, before, after, attribute, labels)
    for axis, group in zip(axes[len(charts) :], scored):
        curves(axis, scores[group], labels[group])
    for axis in axes[len(charts) + len(scored) :]:
        axis.set_axis_off()
    colours = {"without the corrector": (BEFORE, ""), "with it": (AFTER, "//")}
    handles = [Patch(facecolor=c, hatch=h, edgecolor="white", label=label) for label, (c, h) in colours.items()]
    lower.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=12, frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor="white")
    return file.getvalue()


def write(folder, result, out):
    """audit.json, audit.png and audit.html into a folder; returns the picture, by PIL."""
    out, png = Path(out), sheet(folder, result)
    with replacing(out / "audit.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    with replacing(out / "audit.png") as temporary:
        temporary.write_bytes(png)
    with replacing(out / "audit.html") as temporary:
        temporary.write_text(page(result, png), encoding="utf-8")
    return Image.open(io.BytesIO(png)).convert("RGB")
