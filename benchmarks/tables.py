"""Write the tables of README and docs from `benchmarks/results/`, or check: `python benchmarks/tables.py [--check]`."""

import argparse
import json
import re
import sys
from functools import partial
from pathlib import Path

import ladder_report
from families import FAMILIES

from rs_corrector import weights
from rs_corrector.testbed import portraits

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def percent(value):
    return f"{value:.1%}".replace("%", " %")


def rate(interval):
    return f"{percent(interval['value'])} ({100 * interval['low']:.1f}–{percent(interval['high'])})"


def model_before(facts):
    """A sentence on results of another testbed model than the one that is here."""
    base = weights.read_header(weights.SHIPPED).base["fingerprint"]
    other = facts["base"] != base
    return ["", f"On the testbed's model before this one ({facts['base']}) and its corrector."] if other else []


def main_job():
    """The demo at full size on the real host."""
    r = json.loads((RESULTS / "main_job.json").read_text())
    before, after = r["stereotype_rate"]["before"], r["stereotype_rate"]["after"]
    gap = r["stereotype_gap"]
    return [
        f"{r['images']} images per group through {r['host']}, reporting seeds, Euler, 20 steps, CFG 3, strength 1.",
        "",
        "| | without | with |",
        "|---|---|---|",
        f"| `stereotype_rate`: hats nobody asked for, green group (95 % interval) | {rate(before)} | {rate(after)} |",
        f"| `stereotype_gap`: the same minus the other groups' mean | {gap['before']:+.3f} | {gap['after']:+.3f} |",
        f"| `group_retention`: still read as the group that was asked for | | {percent(r['group_retention'])} |",
        f"| `content_kept`: other attributes unchanged, same seed | | {percent(r['content_kept'])} |",
        "| `others_content_kept`: the same in other groups, with the corrector for green left on | | "
        f"{percent(r['others_content_kept'])} |",
        "| `collateral_change`: change of pictures that needed none, over that of corrected ones | | "
        f"{percent(r['collateral_change'])} |",
        "| `quality_ratio`: distance to the nearest drawable portrait, over that of clean uncorrected ones | | "
        f"{ratio(r['quality_ratio'])} |",
        f"| `diversity_ratio`: difference between pictures, over before | | {ratio(r['diversity_ratio'])} |",
    ]


def testbed():
    """What the base model draws."""
    r = json.loads((RESULTS / "testbed.json").read_text())
    planted = {name: portraits.phrases(name)[1] for name in portraits.STEREOTYPES}
    rows = [f"| group asked for | {' | '.join(planted.values())} | read back as asked |", "|---" * 6 + "|"]
    for group, found in r["groups"].items():
        shares = [found[name] for name in (*planted, "group")]
        rows.append(f"| {group} | " + " | ".join(percent(s["value"]) for s in shares) + " |")
    caption, obeyed = min(((c, v["value"]) for c, v in r["obeyed"].items()), key=lambda pair: pair[1])
    residual = r["residual"]["generated"] / r["residual"]["reconstructed"]
    return [
        f"{r['images']} images per group, captions that name only the group:",
        "",
        *rows,
        "",
        f"Of {len(r['obeyed'])} captions that state one more attribute, the least obeyed ({caption}) is obeyed in "
        f"{percent(obeyed)} of images. "
        f"Generated images are {residual:.2f} times as far from the nearest drawable one as the autoencoder's own "
        "reconstructions are. "
        f"The attribute that is hardest to read is read right in {percent(min(r['read_back'].values()))} of those.",
    ]


