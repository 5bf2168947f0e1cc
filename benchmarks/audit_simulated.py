"""Audits of simulated pictures, whose truth is known and of which there is no end.

Four groups, two prompts, two attributes. Groups share the noise they begin from: whether a picture shows an attribute
is a normal number, `SHARED` of whose variance is that of its noise, below the quantile of its group's rate. One
attribute has a gap of .4 in one group, one has none; rates are drawn anew for every audit, between .1 and .9. A
correction that does nothing draws a share of the pictures again. A judge is wrong about each attribute and each group
of a picture with the same chance, by a coin of that picture's own, which the same picture does not toss again.
"""

from math import gamma

import numpy as np
from scipy.stats import norm

from rs_corrector.audit import findings, harm
from rs_corrector.audit.table import LIMITS, Judged
from rs_corrector.audit.verdict import decide, unjudged, verdict

GROUPS, PROMPTS, ATTRIBUTES = ("a", "b", "c", "d"), ("one", "two"), ("planted", "even")
SHARED, GAP, FEATURES = 0.3, 0.4, 8
ACCURACIES = (1.0, 0.95, 0.9, 0.8)
REDRAWN = (0.1, 0.3)
#: Harm of known size: what is said of it, in which group, of which attribute.
HARM = {"retention": ("recognised", "b", None), "gap": ("gap", "c", "even"), "diversity": ("diversity", "d", None)}
LOST, GROWN, CLOSER = 0.15, 0.2, 0.3
#: Mean distance of two points that are standard normal.
APART = 2 * gamma((FEATURES + 1) / 2) / gamma(FEATURES / 2)


def rates(generator):
    """(groups, attributes): the first attribute with a gap in group a, the second the same in all."""
    planted, even = generator.uniform(0.1, 0.9 - GAP), generator.uniform(0.1, 0.7)
    found = np.array([[planted, even]] * len(GROUPS))
    found[0, 0] += GAP
    return found


def drawn(generator, rate, noises):
    """Pictures as they are, and a judge's coins: arrays (noises, groups, ...) by name."""
    common = generator.normal(size=(noises, 1, len(ATTRIBUTES)))
    own = generator.normal(size=(noises, *rate.shape))
    z = SHARED**0.5 * common + (1 - SHARED) ** 0.5 * own
    return {
        "shows": z < norm.ppf(rate),
        "seen": np.broadcast_to(np.arange(len(GROUPS)), (noises, len(GROUPS))).copy(),
        "features": generator.normal(size=(noises, len(GROUPS), FEATURES)),
        "coins": generator.random((noises, len(GROUPS), len(ATTRIBUTES) + 1)),
        "other": generator.integers(1, len(GROUPS), (noises, len(GROUPS))),
    }


def again(generator, before, rate, share):
    """The same pictures, a share of them drawn again."""
    after, new = {}, drawn(generator, rate, len(before["seen"]))
    redrawn = generator.random(before["seen"].shape) < share
    for name, values in before.items():
        flags = redrawn.reshape(*redrawn.shape, *[1] * (values.ndim - 2))
        after[name] = np.where(flags, new[name], values)
    return after


def harmed(generator, after, kind, rate):
    """Pictures after a correction that does harm of one kind."""
    _, group, attribute = HARM[kind]
    g, chance = GROUPS.index(group), generator.random(len(after["seen"]))
    if kind == "retention":
        after["seen"][:, g] = np.where(chance < LOST, (g + 1) % len(GROUPS), g)
    elif kind == "gap":
        a = ATTRIBUTES.index(attribute)
        after["shows"][:, g, a] |= chance < GROWN / (1 - rate[g, a])
    else:
        after["features"][:, g] *= 1 - CLOSER
    return after


def table(before, after, accuracy):
    """What a judge who is right with this chance sees: a `Judged` table."""
    noises, groups = before["seen"].shape
    shape = 2, noises, groups

    def both(name):
        return np.stack([before[name], after[name]])

    coins = both("coins") < accuracy
    seen = np.where(coins[..., -1], both("seen"), (both("seen") + both("other")) % groups)
    shows = both("shows") == coins[..., :-1]
    half = np.arange(noises) * len(PROMPTS) // noises

    def flat(values):
        return np.broadcast_to(values, shape).reshape(-1)

    return Judged(
        checkpoint=np.full(2 * noises * groups, "model"),
        prompt=flat(np.array(PROMPTS)[half][:, None]),
        group=flat(np.array(GROUPS)),
        corrected=flat(np.array([False, True])[:, None, None]),
        noise=flat(np.arange(noises)[:, None]),
        seen=np.array(GROUPS)[seen].reshape(-1),
        shows={name: shows[..., a].reshape(-1) for a, name in enumerate(ATTRIBUTES)},
        features=both("features").reshape(-1, FEATURES),
    )


def audit(judged):
    """(findings, what got worse, exit code), as a report has them."""
    sides, worse = findings.depiction(judged, ATTRIBUTES), harm.worsened(judged, ATTRIBUTES)
    decide(sides[0], worse, LIMITS)
    _, code = verdict(*sides, worse, unjudged(judged, sides, judged.where(judged.group == "")))
    return sides[0], worse, code


def audits(count, pictures, accuracy, share, kind=None, seed=0):
    """So many audits of so many pictures a group.

    Returns:
        {"audits", "exit_1", "found"}: how many said harm, and harm of this kind where it was done; "flagged" and
        "flagged_by_chance", how many flagged the gap and anything else; "covered": {"rates", "mid_rates", "gaps",
        "diversity"}, shares of intervals that cover what the judge would see in endless pictures, mid of .3 to .7.
    """
    generator = np.random.default_rng(
        [seed, round(100 * accuracy), round(100 * share), list(HARM).index(kind or "gap")]
    )
    found = {"audits": count, "exit_1": 0, "found": 0, "flagged": 0, "flagged_by_chance": 0}
    covered = {name: [] for name in ("rates", "mid_rates", "gaps", "diversity")}
    for _ in range(count):
        rate = rates(generator)
        before = drawn(generator, rate, pictures)
        after = again(generator, before, rate, share)
        judged = table(before, harmed(generator, after, kind, rate) if kind else after, accuracy)
        rows, worse, code = audit(judged)
        found["exit_1"] += code == 1
        found["found"] += any((r["what"], r["group"], r["attribute"]) == HARM.get(kind) for r in worse if r["harm"])
        flagged = {(r["group"], r["attribute"]) for r in rows if r["flagged"]}
        found["flagged"] += ("a", "planted") in flagged
        found["flagged_by_chance"] += bool(flagged - {("a", "planted")})
        seen = accuracy * rate + (1 - accuracy) * (1 - rate)
        for r in rows:
            g, a = GROUPS.index(r["group"]), ATTRIBUTES.index(r["attribute"])
            covers = r["low"] <= seen[g, a] <= r["high"]
            covered["rates"].append(covers)
            if 0.3 <= seen[g, a] <= 0.7:
                covered["mid_rates"].append(covers)
            if a == 1 or g == 0:  # where the typical group does not depend on which it is
                gap = seen[g, a] - np.median(np.delete(seen[:, a], g))
                covered["gaps"].append(r["gap_low"] <= gap <= r["gap_high"])
        for sides in findings.by_group(judged.where(~judged.corrected), findings.diversity).values():
            covered["diversity"].append(sides["before"]["low"] <= APART <= sides["before"]["high"])
    return found | {"covered": {name: float(np.mean(flags)) for name, flags in covered.items()}}
