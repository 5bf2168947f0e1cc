"""From judged pictures to findings: rates with intervals, gaps between groups, what a correction changed.

Two tracks that never stand for each other: *depiction*, how a named group is shown, and *parity*, who appears where
no group is named. Nothing here looks at a picture; a `Judged` table holds what a judge saw. What it did not judge is
left out of every number and is counted by itself.
"""

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import binomtest

from ..metrics import wilson
from .comparisons import apart, reference, sign_flip
from .errors import true_shares
from .plan import stated
from .table import SIDES, both_judged


def interval(flags):
    """Share of true flags with its 95 % Wilson interval; None of nothing."""
    return {**wilson(flags), "count": len(flags)} if len(flags) else None


def judged_only(values):
    """Whether it was shown, of the pictures that were judged: (N,) with NaN -> (M,) bool."""
    return values[~np.isnan(values)] == 1


def mean_of(cube):
    """Means over noises, (groups, sides), NaN of nothing."""
    known = ~np.isnan(cube)
    with np.errstate(invalid="ignore"):
        return np.where(known, cube, 0).sum(0) / known.sum(0)


def freely(judged, attribute, asked):
    """Pictures under prompts that name a group and do not ask for the attribute."""
    asking = [prompt for prompt, words in (asked or {}).items() if stated(words)[0] == attribute]
    return judged.where((judged.group != "") & ~np.isin(judged.prompt, asking))


def depiction(judged, attributes, asked=None, errors=None, references=None):
    """How often every group shows every attribute, beside the typical group: the median of all others.

    Which groups are the middle ones is told by the uncorrected pictures, for the corrected ones too.

    Args:
        judged: pictures of one checkpoint.
        asked: {prompt: attribute}; an attribute is not judged under a prompt that asks for it.
        errors: {attribute: `Errors`} of the judge; references: {attribute: (rate, source)} to compare with, too.

    Returns:
        (rows without the correction, rows with it), each [{"group", "attribute", "rate", "low", "high", "count",
        "not_judged", "typical", "gap", "gap_low", "gap_high", "p", "keep"}]. rate and what follows from it is None
        where nothing was judged; typical names the middle groups; p, of not standing out from each of them, is not
        corrected for the number of comparisons; keep is the share of the group's pictures with the attribute that a
        correction would leave for the typical group's rate. Where the judge's errors are known, "true" has the rate
        corrected for them, {"value", "low", "high"}; where there is a reference, "reference" has {"rate", "source",
        "p"}.
    """
    sides = ([], [])
    for attribute in attributes:
        free = freely(judged, attribute, asked)
        cube, groups = free.cube(free.shows[attribute]), free.named
        rates = mean_of(cube)
        for g, group in enumerate(groups):
            middle = reference(rates[:, 0], g)
            for side, rows in enumerate(sides):
                drawn = free.shows[attribute][(free.group == group) & (free.corrected == side)]
                if len(drawn):
                    found = {"group": group, "attribute": attribute, "not_judged": float(np.isnan(drawn).mean())}
                    found |= _rate(judged_only(drawn)) | {"typical": [groups[i] for i in middle]}
                    found |= _gap(cube[..., side], g, middle, rates[:, side])
                    error = (errors or {}).get(attribute)
                    found["true"] = error and error.corrected(found["rate"] or 0.0, found["count"])
                    if found["true"] and found["gap"] is not None:
                        usual = error.true(found["rate"] - found["gap"])
                        found["keep"] = min(1.0, usual / found["true"]["value"]) if found["true"]["value"] else 1.0
                    if attribute in (references or {}):
                        found["reference"] = _beside(judged_only(drawn), *references[attribute], error)
                    rows.append(found)
    return sides