def from_words():
    """Correctors made in the graph, from words and from sorted images."""
    r = json.loads((RESULTS / "from_words.json").read_text())
    rows = [
        (f"from words: recorded in {r['record_s']:.0f} s, trained in {r['train_s']:.0f} s", r),
        ("64 sorted images a side", r["sorted"]["64"]),
        ("256 sorted images a side", r["sorted"]["256"]),
        (f"from prompts, no training (strength {r['teacher']['strength']:g})", r["teacher"]),
    ]
    return [
        f"{r['images']} images, ComfyUI {r['host']} on two CPU cores, reporting seeds; strength 1, and for the node "
        "without training the strength whose effect on tuning seeds is nearest to that of the first row:",
        "",
        "| corrector | hats nobody asked for | other attributes kept | read as the group asked for |",
        "|---|---|---|---|",
        f"| none | {rate(r['uncorrected'])} | | |",
        *(
            f"| {name} | {rate(m['stereotype_rate'])} | {percent(m['content_kept'])} | "
            f"{percent(m['group_retention'])} |"
            for name, m in rows
        ),
        "",
        f"By counted arithmetic a step of the corrector adds 1/{1 / r['added_cost_ratio']:.0f} of what the node "
        "without training adds on a checkpoint of Stable Diffusion 1.5's size "
        f"(1/{1 / r['added_cost_ratio_testbed']:.0f} on the testbed, whose base model is tiny).",
        *model_before(r),
    ]


