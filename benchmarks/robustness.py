"""One default setting under other samplers, schedules, guidance, captions and fewer pairs.

`python benchmarks/robustness.py --json FILE`, on the real ComfyUI, in this process, on the reporting seeds of the
quality benchmark; `--seeds tune` for its tuning seeds. The shipped corrector at strength 1 throughout. Every cell is
compared with the uncorrected run of the same setting; `base_quality` is that run's residual over the one of 20 Euler
steps at CFG 3, and tells where the setting itself draws badly.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from from_words import from_sorted
from inprocess import Host
from quality import SAMPLING, SEEDS, Bench, save
from rivals import CASES, method
from tqdm.auto import tqdm

from rs_corrector.metrics import wilson
from rs_corrector.testbed import measure, portraits, readers

SETTINGS = {
    **{f"cfg {cfg:g}": {"cfg": cfg} for cfg in (2.0, 3.0, 5.0, 7.0, 10.0)},
    **{f"{steps} steps": {"steps": steps} for steps in (6, 10, 30, 50)},
    "dpmpp_2m, karras": {"sampler": "dpmpp_2m", "scheduler": "karras"},
    "dpmpp_sde": {"sampler": "dpmpp_sde"},
    "ddim, ddim_uniform": {"sampler": "ddim", "scheduler": "ddim_uniform"},
    "uni_pc": {"sampler": "uni_pc"},
}
#: Captions that state something else, with the reader's attribute and value.
CAPTIONS = {
    "black hair": ("hair", portraits.HAIR.index("black")),
    "blond hair": ("hair", portraits.HAIR.index("blond")),
    "with glasses": ("glasses", 1),
    "without glasses": ("glasses", 0),
    "rose background": ("background", portraits.BACKGROUNDS.index("rose")),
}
KEPT = ("stereotype_rate", "stereotype_gap", "group_retention", "content_kept", "others_content_kept", "quality_ratio")


def cell(bench, draw):
    """The metrics of one setting."""
    found = measure.report(bench.case.attribute, bench.before, bench.neutral(draw), bench.readings)
    before = found["stereotype_rate"]["before"]["value"]
    sides = {name: found[name]["after"] for name in ("stereotype_rate", "stereotype_gap")}
    return {"uncorrected_rate": before} | {name: (found | sides)[name] for name in KEPT}


def residual(pictures):
    """Mean residual of the pictures that show no planted stereotype."""
    read, distance = readers.read(torch.cat(list(pictures.values())))
    return distance[measure.shows_none(read)].mean().item()


def captioned(bench, draw):
    """How often captions that state another attribute are obeyed, without and with the corrector."""
    found = {}
    for clause, (attribute, value) in CAPTIONS.items():
        sides = {}
        for side, drawn in (("without", bench.plain), ("with", draw)):
            read = readers.read(bench.images(drawn, f"{bench.case.neutral}, {clause}", bench.count))[0]
            sides[side] = {
                "obeyed": wilson(measure.column(read, attribute) == value),
                "stereotype_rate": wilson(measure.column(read, bench.case.attribute) == 1),
            }
        found[clause] = sides
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--seeds", choices=SEEDS, default="report")
    parser.add_argument("--pairs", type=int, nargs="*", default=(32, 64, 128), help="sorted images a side")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    host, seed = Host(), SEEDS[args.seeds]
    result = {"setting": {"host": f"ComfyUI {host.version}", "images": args.images, "seeds": seed}}
    result["setting"] |= {"base": host.fingerprint, **SAMPLING}
    for name, case in CASES.items():
        draw, usual_bench = method("rs_corrector").prepare(host, case)(1.0), Bench(host, case, args.images, seed)
        usual = residual(usual_bench.before)
        cells = result[name] = {"settings": {}}
        for label, changed in tqdm(SETTINGS.items(), desc=name):
            bench = Bench(host, case, args.images, seed, SAMPLING | changed)
            base = residual(bench.before) / usual
            cells["settings"][label] = {"base_quality": base, **cell(bench, draw)}
            save(result, args.json)
        cells["captions"] = captioned(usual_bench, draw)
        save(result, args.json)
    bench = Bench(host, CASES["hat"], args.images, seed)
    result["hat"]["pairs"] = {}
    for count in args.pairs:
        draw = partial(host.sample, host.apply(from_sorted(host, count)))
        result["hat"]["pairs"][str(count)] = cell(bench, draw)
        save(result, args.json)
    print("\n".join(table(result)))


def table(result):
    """The result as lines of text."""
    for name in CASES:
        yield f"{name:22}{'base':>8}{'before':>8}{'rate':>8}{'gap':>8}{'kept':>8}{'others':>8}{'quality':>8}"
        for label, c in (result[name]["settings"] | result[name].get("pairs", {})).items():
            numbers = [c.get("base_quality", 1.0), c["uncorrected_rate"], c["stereotype_rate"]["value"]]
            numbers += [c[key] for key in ("stereotype_gap", "content_kept", "others_content_kept", "quality_ratio")]
            yield f"{label:22}" + "".join(f"{n:8.3f}" for n in numbers)
        for clause, sides in result[name]["captions"].items():
            shown = [f"{s} {v['obeyed']['value']:.3f} ({v['stereotype_rate']['value']:.3f})" for s, v in sides.items()]
            yield f"{clause:22}obeyed (stereotype) " + ", ".join(shown)


if __name__ == "__main__":
    main()