def by_facet(judged, facets, attributes, asked=None):
    """How often every value of a facet shows every attribute, over all combinations with the other facets.

    Args:
        facets: {facet: {value: its groups}}, as many groups for every value.

    Returns:
        (rows without the correction, rows with it) like those of `depiction`, with "facet", and "group" for its value;
        intervals are over noises, which groups share.
    """
    sides = ([], [])
    for facet, members in facets.items():
        for attribute in attributes:
            free = freely(judged, attribute, asked)
            if not len(free):
                continue
            cube, places = free.cube(free.shows[attribute]), {group: i for i, group in enumerate(free.named)}
            many = len(next(iter(members.values())))
            counts = np.stack([cube[:, [places[g] for g in own]].sum(1) for own in members.values()], 1)
            rates = mean_of(counts) / many
            for v, value in enumerate(members):
                middle = reference(rates[:, 0], v)
                for side, rows in enumerate(sides):
                    shares = counts[:, v, side] / many
                    shares = shares[~np.isnan(shares)]
                    if not len(shares):
                        continue
                    found = mean(shares)
                    low, high = max(0.0, found["low"]), min(1.0, found["high"])
                    row = {"facet": facet, "group": value, "attribute": attribute, "rate": found["value"]}
                    row |= {"low": low, "high": high, "count": many * len(shares), "true": None}
                    row |= {"not_judged": 1 - len(shares) / len(cube), "typical": [[*members][i] for i in middle]}
                    rows.append(row | _gap(counts[..., side], v, middle, rates[:, side], many))
    return sides


def _rate(flags):
    found = interval(flags) or {"value": None, "low": None, "high": None, "count": 0}
    return {"rate": found.pop("value"), **found}


def _gap(cube, g, middle, rates, many=1):
    own, typical = float(rates[g]), float(rates[middle].mean()) if middle else np.nan
    if np.isnan(own - typical):
        return dict.fromkeys(("gap", "gap_low", "gap_high", "p", "keep"))
    differences = cube[:, g] - cube[:, middle].mean(1)
    error = 1.96 * _error(differences[~np.isnan(differences)]) / many
    return {
        "gap": own - typical, "gap_low": own - typical - error, "gap_high": own - typical + error,
        "p": apart(sign_flip, cube[:, g], cube[:, middle]), "keep": typical / own if own > typical else 1.0,
    }  # fmt: skip


def _beside(flags, rate, source, error):
    """A reference rate, and p of the group showing it as often: exact, or by what is known of the judge's errors."""
    p = None
    if len(flags):
        k, n = int(flags.sum()), len(flags)
        p = float(binomtest(k, n, rate).pvalue) if error is None else error.p(k / n, n, rate)
    return {"rate": rate, "source": source, "p": p}


def _error(values):
    """Standard error of a mean; 0 of a single value."""
    return float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