def making():
    """What a corrector takes that a user makes, by its effort, and what it then does."""
    r = json.loads((RESULTS / "making.json").read_text())
    rows = [
        "| effort, world | kind | evaluations to make | still shows it | preferred | least attribute kept | "
        "others keep their own | collateral change | texture | ghost |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    efforts = [name for name in r if isinstance(r[name], dict)]
    for effort in efforts:
        worlds = {"testbed": r[effort]["testbed"], "32×32": r[effort]["ladder32"]}
        for world, kind in ((world, kind) for world, cells in worlds.items() for kind in cells):
            c = worlds[world][kind]
            if not isinstance(c, dict):
                continue
            evaluations = c.get("make_evaluations") or r[effort]["make_evaluations"][kind]
            shown = c["stereotype_rate"].get("after", c["stereotype_rate"])
            name, least = min(c["kept"].items(), key=lambda pair: pair[1])
            own = percent(c["others_attribute_kept"])
            rows.append(
                f"| {effort}, {world} | {kind} | {evaluations:,} | {rate(shown)} | "
                f"{percent(c['preferred_rate']['value'])} | {name} {least:.2f} | {own} | "
                f"{ratio(c['collateral_change'])} | {ratio(c['texture_ratio'])} | {ratio(c['ghost_ratio'])} |"
            )
    seconds = {effort: sum(r[effort]["record_s"].values()) / len(r[effort]["record_s"]) for effort in efforts}
    said = [
        f"*{effort}* takes {seconds[effort]:.0f} s to record a group of the testbed's, and "
        f"{r[effort]['train_s']:.0f} s to train all four together"
        for effort in efforts
    ]
    facts = f"{r['images']} pictures a cell, ComfyUI {r['host']}, {r['threads']} threads, reporting seeds."
    return [f"{facts} {'; '.join(said)}.", "", *rows, *model_before(r)]


def training():
    """Time and memory of training."""
    r = json.loads((RESULTS / "training.json").read_text())
    rows = [
        "| latents | kind | pairs | batch | seconds per 100 steps | private memory | on disk |",
        "|---|---|---|---|---|---|---|",
    ]
    longest = {(c["size"], c["kind"], c["pairs"]): c for c in r["cells"]}
    for (size, kind, pairs), c in longest.items():
        rows.append(
            f"| 4×{size}×{size} | {kind} | {pairs:,} | {c['batch']} | {100 * c['step_s']:.1f} | {c['peak_mib']} MiB | "
            f"{c['disk_mib']:.1f} MiB |"
        )
    return [f"{r['cores']} CPU cores, torch {r['torch']}:", "", *rows]


def quality(name):
    """Every method of one case at the strength that it did best at on the tuning seeds; ours at its default too."""
    r = json.loads((RESULTS / "quality.json").read_text())
    best = json.loads((ROOT / "benchmarks" / "rivals" / "settings.json").read_text())[name]
    columns = {
        "still shows it": lambda c: rate(c["stereotype_rate"]),
        "content kept": lambda c: percent(c["content_kept"]),
        "others' content kept": lambda c: percent(c["others_content_kept"]),
        "request obeyed": lambda c: percent(c["request_obeyed"]["value"]),
        "collateral change": lambda c: ratio(c["collateral_change"]),
        "quality ratio": lambda c: ratio(c["quality_ratio"]),
        "texture": lambda c: ratio(c.get("texture_ratio")),
        "ghost": lambda c: ratio(c.get("ghost_ratio")),
        "diversity ratio": lambda c: ratio(c["diversity_ratio"]),
        "evaluations to make": lambda c: f"{c['make_evaluations']:,}" if "make_evaluations" in c else "",
        "added evaluations": lambda c: f"{c['added_cost']['evaluations']:g}",
    }
    cells = {
        f"`{method}`, {cell['strength']:g}": cell
        for method, measured in r[name].items()
        for cell in measured
        if cell["strength"] in {best[method]["best"]["strength"]} | ({1.0} if method == "rs_corrector" else set())
    }
    shown = [[title, *map(show, cells.values())] for title, show in columns.items()]
    shown = [column for column in shown if any(column[1:])]  # a run before something was measured has none of it
    head, *rows = ("| " + " | ".join(row) + " |" for row in zip(["method, strength", *cells], *shown))
    return [head, "|" + "---|" * (1 + len(shown)), *rows, "", *better(r[name]), *model_before(r["setting"])]


def ratio(value):
    return "" if value is None else f"{value:.2f}"


def better(methods):
    """A sentence on whether any rival, at any strength, keeps more and shows less than ours does at strength 1."""
    ours = next(c for c in methods["rs_corrector"] if c["strength"] == 1.0)
    found = [
        f"`{method}` at {cell['strength']:g} ({cell['added_cost']['evaluations']:g} evaluations more)"
        for method, cells in methods.items()
        for cell in cells
        if method != "rs_corrector"
        and cell["stereotype_rate"]["value"] <= ours["stereotype_rate"]["value"]
        and cell["content_kept"] >= ours["content_kept"]
    ]
    front = "No other method, at any strength that was measured, shows as little of it and keeps as much."
    if found:
        front = f"Showing as little of it and keeping as much or more: {', '.join(found)}."
    gate = ours["request_obeyed_without_gate"]["value"]
    return [f"{front} Requests are obeyed by the gate on the prompt; without it ours obeys {percent(gate)} of them."]


def depictions():
    """What the shipped corrector shows instead, kind by kind."""
    r = json.loads((RESULTS / "depictions.json").read_text())
    rows = [
        "| kind | where | still shows it | gap | shows what is preferred | content kept | others' content kept | "
        "others keep their own | distance to others (by chance) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in portraits.STEREOTYPES:
        for where, c in r[kind].items():
            called = f"{where}, keep {c['keep']:.2f}" if "keep" in c else where
            values = [
                rate(c["stereotype_rate"]),
                f"{c['stereotype_gap']:+.3f}",
                percent(c["preferred_rate"]["value"]),
                percent(c["content_kept"]),
                percent(c["others_content_kept"]),
                percent(c["others_attribute_kept"]),
                f"{c['distribution_distance']:.3f} ({c['chance_distance']:.3f})",
            ]
            rows.append("| " + " | ".join([kind, called, *values]) + " |")
    return [f"{r['images']} images a cell, ComfyUI {r['host']}, reporting seeds:", "", *rows, *model_before(r)]


def robustness():
    """The shipped corrector under other settings."""
    r = json.loads((RESULTS / "robustness.json").read_text())
    rows = ["| | hats: without | with (gap) | content kept | distortion: without | with (gap) | content kept |"]
    rows.append("|---|---|---|---|---|---|---|")
    for label in r["hat"]["settings"]:
        cells = [r[name]["settings"][label] for name in ("hat", "distorted")]
        rows.append(
            f"| {label} | "
            + " | ".join(
                f"{percent(c['uncorrected_rate'])} | {percent(c['stereotype_rate']['value'])} "
                f"({c['stereotype_gap']:+.3f}) | {percent(c['content_kept'])}"
                for c in cells
            )
            + " |"
        )
    said = [v for name in ("hat", "distorted") for v in r[name]["captions"].values()]
    least = {side: min(v[side]["obeyed"]["value"] for v in said) for side in ("without", "with")}
    rate_of = [f"{n} a side {c['stereotype_rate']['value']:.1%}" for n, c in r["hat"]["pairs"].items()]
    return [
        f"{r['setting']['images']} images a cell, {r['setting']['host']}, reporting seeds:",
        "",
        *rows,
        "",
        f"Captions that state hair, glasses or background as well: the least obeyed is obeyed in "
        f"{percent(least['with'])} of images with the corrector on, {percent(least['without'])} without. Hats left by "
        f"correctors made from few sorted images: {', '.join(rate_of).replace('%', ' %')}.",
        *model_before(r["setting"]),
    ]


#: The host's names of what a model predicts, and how people call it.
CALLED = {"CONST": "flow matching", "COSMOS_RFLOW": "flow matching", "V_PREDICTION": "v-prediction"}


def families():
    """What each host's tests saw of every family."""
    hosts = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("matrix-*.json"))]
    rows = ["| family | " + " | ".join(f"ComfyUI {h['host']}" for h in hosts) + " |", "|---" * (1 + len(hosts)) + "|"]
    for key, family in FAMILIES.items():
        row = []
        for h in hosts:
            cell = next(cell for cell in h["cells"] if cell["name"] == f"test_family[{key}]")
            done, _, what = cell["reason"].partition(": ")
            row.append(f"{done}: {CALLED.get(what, what)}" if cell["outcome"] == "passed" else "not in this host")
        rows.append(f"| {family.name} | " + " | ".join(row) + " |")
    counts = [
        f"{sum(c['outcome'] == 'passed' for c in h['cells'])} of {len(h['cells'])} cells hold on ComfyUI {h['host']} "
        f"({len(h['samplers'])} samplers, {len(h['schedulers'])} schedulers, {len(h['guiders'])} guiders)"
        for h in hosts
    ]
    lacking = sorted({c["reason"] for h in hosts for c in h["cells"] if c["outcome"] == "skipped"})
    return [*rows, "", "; ".join(counts) + "." + (f" Left out: {'; '.join(lacking)}." if lacking else "")]


