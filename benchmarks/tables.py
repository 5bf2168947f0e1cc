"""Write the README's tables from `benchmarks/results/`, or check them: `python benchmarks/tables.py [--check]`."""

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def percent(value):
    return f"{value:.1%}".replace("%", " %")


def rate(interval):
    return f"{percent(interval['value'])} ({100 * interval['low']:.1f}–{percent(interval['high'])})"


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
    ]


def testbed():
    """What the base model draws."""
    r = json.loads((RESULTS / "testbed.json").read_text())
    rows = ["| group asked for | hat | faded and blurred | read back as asked |", "|---|---|---|---|"]
    for group, found in r["groups"].items():
        shares = (found["hat"], found["distorted"], found["group"])
        rows.append(f"| {group} | " + " | ".join(percent(s["value"]) for s in shares) + " |")
    obeyed = min(v["value"] for v in r["obeyed"].values())
    residual = r["residual"]["generated"] / r["residual"]["reconstructed"]
    return [
        f"{r['images']} images per group, captions that name only the group:",
        "",
        *rows,
        "",
        f"The least obeyed caption that states an attribute is obeyed in {percent(obeyed)} of images. Generated images "
        f"are {residual:.2f} times as far from the nearest drawable one as the autoencoder's own reconstructions are. "
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
        f"| none | {rate(before_correction())} | | |",
        *(
            f"| {name} | {rate(m['stereotype_rate'])} | {percent(m['content_kept'])} | "
            f"{percent(m['group_retention'])} |"
            for name, m in rows
        ),
        "",
        f"By counted arithmetic a step of the corrector adds 1/{1 / r['added_cost_ratio']:.0f} of what the node "
        "without training adds on a checkpoint of Stable Diffusion 1.5's size "
        f"(1/{1 / r['added_cost_ratio_testbed']:.0f} on the testbed, whose base model is tiny).",
    ]


def before_correction():
    return json.loads((RESULTS / "main_job.json").read_text())["stereotype_rate"]["before"]


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


TABLES = {"main_job": main_job, "testbed": testbed, "from_words": from_words, "training": training}


def render(text):
    """The README with every table between its markers made anew."""
    for name, table in TABLES.items():
        block = f"<!-- {name} -->\n" + "\n".join(table()) + f"\n<!-- /{name} -->"
        text, found = re.subn(f"<!-- {name} -->.*?<!-- /{name} -->", lambda _, b=block: b, text, flags=re.DOTALL)
        if found != 1:
            raise SystemExit(f"expected one pair of markers for {name} in README.md, got {found}; add them")
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 where the README differs from the results")
    check = parser.parse_args().check
    readme = ROOT / "README.md"
    text = readme.read_text()
    made = render(text)
    if check:
        sys.exit(0 if made == text else "README.md differs from benchmarks/results; run python benchmarks/tables.py")
    readme.write_text(made)


if __name__ == "__main__":
    main()
