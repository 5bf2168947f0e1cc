"""What an audit found as one HTML page: no network, no script, printable."""

import base64
import html
import json

#: Beside what stands out, for those who see no bold.
FLAG = " \N{BLACK UP-POINTING TRIANGLE}"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #111 }
h1 { font-size: 1.6rem }
h2 { font-size: 1.2rem; margin-top: 2rem }
img { max-width: 100% }
pre { white-space: pre-wrap; font-size: 13px }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #ccc; padding: .3rem .6rem; text-align: left }
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
        "pictures look to the judge, not who anyone is. &#9650; and bold: stands out from the typical group.</p>",
        f'<img alt="same-seed pictures and charts of all rates" src="data:image/png;base64,{image}">',
    ]
    for checkpoint, found in result["checkpoints"].items():
        rows = [r for r in result["findings"] if r["checkpoint"] == checkpoint]
        later = {(r["group"], r["attribute"]): r for r in found["corrected"]}
        parts += [f"<h2>Depiction: {html.escape(checkpoint)}</h2>", _depiction(rows, later)]
        parts += ["<h2>By group</h2>", _by_group(found)]
        if found["consistency"]:
            parts += ["<h2>What prompts asked for</h2>", _consistency(found["consistency"])]
        if found["parity"]:
            parts += ["<h2>Parity: who appears where no group is named</h2>", _parity(found["parity"])]
    for judge, found in result["calibration"].items():
        parts += [f"<h2>How sure the judge was: {html.escape(judge)}</h2>", _calibration(found)]
    setting = json.dumps(result["setting"] | {"disagreement": result["disagreement"]}, indent=1)
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
    return "" if not found else f"{found.get('value', found.get('rate')):.1%} ({found['low']:.1%}–{found['high']:.1%})"


def _depiction(rows, later):
    head = ("attribute, group", "without", "with", "gap to the typical group", "p (Holm)", "keep to be alike")
    return _table(head, [
        (r["flagged"], (f"{r['attribute']}, {r['group']}{FLAG if r['flagged'] else ''}", _rate(r),
                        _rate(later.get((r["group"], r["attribute"]))), f"{r['gap']:+.3f}", f"{r['p']:.2g}",
                        f"{r['keep']:.2f}"))
        for r in sorted(rows, key=lambda r: (not r["flagged"], r["attribute"]))
    ])  # fmt: skip


def _number(value):
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


def _consistency(found):
    rows = [
        (False, (f"{prompt}, {group}", _rate(sides["before"]), _rate(sides["after"])))
        for prompt, groups in found.items()
        for group, sides in groups.items()
    ]
    return _table(("prompt, group", "obeyed: without", "with"), rows)


def _calibration(found):
    note = (
        f"<p>Expected calibration error {_number(found['error'])}. A judge that is as sure as it is right has the same "
        "number in both columns.</p>"
    )
    return note + _table(("said to be sure", "sees the group that was asked for", "pictures"), [
        (False, (f"{b['confidence']:.1%}", _rate(b), b["count"])) for b in found["bins"]
    ])  # fmt: skip


def _parity(found):
    rows = []
    for prompt, sides in found.items():
        for side, seen in sides.items():
            shares = ", ".join(f"{group} {share['value']:.0%}" for group, share in seen["shares"].items())
            label = f"{prompt}, {'without' if side == 'before' else 'with'}"
            rows.append((False, (label, shares, f"{seen['fd']:.3f}", f"{seen['deviation_ratio']:.3f}")))
    return _table(("prompt", "shares", "FD", "deviation ratio"), rows)
