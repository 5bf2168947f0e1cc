"""What a run of `ladder.py` shows: sheets of pictures, a plot over the grids, tables."""

import math

import torch

from rs_corrector.files import replacing
from rs_corrector.testbed.exact import PLANTED, RATES, drawing

OURS = "rs_corrector"
#: Portraits that fill the picture, white texture, strong stereotypes, EPS.
USUAL = {"parameterisation": "eps", "texture": "white", "rates": list(RATES["strong"]), "scene": False, "keep": 0.0}
SHEET_PIXELS = 64
#: What is plotted over the grid: title, value of a cell, and the line that a good method keeps to.
CURVES = {
    "stereotype_rate": (lambda c: c["stereotype_rate"]["after"]["value"], 0.05),
    "kept, the least attribute": (lambda c: min(c["kept"].values()), 0.95),
    "others_attribute_kept": (lambda c: c["others_attribute_kept"], 0.95),
    "texture_ratio": (lambda c: c["texture_ratio"], 1.0),
    "ghost_ratio": (lambda c: c["ghost_ratio"], 1.0),
    "collateral_change": (lambda c: c["collateral_change"], 0.1),
}
LOGARITHMIC = ("texture_ratio", "ghost_ratio")


def sheet(rows, path):
    """Rows of latents as one picture, every latent pixel as a square of whole pixels.

    Args:
        rows: an iterable of (columns, 4, n, n) latents.
    """
    rows = list(rows)
    tiles = torch.cat([drawing.to_rgb(row) for row in rows])
    size = max(1, SHEET_PIXELS // tiles.shape[-1])
    tiles = tiles.repeat_interleave(size, 2).repeat_interleave(size, 3)
    tiles = tiles.unflatten(0, (len(rows), -1)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    from PIL import Image

    with replacing(path) as temporary:
        Image.fromarray((255 * tiles).round().byte().numpy()).save(temporary, "png", optimize=True)


def ours(result, **facts):
    """Cells of ours in the usual setting, or with other `facts`."""
    wanted = {**USUAL, "method": OURS, **facts}
    return [cell for cell in result["cells"] if wanted.items() <= cell.items()]


def plot(result, path):
    """Our corrector over the grids, a line a kind."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cells = ours(result)
    grids = sorted({cell["grid"] for cell in cells})
    figure, axes = pyplot.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    for axis, (name, (value, good)) in zip(axes.flat, CURVES.items()):
        for kind in PLANTED:
            points = [(c["grid"], v) for c in cells if c["kind"] == kind and (v := value(c)) is not None]
            axis.plot(*(zip(*sorted(points)) if points else ([], [])), "o-", label=kind)
        axis.axhline(good, color="grey", linewidth=0.8, linestyle=":")
        axis.set(
            title=name, xscale="log", xlabel="grid, latent pixels", yscale="log" if name in LOGARITHMIC else "linear"
        )
        axis.set_xticks(grids, [str(grid) for grid in grids])
        axis.minorticks_off()
    axes[0, 0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
    pyplot.close(figure)


def setting(cell):
    """A rung in a few words."""
    words = {"eps": "EPS", "v": "v-prediction", "flow": "flow matching"}
    more = ["1/f texture"] * (cell["texture"] == "pink") + ["in scenes"] * cell["scene"]
    more += ["four depictions, kept as others"] * (cell["keep"] != 0)
    more += [f"{cell['rates'][0]:.0%} against {cell['rates'][1]:.0%}".replace("%", " %")] * (
        cell["rates"] != USUAL["rates"]
    )
    return ", ".join([f"{cell['grid']}×{cell['grid']}", words[cell["parameterisation"]], *more])


def by_setting(cells):
    """{(setting, method): cells}, in the order of the file."""
    found = {}
    for cell in cells:
        found.setdefault((setting(cell), cell["method"]), []).append(cell)
    return found


#: Columns of the tables that have the worst of five kinds in a row: title, pick among cells, value.
COLUMNS = (
    ("still shows it", max, lambda c: c["stereotype_rate"]["after"]["value"]),
    ("above the other groups", max, lambda c: c["stereotype_gap"]),
    ("shows what is preferred", min, lambda c: (c.get("preferred_rate") or {}).get("value")),
    ("least kept attribute", min, lambda c: min(c["kept"].values())),
    ("farthest drift", max, lambda c: max(c["distance"].values())),
    ("texture", None, lambda c: c["texture_ratio"]),
    ("ghost", max, lambda c: c["ghost_ratio"]),
    ("others' content kept", min, lambda c: c["others_content_kept"]),
    ("others keep their own", min, lambda c: c["others_attribute_kept"]),
    ("request obeyed", min, lambda c: c["request_obeyed"]["value"]),
)


def show(value):
    if value is None:
        return "–"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def worst(cells, pick, value):
    """The worst value among cells, and whose it is where kinds differ; without `pick` the farthest from 1."""
    values = [(v, cell["kind"]) for cell in cells if (v := value(cell)) is not None]
    if not values:
        return "–"
    found, kind = max(values, key=lambda pair: abs(math.log(max(pair[0], 1e-6)))) if pick is None else pick(values)
    alike = len({show(v) for v, _ in values}) == 1
    return show(found) if alike else f"{show(found)} ({kind})"


def summary(result, method=OURS, **facts):
    """A markdown table, a row for every rung: the worst of five kinds in each column."""
    rows = ["| latents | " + " | ".join(title for title, *_ in COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for (name, own), cells in by_setting(result["cells"]).items():
        if own == method and all(facts.items() <= cell.items() for cell in cells):
            without = [cell["kind"] for cell in refused(result, name, own)]
            name += f" ({', '.join(without)}: refused)" if without else ""
            rows.append(f"| {name} | " + " | ".join(worst(cells, pick, value) for _, pick, value in COLUMNS) + " |")
    return rows


def kinds(result):
    """A markdown table of every cell of ours."""
    titles = ["latents", "kind", "before", *(title for title, *_ in COLUMNS)]
    rows = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for (name, method), cells in by_setting(result["cells"]).items():
        if method != OURS:
            continue
        for cell in cells:
            values = {title: show(value(cell)) for title, _, value in COLUMNS}
            least, far = (pick(cell[n], key=cell[n].get) for pick, n in ((min, "kept"), (max, "distance")))
            values["least kept attribute"] += f" ({least})"
            values["farthest drift"] += f" ({far}; chance {show(cell['distance_by_chance'][far])})"
            before = show(cell["stereotype_rate"]["before"]["value"])
            rows.append("| " + " | ".join([name, cell["kind"], before, *values.values()]) + " |")
        for cell in refused(result, name, method):
            rows.append(f"| {name} | {cell['kind']} | refused" + " |" * (1 + len(COLUMNS)))
    return rows


def refused(result, name, method):
    """Cells of a setting for whose kinds the node makes no corrector."""
    return [cell for cell in result.get("refused", []) if (setting(cell), cell["method"]) == (name, method)]


def methods(result, grids):
    """A markdown table of every method at some grids, the worst of five kinds in each column."""
    rows = ["| latents | method | " + " | ".join(t for t, *_ in COLUMNS) + " |", "|---" * (2 + len(COLUMNS)) + "|"]
    usual = [c for c in result["cells"] if USUAL.items() <= c.items() and c["grid"] in grids]
    for (_, method), cells in by_setting(usual).items():
        values = " | ".join(worst(cells, pick, value) for _, pick, value in COLUMNS)
        rows.append(f"| {cells[0]['grid']}×{cells[0]['grid']} | `{method}` | {values} |")
    return rows


def starts(result):
    """A markdown table of what the world draws without guidance, by its highest noise level."""
    rows = ["| latents | highest noise level | " + " | ".join(PLANTED) + " |", "|---" * (2 + len(PLANTED)) + "|"]
    for start in sorted(result["start"], key=lambda s: (s["grid"], s["sigma_max"])):
        rates = " | ".join(f"{rate['value']:.1%}".replace("%", " %") for rate in start["rates"].values())
        rows.append(f"| {start['grid']}×{start['grid']} | {start['sigma_max']:.1f} | {rates} |")
    return rows


def lines(result):
    """Every cell as a line of text."""
    columns = (
        "before",
        "rate",
        "gap",
        "preferred",
        "kept",
        "drift",
        "texture",
        "ghost",
        "others",
        "their own",
        "asked",
    )
    yield f"{'cell':50}" + "".join(f"{name:>10}" for name in columns)
    for cell in result["cells"]:
        values = [cell["stereotype_rate"]["before"]["value"], *(value(cell) for _, _, value in COLUMNS)]
        name = f"{setting(cell)}, {cell['kind']}, {cell['method']}"
        yield f"{name:50}" + "".join(f"{show(value):>10}" for value in values)
    for cell in result.get("refused", []):
        yield f"{setting(cell)}, {cell['kind']}, {cell['method']}: refused: {cell['said']}"