def flow():
    """The converted testbed, with the shipped corrector and with one made on it."""
    r = json.loads((RESULTS / "flow.json").read_text())
    columns = ("shipped", "made on flow")
    rows = ["| | the shipped corrector | one made on this model from words |", "|---|---|---|"]
    rows.append("| `stereotype_rate` | " + " | ".join(rate(r[c]["stereotype_rate"]) for c in columns) + " |")
    for name, form in {
        "stereotype_gap": "{:+.3f}".format, "group_retention": percent, "content_kept": percent,
        "others_content_kept": percent, "collateral_change": ratio, "quality_ratio": ratio, "diversity_ratio": ratio,
    }.items():  # fmt: skip
        rows.append(f"| `{name}` | " + " | ".join(form(r[c][name]) for c in columns) + " |")
    return [f"{r['images']} images, ComfyUI {r['host']}, reporting seeds, strength 1:", "", *rows, *model_before(r)]


SIZES = {"sd15": "Stable Diffusion 1.5 at 512×512", "sdxl": "SDXL at 1024×1024"}


def overheads():
    """The measured costs: SD 1.5's, then SDXL's."""
    return [json.loads((RESULTS / name).read_text()) for name in ("overhead.json", "overhead-sdxl.json")]


def added(share):
    return f"{100 * share:+.2f} %" if abs(share) < 0.1 else f"{100 * share:+.0f} %"


def overhead():
    """What every method adds to a step."""
    lines = []
    for r in overheads():
        lines += [
            f"A checkpoint of the size of {SIZES[r['model']]}, random weights, one picture with guidance, {r['host']}, "
            f"{r['device']}; a plain step takes {r['step_s']:.1f} s, by {r['methods']['none']['steps']:.0f} of them:",
            "",
            "| method | adds to a step's time | added arithmetic | evaluations of the base model a step |",
            "|---|---|---|---|",
        ]
        for name, m in r["methods"].items():
            if name == "none":
                continue
            between = f" ({100 * (m['low'] - 1):.2f}–{100 * (m['high'] - 1):.2f} %)" if name == "rs_corrector" else ""
            lines.append(f"| `{name}` | {added(m['ratio'] - 1)}{between} | {m['gflop']:,.1f} GFLOP | {m['evals']:g} |")
        lines.append("")
    a, s = overheads()[0]["alone"], overheads()[0]["start"]
    return [
        *lines,
        f"The correction itself is timed inside real steps, others by their totals. At 512×512 it is {a['gflop']:.2f} "
        f"GFLOP in {a['operations']} operations, holds {a['extra_peak_mib']:.0f} MiB more at its peak, and waits for "
        f"the device {a['synchronisations']} times. A corrector is {s['file_mib']:.1f} MiB and loads in "
        f"{1e3 * s['load_s']:.0f} ms; the pack adds {1e3 * s['import_s']:.0f} ms to ComfyUI's start.",
    ]


