"""The method from grid to grid, where the truth is known: `python benchmarks/ladder.py --json FILE`.

In the exact world, through the pack's nodes on the real ComfyUI, in this process: correctors are made from words at
the nodes' defaults, from 64 images a group, one file for all kinds of a rung, and measured on the reporting seeds
beside methods that need no training, at the settings that `quality.py` found for them. Cells that FILE has already are
kept. Beside FILE come a folder of sheets, the same seeds without and with the corrector, and a plot.
"""

import argparse
import json
import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from inprocess import Host
from ladder_report import lines, plot, sheet
from quality import SETTINGS, Evaluations, chunks, rest, save
from rivals import Case, method
from tqdm.auto import tqdm

from rs_corrector.comfyui import PACK
from rs_corrector.metrics import wilson
from rs_corrector.testbed import comparison, measure, portraits
from rs_corrector.testbed.exact import PLANTED, RATES, World, captions

METHODS = ("none", "negative_prompt", "prompt_rewrite", "sega", "prompt_teacher", "rs_corrector")
#: Methods' settings are those of the case of `quality.py` that is most like a kind.
LIKE = {"distorted": "distortion"}
#: The whole picture is redrawn where the stereotype is in the picture as a whole.
WHOLE = ("distorted",)
SAMPLING = dict(steps=20, cfg=3.0, sampler="euler")
LEARNT, STEPS = 64, 2500
#: First of the seeds that are learnt from.
RECORD_SEED = 1
#: Pictures of a sheet.
SHOWN = 12


@dataclass(frozen=True)
class Rung:
    """One world to measure in; one corrector file serves all its kinds."""

    grid: int
    parameterisation: str = "eps"
    texture: str = "white"
    rates: str = "strong"
    scene: bool = False

    @property
    def name(self):
        extra = [self.texture] * (self.texture != "white") + [self.rates] * (self.rates != "strong")
        return "-".join([str(self.grid), self.parameterisation, *extra, *["scene"] * self.scene])

    @property
    def scheduler(self):
        return "simple" if self.parameterisation == "flow" else "normal"

    @property
    def batch(self):
        """Of training: the node's default at 8x8 latents, and what its tooltip says at 64x64."""
        return 1024 // self.grid

    def facts(self):
        return {
            "grid": self.grid,
            "parameterisation": self.parameterisation,
            "texture": self.texture,
            "rates": list(RATES[self.rates]),
            "scene": self.scene,
            "keep": 0.0,
        }


LADDER = [
    *(Rung(grid) for grid in (8, 16, 32, 64)),
    *(Rung(grid, "flow") for grid in (16, 32)),
    Rung(16, "v"),
    *(Rung(grid, texture="pink") for grid in (16, 32)),
    *(Rung(grid, rates="moderate") for grid in (16, 32)),
    Rung(32, scene=True),
]
#: A small run of everything, to see that it works.
QUICK = dict(rungs=[Rung(8), Rung(16, "flow")], kinds=["hat", "hair"], count=8, learnt=8, steps=10)


def case(kind):
    """A planted kind in words; the preferred wording states the first other value."""
    group, rejected = PLANTED[kind]
    words = {value: phrase for name, value, phrase in captions.PHRASES if name == kind}
    preferred = min(value for value in words if value != rejected)
    neutral = portraits.neutral(group)
    whole = (f"{neutral}, {words[value]}" for value in (preferred, rejected))
    return Case(kind, group, neutral, *whole, words[preferred], words[rejected])