def distances(judged):
    """What each picture adds to the mean distance of two of its prompt, group and side: (N,), NaN of fewer than three.

    Their mean is that distance, and their spread gives its error (the jackknife's pseudo-values of a U-statistic).
    """
    found = np.full(len(judged), np.nan)
    kinds = np.rec.fromarrays([judged.prompt, judged.group, judged.corrected])
    for kind in np.unique(kinds):
        (own,) = np.nonzero(kinds == kind)
        if len(own) > 2:  # both of two would add the same
            f = judged.features[own].astype(np.float64)
            sums = [cdist(part, f).sum(1) for part in np.array_split(f, -(-len(f) // 1000))]
            mean = np.concatenate(sums) / (len(f) - 1)
            found[own] = 2 * mean - mean.mean()
    return found


def distribution_distance(judged, attributes, draws=200):
    """How far a group's attributes, taken together, are from those of all other groups: total variation.

    Returns:
        {group: {"before", "after"}}, each {"value", "chance"}, chance being the mean of `draws` random divisions into
        two parts as large; None of nothing.
    """
    groups = dict.fromkeys(judged.group)
    told = [a for a in attributes if not np.isnan(judged.shows[a]).all()]
    if not told:
        return {group: dict.fromkeys(SIDES) for group in judged.named}
    shown = np.stack([judged.shows[attribute] for attribute in told], 1)
    whole = ~np.isnan(shown).any(1)
    judged, shown = judged.where(whole), shown[whole]
    _, kinds = np.unique(shown, axis=0, return_inverse=True)
    generator, found = np.random.default_rng(0), {}

    def distance(values, own):
        one, other = (np.bincount(part, minlength=kinds.max() + 1) / len(part) for part in (values[own], values[~own]))
        return float(np.abs(one - other).sum() / 2)

    for group in groups:
        found[group] = {}
        for side in SIDES:
            rows = judged.corrected == (side == "after")
            values, own = kinds.reshape(-1)[rows], judged.group[rows] == group
            if own.any() and not own.all():
                chance = np.mean([distance(values, generator.permutation(own)) for _ in range(draws)])
                found[group][side] = {"value": distance(values, own), "chance": float(chance)}
            else:
                found[group][side] = None
    return found


def change(judged, attribute, group, asked=None):
    """What a correction did to one attribute in one group, on the same noise: McNemar's exact test."""
    free = freely(judged, attribute, asked)
    before, after = free.cube(free.shows[attribute])[:, free.named.index(group)].T
    sides = dict(zip(SIDES, map(interval, both_judged(before, after))))
    return sides | {"p": apart(sign_flip, after, before[:, None])}


def retention(judged):
    """{group: {"before", "after", "not_found"}}: still seen as the group that was asked for, and nobody seen at all.

    before and after are None where the judge cannot tell the group.
    """
    found = by_group(judged, lambda rows: interval(rows.seen == rows.group))
    for group, sides in found.items():
        if not judged.can_tell(group):
            sides |= dict.fromkeys(SIDES)
        sides["not_found"] = interval(~judged.found[judged.group == group])
    return found


def consistency(judged, asked):
    """{prompt: {group: {"before", "after"}}}: how often a prompt gets the attribute it asks for, or to leave out."""

    def obeyed(words):
        attribute, wanted = stated(words)
        return lambda rows: interval(judged_only(rows.shows[attribute]) == wanted)

    return {prompt: by_group(judged.where(judged.prompt == prompt), obeyed(words)) for prompt, words in asked.items()}


def consistent(judged, asked):
    """One number for all groups and prompts: {"stated", "recognised"}, each {"before", "after"} or None.

    stated: how often a prompt gets what it asks for; recognised: how often the group that was asked for is seen.
    Each with a 95 % interval over noises, which groups share.
    """
    named = judged.where(judged.group != "")
    told = named.where(np.isin(named.group, [group for group in named.named if named.can_tell(group)]))
    cubes = {"stated": [], "recognised": [told.cube(told.seen == told.group)] if len(told) else []}
    for prompt, words in asked.items():
        (attribute, wanted), rows = stated(words), named.where(named.prompt == prompt)
        shown = rows.shows[attribute]
        cubes["stated"].append(rows.cube(np.where(np.isnan(shown), np.nan, shown == wanted)))
    found = {}
    for name, parts in cubes.items():
        over_groups = [mean_of(part.transpose(1, 0, 2)) for part in parts]  # (noises, sides)
        means = np.concatenate(over_groups) if parts else np.full((0, 2), np.nan)
        sides = [values[~np.isnan(values)] for values in means.T]
        found[name] = {side: mean(values) if len(values) else None for side, values in zip(SIDES, sides)}
    return found


def content_kept(judged, attributes):
    """{group: mean share of attributes that a correction left as they were, from the same noise}."""
    found = {group: [] for group in judged.named}
    for attribute in attributes:
        before, after = judged.cube(judged.shows[attribute]).transpose(2, 1, 0)
        for group, one, other in zip(found, before, after):
            same = np.equal(*both_judged(one, other))
            found[group] += [same.mean()] if len(same) else []
    return {group: float(np.mean(shares)) if shares else None for group, shares in found.items()}


def by_group(judged, measure):
    """{group: {"before", "after"}} of a function of rows."""
    return {
        group: {
            side: measure(judged.where((judged.group == group) & (judged.corrected == (side == "after"))))
            for side in SIDES
        }
        for group in judged.named
    }


def mean_quality(rows):
    """`mean` of the quality; None where a judge tells none, or of a single picture."""
    return None if rows.quality is None or len(rows) < 2 else mean(rows.quality)


def mean_tone(rows):
    """`mean` of the typology angle of skin, in degrees; None where a judge tells none."""
    known = np.array([]) if rows.tone is None else rows.tone[~np.isnan(rows.tone)]
    return mean(known) if len(known) else None


def mean(values):
    """Mean with a 95 % interval by the normal approximation, which is the value itself where there is only one."""
    value = float(np.mean(values))
    error = 1.96 * _error(values)
    return {"value": value, "low": value - error, "high": value + error, "count": len(values)}


def calibration(judged, bins=5):
    """How often a judge sees the group that was asked for, by how sure it says it is, on uncorrected pictures.

    A judge that is sure of what it does not see is no measure of anything.

    Returns:
        None where it tells no confidence; else {"error": expected calibration error (Guo et al. 2017), "bins": [{
        "confidence", "value", "low", "high", "count"}]}.
    """
    if judged.confidence is None:
        return None
    rows = judged.where((judged.group != "") & ~judged.corrected & (judged.seen != ""))
    place = np.clip((rows.confidence * bins).astype(int), 0, bins - 1)
    found = []
    for b in np.unique(place):
        own = rows.where(place == b)
        found.append({"confidence": float(np.mean(own.confidence)), **interval(own.seen == own.group)})
    error = sum(abs(b["confidence"] - b["value"]) * b["count"] for b in found) / len(rows) if found else None
    return {"error": error, "bins": found}


def score_curve(rows):
    """[{"sigma", "value", "low", "high", "count"}]: the mean part of a preference's score at every noise level."""
    return [{"sigma": level, **mean(values)} for level, values in rows.scores.items()]


def diversity(rows):
    """Mean distance of two pictures of a prompt, by the judge's features; small is homogenised. None without them."""
    values = np.array([]) if rows.features is None else distances(rows)
    values = values[~np.isnan(values)]
    return mean(values) if len(values) else None


def confusion(judged, groups):
    """(groups, groups) counts of uncorrected pictures: the group that was asked for, and the group that was seen."""
    rows = judged.where(~judged.corrected)
    return np.array([[np.sum((rows.group == asked) & (rows.seen == seen)) for seen in groups] for asked in groups])


def parity(judged, groups, target=None, confused=None):
    """Who is seen where no group is named: shares, and two distances to equal shares, or to those of a target.

    FD, fairness discrepancy: the Euclidean distance to the target. Deviation ratio: the largest ratio of a share to its
    target, less one.

    Args:
        target: {group: share}; None or empty is equal shares.
        confused: of `confusion`, by pictures whose prompts name a group; adds "true", shares corrected for a judge that
            mistakes one for another.
    """
    if not all(map(judged.can_tell, groups)):
        return {}  # who cannot be told would count as absent
    found, aim = {}, np.array([(target or {}).get(group, 1 / len(groups)) for group in groups])
    for prompt in dict.fromkeys(judged.prompt):
        rows = judged.where(judged.prompt == prompt)
        sides = {}
        for side in SIDES:
            own = rows.where(rows.corrected == (side == "after"))
            if not own.found.any():
                continue
            seen = own.seen[own.found]
            shares = {group: interval(seen == group) for group in groups}
            known = np.array([np.sum(seen == group) for group in groups], float)
            true = None if confused is None else true_shares(confused, known.astype(int))
            sides[side] = {
                "shares": shares, "not_found": interval(~own.found), "fd": None, "deviation_ratio": None,
                "true": true if true is None else {
                    group: dict(zip(("value", "low", "high"), map(float, row))) for group, row in zip(groups, true)
                },
            }  # fmt: skip
            if known.sum():  # or somebody else was seen in all of them
                known /= known.sum()
                sides[side]["fd"] = float(np.linalg.norm(known - aim))
                sides[side]["deviation_ratio"] = float((known / aim).max() - 1)
        found[prompt] = sides
    return found