def growth():
    """How the cost of a correction grows, and what it would be on GPUs by arithmetic and bytes."""
    r = overheads()[0]
    lines = [f"Seconds of one correction on {r['device']}:", ""]
    for what, by in r["growth"].items():
        lines += [f"| {what} | " + " | ".join(by) + " |", "|---" * (len(by) + 1) + "|"]
        lines += ["| seconds | " + " | ".join(f"{v:.3f}" for v in by.values()) + " |", ""]
    s = r["start"]
    lines += [
        f"Compiled (`compile` of Load RS Corrector, {s['compile_s']:.0f} s at the first step): {s['compiled_s']:.3f} s "
        f"instead of {s['eager_s']:.3f} s at {8 * r['latents']}×{8 * r['latents']}.",
        "",
        "**On GPUs: an estimate**, by the roofline model from counted arithmetic and bytes, 5 µs for every kernel to "
        "start; nothing of it was measured:",
        "",
        "| | guided step, at best | correction | share | as one CUDA graph |",
        "|---|---|---|---|---|",
    ]
    for r in overheads():
        for gpu, e in r["estimate"].items():
            lines.append(
                f"| {SIZES[r['model']]}, {gpu} | {1e3 * e['step_s']:.1f} ms | {1e3 * e['ours_s']:.2f} ms | "
                f"{percent(e['ratio'] - 1)} | {percent(e['graph_ratio'] - 1)} |"
            )
    return lines


def throughput():
    """What bounds recording and training."""
    r = json.loads((RESULTS / "throughput.json").read_text())
    rec = r["recording"]
    rows = ["| latents | kind | batch | samples a second | where the time goes |", "|---|---|---|---|---|"]
    for c in r["training"]:
        shares = ", ".join(f"{sort} {share:.0%}".replace("%", " %") for sort, share in c["shares"].items())
        rows.append(f"| 4×{c['size']}×{c['size']} | {c['kind']} | {c['batch']} | {c['samples_s']:.0f} | {shares} |")
    return [
        f"{r['cores']} CPU cores. Recording from words on the testbed: {rec['images_s']:.1f} images a second, "
        f"{rec['evaluations_an_image']:.0f} evaluations of the checkpoint for each, which take "
        f"{rec['checkpoint_share']:.0%} of the time".replace("%", " %")
        + ". Training is bound by its arithmetic:",
        "",
        *rows,
    ]


def audits():
    """How often audits are right, of what is known."""
    r = json.loads((RESULTS / "audit.json").read_text())
    yield "| judge right in | " + " | ".join(f"{float(a):.0%}".replace("%", " %") for a in r["null"]) + " |"
    yield "|---" * (1 + len(r["null"])) + "|"
    for share in next(iter(r["null"].values()))["redrawn"]:
        said = [percent(c["redrawn"][share]["exit_1"] / (c["audits"] / len(c["redrawn"]))) for c in r["null"].values()]
        yield (
            f"| no harm done, {float(share):.0%} of pictures drawn again: harm said | ".replace("%", " %")
            + " | ".join(said)
            + " |"
        )
    for kind, c in r["harm"].items():
        found = [percent(n / c["audits"]) for n in c["by_accuracy"].values()]
        yield f"| {HARMED[kind]}: found | " + " | ".join(found) + " |"
    n, h, covered = next(iter(r["null"].values())), next(iter(r["harm"].values())), r["coverage"]
    rates, mid, gaps, apart = (percent(covered[name]) for name in ("rates", "mid_rates", "gaps", "diversity"))
    yield ""
    yield (
        f"{h['audits']:,} audits a cell; without harm of {n['pictures']} pictures a group, with harm of "
        f"{h['pictures']}. Of the 95 % intervals {rates} cover the rate that the judge would see in endless pictures, "
        f"{mid} where it lies between .3 and .7, {gaps} the gap, and {apart} the mean distance of two pictures."
    )
    c = r["corrected"]
    off = max(each["largest_bias"] for each in c["by_accuracy"].values())
    least = min(each["least_coverage"] for each in c["by_accuracy"].values())
    yield ""
    yield (
        f"Rates of {c['pictures']} pictures, corrected for the errors of judges who are right in 80 to 95 %, as "
        f"{c['known']} known pictures of either side tell them: {off:.3f} off on average at most, and at least "
        f"{percent(least)} of the 95 % intervals cover the true rate."
    )
    p, t = r["pool"], r["report"]
    yield ""
    yield (
        f"{p['audits']} audits of {p['pictures']} testbed pictures a group, drawn from one pool and judged by the "
        f"exact readers: a planted stereotype is missed in {p['misses']} of them, and something that was not planted "
        f"is flagged in {p['false_alarms']}. To read and report {t['pictures']:,} pictures takes {t['seconds']:g} s "
        f"and {t['added_mib']:g} MiB, judging left out."
    )
    s = dict(r["shared"])
    yield ""
    yield f"To draw {s.pop('pictures'):,} pictures: " + ", ".join(f"{n} {t:g} s" for n, t in s.items()) + "."


