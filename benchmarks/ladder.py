"""The method from grid to grid, where the truth is known: `python benchmarks/ladder.py --json FILE`.

In the exact world, through the pack's nodes on the real ComfyUI, in this process: correctors are made from words by the
nodes' defaults, from 56 images a group, one file for all kinds of a rung, and measured on the reporting seeds
beside methods that need no training, at the settings that `quality.py` found for them. Cells that FILE has already are
kept, and several runs may fill one FILE. Beside FILE come a folder of sheets, the same seeds without and with the
corrector, and a plot.
"""

import argparse
import json
from pathlib import Path

from filelock import FileLock
from inprocess import Host
from ladder_bench import LEARNT, LEARNT_FROM, Bench, Rung, make, prepare
from ladder_report import lines, plot, sheet
from quality import save
from tqdm.auto import tqdm

from rs_corrector.comfyui import PACK
from rs_corrector.recipe import STEPS
from rs_corrector.testbed.exact import PLANTED
from rs_corrector.wordings import PLACE

#: "in_series" is ours with the corrections of all kinds on at once, an Apply each.
METHODS = ("none", "negative_prompt", "prompt_rewrite", "sega", "prompt_teacher", "rs_corrector", "in_series")
#: In scenes, every picture in another context, beside a corrector that was made from one prompt.
SCENE_METHODS = ("none", "one_prompt", "rs_corrector")
EVERY = (*METHODS, "one_prompt")
LADDER = [
    *(Rung(grid) for grid in (8, 16, 32, 64)),
    *(Rung(grid, "flow") for grid in (16, 32)),
    Rung(16, "v"),
    *(Rung(grid, texture="pink") for grid in (16, 32)),
    *(Rung(grid, rates="moderate") for grid in (16, 32)),
    Rung(32, scene=True),
    *(Rung(16, rates=rates, several=True) for rates in ("strong", "moderate")),
    Rung(32, rates="moderate", several=True),
]
USUAL = dict(kinds=list(PLANTED), count=256)
#: A small run of everything, to see that it works.
QUICK_RUNGS = [Rung(8), Rung(8, "flow"), Rung(8, several=True)]
QUICK = dict(kinds=["hat", "hair"], count=8, learnt=8, steps=10)


def key(cell):
    return tuple(json.dumps(cell[name]) for name in (*Rung(8).facts(), "kind", "method"))


def climb(host, rungs, kinds, methods, count, path, again=False, learnt=LEARNT, steps=STEPS):
    """Fill the cells of these rungs in the file at `path`."""
    update(path, host, count)
    for rung in tqdm(rungs, desc="rungs"):
        result = read(path)
        known = {key(cell) for cell in result["cells"]}
        known_here = SCENE_METHODS if rung.scene else ("none", "rs_corrector") if rung.several else METHODS
        chosen = [name for name in reversed(known_here) if name in methods]
        wanted = [
            rung.facts() | {"kind": kind, "method": name} for name in chosen for kind in kinds if kind in rung.kinds
        ]
        wanted = [cell for cell in wanted if again or key(cell) not in known]
        if rung == Rung(rung.grid) and all(start["grid"] != rung.grid for start in result["start"]):
            starts = [Bench(host, Rung(rung.grid, name), count).start() for name in ("eps", "eps_wide")]
            update(path, host, count, start=starts)
        if not wanted:
            continue
        bench = Bench(host, rung, count)
        picture = path.with_suffix("") / f"{rung.name}.png"
        learnt_here = {cell["method"] for cell in wanted} & LEARNT_FROM.keys()
        if not picture.is_file() and "rs_corrector" in methods:
            learnt_here.add("rs_corrector")
        correctors = {
            name: make(bench, learnt, steps, LEARNT_FROM[name] if rung.scene else (PLACE,)) for name in learnt_here
        }
        for cell in tqdm(wanted, desc=rung.name):
            kind, name = cell["kind"], cell["method"]
            corrector, made = correctors.get(name, (None, {}))
            if kind in made.get("refused", {}):
                update(path, host, count, refused=[cell | {"said": made["refused"][kind]}])
                continue
            cell |= bench.measure(kind, prepare(bench, name, kind, corrector)) | {"make_evaluations": 0}
            if corrector is not None:
                seconds = {unit: round(made[unit]) for unit in ("record_s", "train_s")}
                cell |= {"make_evaluations": made["evaluations"][kind], "weights": made["weights"], **seconds}
            update(path, host, count, cells=[cell])
        corrector, _ = correctors.get("rs_corrector", (None, {}))
        if corrector is not None:
            sheet(bench.pairs_to_show(corrector), picture)


