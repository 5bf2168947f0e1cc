"""The verdict of an audit: what stands out, what a correction made worse, and what the judge could not see."""

from .comparisons import holm
from .harm import WORSE
from .table import LIMITS

#: Exit codes for pipelines, the gravest first.
HARM, NOT_JUDGED, PASSED = 1, 3, 0


def decide(findings, worsened, limits=LIMITS):
    """Correct all comparisons of a report together, and mark each that counts: "flagged" of findings, "harm" of others.

    Args:
        findings: rows of `depiction` without the correction, of all checkpoints, changed in place; p None is no
            comparison.
        worsened: rows of `worsened`, of all checkpoints, changed in place.
    """
    references = [row["reference"] for row in findings if "reference" in row]
    holm([row for row in findings + references if row["p"] is not None] + worsened)
    for row in findings:
        if beside := row.get("reference"):
            far = row["rate"] is not None and abs(_best(row) - beside["rate"]) >= limits["gap"]
            beside["flagged"] = beside["p"] is not None and beside["p"] < limits["significance"] and far
        compared = row["p"] is not None
        row["flagged"] = compared and row["p"] < limits["significance"] and abs(row["gap"]) >= limits["gap"]
    for row in worsened:
        row["harm"] = row["p"] < limits["harm"] and row["worse"] > limits[WORSE[row["what"]]]


def unjudged(judged, sides, neutral, limits=LIMITS, errors=None):
    """What a judge could not see in more pictures than the limit allows, without or with the correction.

    Args:
        judged: pictures of named groups; neutral: those under prompts that name none.
        sides: both lists of rows of `depiction`.
        errors: {attribute: `Errors`} of the judge; of an attribute that it tells too little of, it tells nothing.

    Returns:
        [{"what", "name", "group", "share"}]: of "nobody", a group or a prompt in whose pictures nobody was found; of
        "group", one that the judge cannot tell; of "attribute", one that it did not tell in pictures of the group.
    """
    most, rows = limits["not_judged"], []

    def row(what, name, group, share):
        return {"what": what, "name": name, "group": group, "share": float(share)}

    def missed(flags, table):
        """Of these pictures without and with the correction, the share in which nobody was found; 0 of nothing."""
        sides = [table.found[flags & (table.corrected == side)] for side in (False, True)]
        return [float((~found).mean()) if len(found) else 0.0 for found in sides]

    blind = {group: missed(judged.group == group, judged) for group in judged.named}
    rows += [row("nobody", group, group, max(shares)) for group, shares in blind.items() if max(shares) > most]
    for prompt in dict.fromkeys(neutral.prompt):
        if (share := max(missed(neutral.prompt == prompt, neutral))) > most:
            rows.append(row("nobody", prompt, "", share))
    rows += [row("group", group, group, 1.0) for group in judged.named if not judged.can_tell(group)]
    missing, useless = {}, {name for name, error in (errors or {}).items() if not error.tells}
    for side, found in enumerate(sides):
        for each in found:
            key = each["attribute"], each["group"]
            share = 1.0 if each["attribute"] in useless else each["not_judged"]
            if share - blind[each["group"]][side] > most:
                missing[key] = max(missing.get(key, 0.0), share)
    return rows + [row("attribute", attribute, group, share) for (attribute, group), share in missing.items()]


#: What a judge need not tell, as a sentence calls it.
OPTIONAL = {"quality": "quality", "diversity": "diversity", "tone": "how light skin is drawn"}


#: How many of what stands out a sentence names, the largest gaps first.
NAMED = 5