#: Harm of known size, in words.
HARMED = {
    "retention": "15 % of a group's pictures moved out of it",
    "gap": "a gap grown by .20",
    "diversity": "pictures of a group 30 % closer to one another",
}


def requests():
    r = json.loads((RESULTS / "requests.json").read_text())["encoders"]
    categories = list(dict.fromkeys(name for cell in r.values() for name in cell["categories"]))
    yield "| encoder | prompts | obeyed where it asks | mistaken where not | " + " | ".join(categories) + " |"
    yield "|---" * (4 + len(categories)) + "|"
    for name, cell in r.items():
        right = [f"{cell['categories'][c]:.2f}" if c in cell["categories"] else "" for c in categories]
        values = [name, str(cell["prompts"]), f"{cell['asked_obeyed']:.2f}", f"{cell['unasked_mistaken']:.2f}", *right]
        yield "| " + " | ".join(values) + " |"


def ladder(table, **arguments):
    """A table of `ladder_report`, of the committed run."""
    r = json.loads((RESULTS / "ladder.json").read_text())
    return [f"{r['images']} pictures a rate, ComfyUI {r['host']}, reporting seeds:", "", *table(r, **arguments)]


TABLES = {
    "README.md": {
        "main_job": main_job,
        "ladder": partial(ladder, ladder_report.summary, **ladder_report.USUAL),
        "quality hat": partial(quality, "hat"),
        "families": families,
        "overhead": overhead,
    },
    "docs/MEASUREMENTS.md": {
        "testbed": testbed,
        "ladder starts": partial(ladder, ladder_report.starts),
        "ladder kinds": partial(ladder, ladder_report.kinds),
        "ladder methods": partial(ladder, ladder_report.methods, grids=(16, 32)),
        "quality distorted": partial(quality, "distorted"),
        "depictions": depictions,
        "robustness": robustness,
        "requests": requests,
        "flow": flow,
        "making": making,
        "from_words": from_words,
        "training": training,
        "audit": audits,
        "growth": growth,
        "throughput": throughput,
    },
}


def render(page, text):
    """A page with every table between its markers made anew."""
    for name, table in TABLES[page].items():
        block = f"<!-- {name} -->\n" + "\n".join(table()) + f"\n<!-- /{name} -->"
        text, found = re.subn(f"<!-- {name} -->.*?<!-- /{name} -->", lambda _, b=block: b, text, flags=re.DOTALL)
        if found != 1:
            raise SystemExit(f"expected one pair of markers for {name} in {page}, got {found}; add them")
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 where a page differs from the results")
    check = parser.parse_args().check
    for page in TABLES:
        text = (ROOT / page).read_text()
        made = render(page, text)
        if not check:
            (ROOT / page).write_text(made)
        elif made != text:
            sys.exit(f"{page} differs from benchmarks/results; run python benchmarks/tables.py")


if __name__ == "__main__":
    main()
