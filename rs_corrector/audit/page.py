"""What an audit found as one HTML page: no network, no script, printable."""

import base64
import html
import json

from .emergence import looked_at

#: Beside what stands out, for those who see no bold.
FLAG = " \N{BLACK UP-POINTING TRIANGLE}"
SAID = {"before": "without", "after": "with"}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #111 }
h1 { font-size: 1.6rem }
h2 { font-size: 1.2rem; margin-top: 2rem }
img { max-width: 100% }
pre { white-space: pre-wrap; font-size: 13px }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #ccc; padding: .3rem .6rem; text-align: left }
td:first-child, .verdict { overflow-wrap: anywhere }
td:first-child { min-width: 7rem }
td.n { text-align: right; font-variant-numeric: tabular-nums }
tr.flagged { font-weight: 600 }
.verdict { border-left: 6px solid #D55E00; padding: .6rem 1rem; background: #f6f6f6 }
@media print { body { margin: 0 } h2 { break-after: avoid } tr { break-inside: avoid } }
"""


def page(result, png):
    """The audit as one HTML page: every number, the picture (bytes of a PNG), and what it takes to repeat it."""
    image = base64.b64encode(png).decode()
    parts = [
        f"<h1>How {_list(result['setting']['checkpoints'])} depicts groups</h1>",
        f'<p class="verdict">{html.escape(result["verdict"])}</p>',
        "<p>Generated pictures only. Groups are perceived groups, named by whoever wrote the plan; a rate says how "
        "pictures look to the judge, not who anyone is. The typical group is the median of all others. &#9650; and "
        "bold: stands out from it, or got worse, by more than chance.</p>",
        f'<img alt="same-seed pictures and charts of all rates" src="data:image/png;base64,{image}">',
    ]
    for checkpoint, found in result["checkpoints"].items():
        rows = [r for r in result["findings"] if r["checkpoint"] == checkpoint]
        parts += [f"<h2>Depiction: {html.escape(checkpoint)}</h2>"]
        table = _depiction(rows, found["corrected"])
        if found["facets"]:
            flagged = [row for row in rows if row["flagged"]]
            parts += [_depiction(found["facets"], found["corrected_facets"])]
            parts += (
                ["<h2>Combinations that stand out</h2>", _depiction(flagged, found["corrected"])] if flagged else []
            )
            table = f"<details><summary>All {len(rows)} combinations and attributes</summary>{table}</details>"
        parts += [table]
        if found["worsened"]:
            parts += ["<h2>What the correction may have made worse</h2>", _worsened(found["worsened"])]
        if found["not_judged"]:
            parts += ["<h2>What the judge could not see</h2>", _not_judged(found["not_judged"])]
        parts += ["<h2>By group</h2>", _by_group(found)]
        if told := [row for row in found["emergence"] if any(row[side] and row[side]["count"] for side in SAID)]:
            parts += ["<h2>At which step attributes show</h2>", _emergence(told)]
        if found["consistency"]:
            parts += ["<h2>What prompts asked for</h2>", _consistent(found["consistent"]["stated"])]
            parts += [_consistency(found["consistency"])]
        if found["parity"]:
            parts += ["<h2>Parity: who appears where no group is named</h2>", _parity(found["parity"])]
    if result["errors"]:
        parts += ["<h2>How often the judge is right</h2>", _errors(result["errors"])]
    if result["kappa"]:
        parts += ["<h2>How far judges agree</h2>", _kappa(result["kappa"])]
    for judge, found in result["calibration"].items():
        parts += [f"<h2>How sure the judge was: {html.escape(judge)}</h2>", _calibration(found)]
    setting = json.dumps(result["setting"] | {"disagreement": result["disagreement"]}, indent=1, ensure_ascii=False)
    parts += ["<h2>To repeat it</h2>", f"<pre>{html.escape(setting)}</pre>"]
    head = f'<meta charset="utf-8"><title>Audit</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _list(names):
    return html.escape(", ".join(names))


def _table(head, rows):
    cells = "".join(f"<th>{html.escape(h)}</th>" for h in head)
    lines = [
        f"<tr{' class=flagged' if flagged else ''}>"
        + "".join(f"<td{' class=n' if i else ''}>{html.escape(str(c))}</td>" for i, c in enumerate(row))
        + "</tr>"
        for flagged, row in rows
    ]
    return f"<table><tr>{cells}</tr>{''.join(lines)}</table>"


def _rate(found):
    if not found:
        return ""
    value = found.get("value", found.get("rate"))
    return "not judged" if value is None else f"{value:.1%} ({found['low']:.1%}–{found['high']:.1%})"


def _p(value):
    return "<0.0001" if value < 1e-4 else f"{value:.2g}"


def _depiction(rows, corrected):
    later = {(r.get("facet"), r["group"], r["attribute"]): r for r in corrected}
    head = ("attribute, group", "without", "with", "gap to the typical group", "p (Holm)", "keep to be alike")
    true, beside = any(r["true"] for r in rows), any("reference" in r for r in rows)
    head += ("without, but for the judge's errors", "with") * true + ("reference", "p (Holm)") * beside

    def cells(r):
        after = later.get((r.get("facet"), r["group"], r["attribute"]))
        yield f"{r['attribute']}, {r['group']}{FLAG if r['flagged'] else ''}"
        yield from (_rate(r), _rate(after))
        if r["gap"] is None:
            yield from ("not judged", "", "")
        else:
            yield f"{r['gap']:+.3f} ({r['gap_low']:+.3f} to {r['gap_high']:+.3f})"
            yield from (_p(r["p"]), f"{r['keep']:.2f}")
        if true:
            yield from (_rate(r["true"]), _rate(after and after["true"]))
        if beside:
            found = r.get("reference")
            said = found and f"{found['rate']:.1%}{FLAG if found['flagged'] else ''}, {found['source']}"
            yield from (said or "", _p(found["p"]) if found and found["p"] is not None else "")

    ordered = sorted(rows, key=lambda r: (not r["flagged"], r["attribute"]))
    return _table(head, [(r["flagged"], tuple(cells(r))) for r in ordered])


def _worsened(rows):
    called = {
        "gap": "gap of {attribute}, {group}", "recognised": "seen as {group}", "quality": "gap of quality, {group}",
        "diversity": "distance between two pictures, {group}", "tone": "typology angle of skin, {group}",
    }  # fmt: skip
    return _table(("what", "without", "with", "p (Holm)"), [
        (r["harm"], (called[r["what"]].format(**r) + (FLAG if r["harm"] else ""), f"{r['before']:.3f}",
                     f"{r['after']:.3f}", _p(r["p"])))
        for r in sorted(rows, key=lambda r: not r["harm"])
    ])  # fmt: skip


def _not_judged(rows):
    called = {"nobody": "anybody, {name}", "group": "who is seen as {name}", "attribute": "{name}, {group}"}
    return _table(
        ("what", "share of pictures"), [(False, (called[r["what"]].format(**r), f"{r['share']:.1%}")) for r in rows]
    )


def _number(value):
    if isinstance(value, dict) and "low" in value:
        return f"{value['value']:.3f} ({value['low']:.3f}–{value['high']:.3f})"
    value = value["value"] if isinstance(value, dict) else value
    return "" if value is None else f"{value:.3f}"


def _by_group(found):
    head = ("group", "recognised: without", "with", "none found", "content kept", "quality: without", "with",
            "diversity: without", "with", "distance to other groups: without", "with", "by chance")  # fmt: skip
    return _table(head, [
        (False, (group, _rate(kept["before"]), _rate(kept["after"]), _rate(kept["not_found"]),
                 _number(found["content_kept"][group]),
                 *(_number(found[w][group][side]) for w in ("quality", "diversity", "distribution_distance")
                   for side in ("before", "after")),
                 _number((found["distribution_distance"][group]["before"] or {}).get("chance"))))
        for group, kept in found["retention"].items()
    ])  # fmt: skip


def _emergence(rows):
    def since(found):
        if found is None:
            return "not judged"
        middle = f"{found['step']:g} ({found['early']:g}–{found['late']:g}), " if found["count"] else ""
        return f"{middle}{found['count']} of {found['judged']} pictures"

    of = max(row[side]["of"] for row in rows for side in SAID if row[side])
    note = (
        "<p>Since which step the judge sees it to the end in what is predicted of the finished picture: the median, "
        f"and between which half of the pictures lie, of {of} steps, of which {len(looked_at(of))} were looked at; of "
        "the first pictures of every prompt.</p>"
    )
    return note + _table(("attribute, group", "without", "with"), [
        (False, (f"{row['attribute']}, {row['group']}", since(row["before"]), since(row["after"]))) for row in rows
    ])  # fmt: skip


def _consistency(found):
    rows = [
        (False, (f"{prompt}, {group}", _rate(sides["before"]), _rate(sides["after"])))
        for prompt, groups in found.items()
        for group, sides in groups.items()
    ]
    return _table(("prompt, group", "obeyed: without", "with"), rows)


def _errors(found):
    head = ("attribute", "sees it where it is", "does not where it is not", "known from")
    return _table(head, [
        (False, (name, *(f"{e[side][0]} of {e[side][1]}" for side in ("shown", "not_shown")), e["source"]))
        for name, e in found.items()
    ])  # fmt: skip


def _kappa(found):
    rows = [(False, (f"{name}, {judge}", _number(k))) for judge, each in found.items() for name, k in each.items()]
    return _table(("attribute, other judge", "Cohen's kappa"), rows)


def _calibration(found):
    note = (
        f"<p>Expected calibration error {_number(found['error'])}. A judge that is as sure as it is right has the same "
        "number in both columns.</p>"
    )
    return note + _table(("said to be sure", "sees the group that was asked for", "pictures"), [
        (False, (f"{b['confidence']:.1%}", _rate(b), b["count"])) for b in found["bins"]
    ])  # fmt: skip


def _consistent(found):
    said = ", ".join(f"{word} {_rate(found[side])}" for side, word in SAID.items() if found[side])
    return f"<p>Of all groups and prompts together: {html.escape(said)}.</p>"


def _parity(found):
    rows = []
    for prompt, sides in found.items():
        for side, seen in sides.items():
            shares = ", ".join(f"{group} {share['value']:.0%}" for group, share in seen["shares"].items())
            label = f"{prompt}, {'without' if side == 'before' else 'with'}"
            true = ", ".join(f"{group} {_rate(share)}" for group, share in (seen["true"] or {}).items())
            rows.append((False, (label, shares, true, _number(seen["fd"]), _number(seen["deviation_ratio"]))))
    return _table(("prompt", "shares", "but for the judge's mistaking groups", "FD", "deviation ratio"), rows)