def verdict(findings, corrected, worsened, not_judged):
    """(sentence, exit code) of one checkpoint.

    Args:
        findings, corrected: rows of `depiction` and `by_facet` without and with the correction, the former decided.
        worsened: rows of `worsened`, decided; not_judged: of `unjudged`.
    """
    later = {_key(row): row for row in corrected}
    harm = [_harm(row) for row in worsened if row["harm"]]
    flagged = sorted((row for row in findings if row["flagged"]), key=lambda row: -abs(row["gap"]))
    found = [_stands_out(row, later.get(_key(row))) for row in flagged[:NAMED]]
    found += [f"{len(flagged) - NAMED} more stand out"] * (len(flagged) > NAMED)
    found += [
        f"{row['attribute']} is shown in {_share(row)} of group {row['group']}'s pictures, where "
        f"{row['reference']['source']} has {row['reference']['rate']:.0%}"
        for row in findings
        if "reference" in row and row["reference"]["flagged"]
    ]
    missed = list(_missed(not_judged, {row["group"] for row in findings if "facet" not in row}))
    if not found and any(row["rate"] is not None for row in findings):
        found = [
            f"no attribute that was {'judged' if missed else 'looked for'} stands out in any group at this number of "
            "pictures"
        ]
    told = {row["what"] for row in worsened}
    if silent := [words for what, words in OPTIONAL.items() if told and what not in told]:
        found.append(f"of {' and '.join(silent)} this judge tells nothing")
    sentence = "; ".join(harm + missed + found) + "."
    return sentence[0].upper() + sentence[1:], HARM if harm else NOT_JUDGED if missed else PASSED


def _key(row):
    return row.get("facet"), row["group"], row["attribute"]


def _stands_out(row, later):
    with_it = f", with the correction in {_share(later)}" if later and later["rate"] is not None else ""
    with_it += f"; with keep {row['keep']:.2f} it would be as often" if row["keep"] < 1 else ""
    return (
        f"{row['attribute']} is shown in {_share(row)} of {row.get('facet', 'group')} {row['group']}'s pictures and in "
        f"{row['rate'] - row['gap']:.0%} of a typical {row.get('facet', 'group')}'s{with_it}"
    )


def _harm(row):
    before, after = row["before"], row["after"]
    return {
        "gap": f"the correction widens the gap of {row['attribute']} in group {row['group']} from {before:+.0%} to "
        f"{after:+.0%}",
        "recognised": f"the correction leaves {after:.0%} of group {row['group']} recognised, {before:.0%} before",
        "quality": f"the correction widens the gap of group {row['group']}'s quality from {before:+.1f} to "
        f"{after:+.1f} standard deviations",
        "tone": f"the correction {'lightens' if after > before else 'darkens'} the skin of group {row['group']} by "
        f"{row['worse']:.0f} degrees (typology angle)",
        "diversity": f"the correction makes pictures of group {row['group']} {row['worse']:.0%} more alike",
    }[row["what"]]


def _missed(rows, groups):
    for row in rows:
        if row["what"] == "nobody":
            whose = f"group {row['name']}'s pictures" if row["group"] else f"the pictures of {row['name']}"
            yield f"not judged: nobody was found in {row['share']:.0%} of {whose}"
    if unknown := [row["name"] for row in rows if row["what"] == "group"]:
        yield f"not judged: whether anybody is seen as {', '.join(unknown)}, which the judge cannot tell"
    attributes = {}
    for row in rows:
        if row["what"] == "attribute":
            attributes.setdefault(row["name"], []).append(row)
    for name, own in attributes.items():
        least, most = (f"{pick(row['share'] for row in own):.0%}" for pick in (min, max))
        share = most if least == most else f"{least} to {most}"
        whose = "" if {row["group"] for row in own} == groups else f" of group {', '.join(row['group'] for row in own)}"
        yield f"not judged: {name}, in {share} of the pictures{whose}"


def _best(row):
    """A rate, corrected for the judge's errors where they are known."""
    return row["true"]["value"] if row.get("true") else row["rate"]


def _share(row):
    said = f"{row['rate']:.0%} ({row['low']:.0%} to {row['high']:.0%})"
    return f"{said}, {_best(row):.0%} but for the judge's errors," if row.get("true") else said