def read(path):
    return json.loads(path.read_text()) if path.is_file() else {"cells": [], "start": []}


def update(path, host, count, cells=(), start=(), refused=()):
    """Put cells into the file, in place of those of the same name; other runs may do so too.

    Args:
        start: what `Bench.start` says of grids.
        refused: cells of kinds for which the node makes no corrector, with what it says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        result = {"host": host.version, "images": count} | read(path)
        if (result["host"], result["images"]) != (host.version, count):
            raise SystemExit(
                f"expected {path} to be of ComfyUI {host.version} and {count} pictures a rate, got {result['host']} "
                f"and {result['images']}; delete it or name another file"
            )
        new = {key(cell) for cell in [*cells, *refused]}
        result["cells"] = sorted([c for c in result["cells"] if key(c) not in new] + list(cells), key=place)
        result["start"] = [*result["start"], *start]
        result["refused"] = [c for c in result.get("refused", []) if key(c) not in new] + list(refused)
        save(result, path)


def place(cell):
    """Where a cell stands in the file: rungs in the order of `LADDER`."""
    rungs = [rung.facts() for rung in LADDER]
    own = {name: cell[name] for name in rungs[0]}
    kind, name = list(PLANTED).index(cell["kind"]), EVERY.index(cell["method"])
    return rungs.index(own) if own in rungs else len(rungs), kind, name


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--grids", type=int, nargs="+", help="all of them")
    parser.add_argument("--kinds", nargs="+", help="all of them")
    parser.add_argument("--methods", nargs="+", choices=EVERY, default=EVERY)
    parser.add_argument("--rungs", nargs="+", choices=[rung.name for rung in LADDER], help="by name; all of them")
    parser.add_argument("--images", type=int, help="pictures a rate; 256")
    parser.add_argument("--base", type=Path, help="where correctors are kept; build/ladder")
    parser.add_argument("--again", action="store_true", help="measure cells anew that FILE has already")
    parser.add_argument("--quick", action="store_true", help="little of everything, in a folder of its own")
    args = parser.parse_args(argv)
    known = {"grid": sorted({rung.grid for rung in LADDER}), "kind": list(PLANTED)}
    for what, given in (("grid", args.grids or ()), ("kind", args.kinds or ())):
        for value in given:
            if value not in known[what]:
                listed = ", ".join(map(str, known[what]))
                parser.error(f"expected a {what} out of {listed}, got {value}; take one of those")
    rungs = QUICK_RUNGS if args.quick and not (args.grids or args.rungs) else LADDER
    args.rungs = [
        r for r in rungs if (not args.grids or r.grid in args.grids) and (not args.rungs or r.name in args.rungs)
    ]
    if not args.rungs:
        parser.error("expected --grids and --rungs that have a rung in common, got none; leave one of them out")
    return args


def main(argv=None):
    args = parse_args(argv)
    base = args.base or (None if args.quick else PACK / "build" / "ladder")
    if base is not None:
        base.mkdir(parents=True, exist_ok=True)
    run(Host(base), args)


def run(host, args):
    """What the command line asks for, on a host that is there."""
    asked = {"kinds": args.kinds, "count": args.images}
    chosen = (QUICK if args.quick else USUAL) | {name: value for name, value in asked.items() if value is not None}
    climb(host, args.rungs, methods=args.methods, path=args.json, again=args.again, **chosen)
    result = read(args.json)
    print("\n".join(lines(result)))
    plot(result, args.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