class Bench:
    """A rung's world on the host, its uncorrected pictures, and what is measured of a method.

    Args:
        count: pictures of the target group, of its explicit requests, and of all other groups together.
    """

    def __init__(self, host, rung, count):
        import exact

        self.host, self.rung, self.count = host, rung, count
        self.world = World(rung.grid, rung.texture, rung.rates, rung.scene)
        host.use(*exact.load(host, self.world, rung.parameterisation), rung.grid)
        self.draw = partial(host.sample, host.model)

    def pictures(self, draw, caption, count, **sampling):
        """(N, 4, n, n) latents in model space, of the reporting seeds."""
        chosen = SAMPLING | {"scheduler": self.rung.scheduler} | sampling
        drawn = [draw(caption, size, seed, **chosen) for size, seed in chunks(count, measure.REPORTING_SEED)]
        return self.host.model.get_model_object("latent_format").process_in(torch.cat(drawn)).float()

    @cached_property
    def before(self):
        return {group: self.pictures(self.draw, portraits.neutral(group), self.count) for group in self.world.groups}

    def measure(self, kind, draw):
        """All metrics of one kind under one method, but what it took to make; and the target's pictures."""
        asked = case(kind)
        others = -(-self.count // (len(self.world.groups) - 1))
        counts = {group: self.count if group == asked.group else others for group in self.world.groups}
        after = {group: self.pictures(draw, portraits.neutral(group), n) for group, n in counts.items()}
        natural = self.pictures(self.draw, asked.preferred, self.count)
        requests = self.world.read(self.pictures(draw, asked.rejected, self.count)).attributes
        obeyed = wilson(requests[:, self.world.column[kind]] == PLANTED[kind][1])
        found = comparison.compare(self.world, kind, self.before, after, natural)
        return found | {"request_obeyed": obeyed}, after[asked.group]

    def start(self):
        """What the world draws without guidance: how often each kind is shown, beside the planted rate."""
        rates = {}
        for kind, (group, value) in PLANTED.items():
            drawn = self.pictures(self.draw, portraits.neutral(group), self.count, cfg=1.0)
            rates[kind] = wilson(self.world.read(drawn).attributes[:, self.world.column[kind]] == value)
        top = float(self.host.model.get_model_object("model_sampling").sigma_max)
        planted = RATES[self.rung.rates][0]
        facts = {"grid": self.rung.grid, "parameterisation": self.rung.parameterisation}
        return facts | {"sigma_max": top, "planted": planted, "rates": rates}


def make(bench, base, learnt, steps):
    """A corrector for all kinds of a rung, by the nodes at their defaults, from a file where there is one.

    Returns:
        The corrector, and {"evaluations": {kind: of the base model}, "record_s", "train_s"}.
    """
    host, rung = bench.host, bench.rung
    file, facts = f"{rung.name}.safetensors", base / f"{rung.name}.json"
    if (base / "models" / "rs_correctors" / file).is_file() and facts.is_file():
        return host.run("RSCorrectorLoader", corrector_name=file)[0], json.loads(facts.read_text())
    begun, pairs, evaluations = time.monotonic(), None, {}
    for kind in PLANTED:
        asked = case(kind)
        words = {side: host.encode(getattr(asked, side)) for side in ("neutral", "preferred", "rejected")}
        with Evaluations(host) as seen:
            (pairs,) = host.run(
                "RSCorrectorPairsFromWords", model=host.model, group=asked.group, name=f"{rung.name}-{kind}",
                negative=host.encode(""), count=learnt, batch_size=min(learnt, 32), seed=RECORD_SEED,
                width=8 * rung.grid, height=8 * rung.grid, steps=SAMPLING["steps"], cfg=SAMPLING["cfg"],
                sampler_name=SAMPLING["sampler"], scheduler=rung.scheduler, merge_with=pairs, **words,
                redraw="the whole picture" if kind in WHOLE else "where the wordings differ",
            )  # fmt: skip
        evaluations[kind] = seen.rows
    recorded = time.monotonic()
    corrector, _, report = host.run(
        "RSCorrectorTrain", pairs=pairs, steps=steps, batch_size=rung.batch, width=48, learning_rate=2e-3, seed=0
    )
    print(rung.name, report)
    host.run("RSCorrectorSave", corrector=corrector, name=rung.name)
    made = {"evaluations": evaluations, "record_s": recorded - begun, "train_s": time.monotonic() - recorded}
    save(made, facts)
    return corrector, made


def prepare(bench, name, kind, corrector):
    """A method's function to draw with."""
    if name == "rs_corrector":
        return partial(bench.host.sample, bench.host.apply(corrector, PLANTED[kind][0]))
    best = json.loads(SETTINGS.read_text())[LIKE.get(kind, "attribute")][name]["best"]
    return method(name).prepare(bench.host, case(kind), **rest(best))(best["strength"])


def key(cell):
    return tuple(json.dumps(cell[name]) for name in (*Rung(8).facts(), "kind", "method"))


def climb(host, rungs, kinds, methods, count, base, path, again=False, learnt=LEARNT, steps=STEPS):
    """Fill the cells of these rungs in the file at `path`."""
    for rung in tqdm(rungs, desc="rungs"):
        wanted = [rung.facts() | {"kind": kind, "method": name} for kind in kinds for name in methods]
        known = {key(cell) for cell in read(path)["cells"]}
        wanted = [cell for cell in wanted if again or key(cell) not in known]
        wanted.sort(key=lambda cell: cell["method"] != "rs_corrector")
        started = any((s["grid"], s["parameterisation"]) == (rung.grid, "eps") for s in read(path)["start"])
        first = rung == Rung(rung.grid) and not started
        if not wanted and not first:
            continue
        bench = Bench(host, rung, count)
        if first:
            starts = [bench.start(), Bench(host, Rung(rung.grid, "eps_wide"), count).start()]
            update(path, host, count, start=starts)
            bench = Bench(host, rung, count)
        ours = any(cell["method"] == "rs_corrector" for cell in wanted)
        corrector, made = make(bench, base, learnt, steps) if ours else (None, {})
        rows = {}
        for cell in tqdm(wanted, desc=rung.name):
            kind, name = cell["kind"], cell["method"]
            found, drawn = bench.measure(kind, prepare(bench, name, kind, corrector))
            gaps = found.pop("stereotype_gap")
            cell |= found | {"stereotype_gap": gaps["after"], "stereotype_gap_before": gaps["before"]}
            cell["make_evaluations"] = made["evaluations"][kind] if name == "rs_corrector" else 0
            if name == "rs_corrector":
                cell |= {"record_s": round(made["record_s"]), "train_s": round(made["train_s"])}
                rows[kind] = bench.before[PLANTED[kind][0]][:SHOWN], drawn[:SHOWN]
            update(path, host, count, cells=[cell])
        if rows:
            sheet([row for pair in rows.values() for row in pair], path.with_suffix("") / f"{rung.name}.png")


def read(path):
    return json.loads(path.read_text()) if path.is_file() else {"cells": [], "start": []}


def update(path, host, count, cells=(), start=()):
    """Put cells into the file, in place of those of the same name."""
    result = read(path)
    result = {"host": host.version, "images": count} | result
    if (result["host"], result["images"]) != (host.version, count):
        raise SystemExit(
            f"expected {path} to be of ComfyUI {host.version} and {count} pictures a rate, got {result['host']} and "
            f"{result['images']}; delete it or name another file"
        )
    new = {key(cell) for cell in cells}
    result["cells"] = sorted([c for c in result["cells"] if key(c) not in new] + list(cells), key=place)
    result["start"] = [*result["start"], *start]
    save(result, path)


def place(cell):
    """Where a cell stands in the file: rungs in the order of `LADDER`."""
    names = [json.dumps(rung.facts()) for rung in LADDER]
    own = json.dumps({name: cell[name] for name in Rung(8).facts()})
    return (
        names.index(own) if own in names else len(names),
        list(PLANTED).index(cell["kind"]),
        METHODS.index(cell["method"]),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--grids", type=int, nargs="+", help="all of them")
    parser.add_argument("--kinds", nargs="+", default=list(PLANTED))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--rungs", nargs="+", choices=[rung.name for rung in LADDER], help="by name; all of them")
    parser.add_argument("--images", type=int, default=256, help="pictures a rate")
    parser.add_argument("--base", type=Path, default=PACK / "build" / "ladder", help="where correctors are kept")
    parser.add_argument("--again", action="store_true", help="measure cells anew that FILE has already")
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works; name another --base")
    args = parser.parse_args()
    known = {"grid": sorted({rung.grid for rung in LADDER}), "kind": list(PLANTED)}
    for what, given in (("grid", args.grids or ()), ("kind", args.kinds)):
        for value in given:
            if value not in known[what]:
                listed = ", ".join(map(str, known[what]))
                parser.error(f"expected a {what} out of {listed}, got {value}; take one of those")
    args.base.mkdir(parents=True, exist_ok=True)
    host = Host(args.base)
    rungs = [r for r in LADDER if (not args.grids or r.grid in args.grids) and (not args.rungs or r.name in args.rungs)]
    chosen = dict(rungs=rungs, kinds=args.kinds, count=args.images) | (QUICK if args.quick else {})
    climb(host, methods=args.methods, base=args.base, path=args.json, again=args.again, **chosen)
    result = read(args.json)
    print("\n".join(lines(result)))
    plot(result, args.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
