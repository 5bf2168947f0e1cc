"""Every method on the same model, seeds and steps: `python benchmarks/quality.py --json FILE`.

On the real ComfyUI, in this process. `--seeds tune` tries every setting of a method's grid on the tuning seeds, and
some strengths around the best one; all trials and the best of them go to `benchmarks/rivals/settings.json`.
`--seeds report` measures every method at its best setting, over its own strengths, on the reporting seeds. A run that
is cut off goes on where it stopped.
"""

import argparse
import json
import subprocess
import time
from functools import cached_property
from pathlib import Path

import torch
from inprocess import Host
from rivals import CASES, METHODS, forget, method
from tqdm.auto import tqdm

from rs_corrector import weights
from rs_corrector.files import digest, replacing
from rs_corrector.testbed import comparison, measure, portraits, readers

SETTINGS = Path(__file__).parent / "rivals" / "settings.json"
SEEDS = {"tune": measure.TUNING_SEED, "report": measure.REPORTING_SEED}
CHUNK = 64  # images at once; a cell's chunks take consecutive seeds
SAMPLING = dict(steps=20, cfg=3.0, sampler="euler", scheduler="normal")
#: Shares of the grid's best strength that are tried after it.
AROUND = (0.8, 1.25)
COLUMNS = (
    "stereotype_rate", "stereotype_gap", "quality_gap", "request_obeyed", "group_retention", "content_kept",
    "others_content_kept", "collateral_change", "quality_ratio", "diversity_ratio", "added_cost",
)  # fmt: skip
#: Of a method, whatever its strength.
COSTS = ("make_evaluations", "make_s", "added_cost")
#: What is kept of a cell beside them.
MORE = (
    "preferred_rate", "kept", "distance", "distance_by_chance", "shift", "texture_ratio", "ghost_ratio",
    "others_attribute_kept", "distribution_distance", "chance_distance",
)  # fmt: skip


def chunks(count, seed):
    """(size, seed) of every batch of a cell."""
    return [(min(CHUNK, count - done), seed + i) for i, done in enumerate(range(0, count, CHUNK))]


class Bench:
    """The uncorrected pictures of one case and what every method's are compared with them by.

    Args:
        count: pictures of the target group, of its explicit requests, and of all other groups together.
        seed: first of the noise seeds.
        sampling: steps, cfg, sampler, scheduler.
    """

    def __init__(self, host, case, count, seed, sampling=SAMPLING):
        self.host, self.case, self.count, self.seed, self.sampling = host, case, count, seed, sampling
        self.plain = method("none").prepare(host, case)(1.0)
        self.before = self.neutral(self.plain)

    @cached_property
    def readings(self):
        """What is read without a correction."""
        return comparison.readings(measure.WORLD, self.before)

    def images(self, draw, caption, count):
        """A cell's pictures: (N, 3, 64, 64)."""
        drawn = [draw(caption, size, own, **self.sampling) for size, own in chunks(count, self.seed)]
        return self.host.decode(torch.cat(drawn))

    def neutral(self, draw):
        others = -(-self.count // (len(portraits.GROUPS) - 1))
        counts = {group: self.count if group == self.case.group else others for group in portraits.GROUPS}
        return {group: self.images(draw, portraits.neutral(group), n) for group, n in counts.items()}

    def requests(self, draw):
        """How often a caption that asks for the attribute itself gets it."""
        return measure.obeyed(self.case.attribute, self.images(draw, self.case.rejected, self.count))

    def measure(self, draw):
        """All metrics of one method at one strength, but its cost."""
        found = measure.report(self.case.attribute, self.before, self.neutral(draw), self.readings)
        return after_only(found | {"request_obeyed": self.requests(draw)})

    def trial(self, draw):
        """What settings are picked by: shares that still show the stereotype, lost content, and lost the group."""
        after = readers.read(self.images(draw, self.case.neutral, self.count))[0]
        found = measure.target_metrics(self.case.attribute, self.readings[self.case.group][0], after)
        rate, kept = found["stereotype_rate"]["value"], found["content_kept"]
        lost = 1 - found["group_retention"]
        return {"stereotype_rate": rate, "content_kept": kept, "objective": rate + 1 - kept + lost}

    def added_cost(self, draw, repeats=3):
        """Added evaluations of the base model a step, and the rest of the added wall time as a share of a step."""
        rows, clocks = {}, {each: [] for each in (draw, self.plain)}
        for _ in range(repeats):
            for each in clocks:
                each(self.case.neutral, 1, self.seed, **self.sampling | {"steps": 1})  # the host patches weights here
                begun = time.perf_counter()
                with Evaluations(self.host) as seen:
                    each(self.case.neutral, CHUNK, self.seed, **self.sampling)
                clocks[each].append(time.perf_counter() - begun)
                rows[each] = seen.rows / CHUNK / self.sampling["steps"]
        share = min(clocks[draw]) / min(clocks[self.plain]) - rows[draw] / rows[self.plain]
        return {"evaluations": round(rows[draw] - rows[self.plain], 2), "share": round(share, 3)}


def after_only(found):
    """What is kept of a `measure.report`: of what it has before and after, the latter."""
    found = found | {name: found[name]["after"] for name in ("stereotype_rate", "stereotype_gap", "quality_gap")}
    return {name: found[name] for name in (*COLUMNS, *MORE) if name in found}


class Evaluations:
    """Counts the rows that the base model evaluates, while it lasts."""

    def __init__(self, host):
        self.network, self.rows = host.model.model.diffusion_model, 0

    def __enter__(self):
        self.handle = self.network.register_forward_pre_hook(self.count)
        return self

    def count(self, network, inputs):
        self.rows += len(inputs[0])

    def __exit__(self, *exception):
        self.handle.remove()


def tune(host, methods, cases, count, path):
    """Every setting of every grid on the tuning seeds; trials on this checkpoint that `path` has already are kept."""
    found, base = json.loads(path.read_text()) if path.is_file() else {}, host.fingerprint
    for name in cases:
        case, bench = CASES[name], None
        for rival in tqdm(methods, desc=f"tune, {name}"):
            entry = found.setdefault(name, {}).setdefault(rival, {})
            if entry.get("base") != base:
                entry |= {"base": base, "trials": []}
            grid = method(rival).GRID
            for i in range(len(grid) + (len(AROUND) if len(grid) > 1 else 0)):
                setting = grid[i] if i < len(grid) else around(entry["trials"][: len(grid)], grid[0], i - len(grid))
                setting = {"images": count, **setting}
                if i < len(entry["trials"]) and setting.items() <= entry["trials"][i].items():
                    continue
                bench = bench or Bench(host, case, count, SEEDS["tune"])
                draw = method(rival).prepare(host, case, **rest(setting))(setting["strength"])
                entry["trials"][i:] = [{**setting, **bench.trial(draw)}]
                entry["best"] = best(entry["trials"], grid[0])
                save(found, path)
    return found


def rest(setting):
    """The keyword arguments of `prepare`."""
    return {name: value for name, value in setting.items() if name not in ("strength", "images")}


def best(trials, names):
    trial = min(trials, key=lambda t: t["objective"])
    return {name: trial[name] for name in names}


def around(trials, names, i):
    """The grid's best setting with another strength."""
    setting = best(trials, names)
    return setting | {"strength": round(setting["strength"] * AROUND[i], 4)}


def report(host, methods, cases, count, seeds, path):
    """Every method over its strengths; cells that `path` has already are kept."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    setting = {"host": f"ComfyUI {host.version}", "torch": torch.__version__, "images": count, "seeds": SEEDS[seeds]}
    setting |= {"base": host.fingerprint, "chunk": CHUNK, **SAMPLING}
    result = json.loads(path.read_text()) if path.is_file() else {"setting": setting}
    if result["setting"] != setting:
        raise SystemExit(f"expected the setting {setting} in {path}, got another; delete the file or name another one")
    picked = json.loads(SETTINGS.read_text())
    if untuned := [name for name in cases if name not in picked]:
        raise SystemExit(f"expected cases that have settings, got {', '.join(untuned)}; run --seeds tune first")
    for name in cases:
        case, cells = CASES[name], result.setdefault(name, {})
        chosen = {rival: rest(picked[name][rival]["best"]) for rival in methods}
        made = {rival: {"setting": chosen[rival]} for rival in methods}
        if "rs_corrector" in made:
            made["rs_corrector"]["weights"] = digest(weights.SHIPPED)
        for rival, facts in made.items():
            cells[rival] = [c for c in cells.get(rival, []) if facts.items() <= c.items()]
        wanted = [(m, s) for m in methods for s in strengths(m, picked[name])]
        wanted = [(m, s) for m, s in wanted if all(c["strength"] != s for c in cells[m])]
        wanted.sort(key=lambda pair: pair[1] != picked[name][pair[0]]["best"]["strength"])  # the table's rows first
        bench = Bench(host, case, count, SEEDS[seeds]) if wanted else None
        for rival, strength in tqdm(wanted, desc=name):
            if cells[rival]:
                at, costs = method(rival).prepare(host, case, **chosen[rival]), {c: cells[rival][0][c] for c in COSTS}
            else:
                at, costs = making(host, rival, case, chosen[rival])
                costs["added_cost"] = bench.added_cost(at(strength))
            draw = at(strength)
            cell = {"strength": strength, "commit": commit, **made[rival], **bench.measure(draw), **costs}
            if rival == "rs_corrector":
                deaf = method(rival).prepare(host, case, obey=False)(strength)
                cell["request_obeyed_without_gate"] = bench.requests(deaf)
            cells[rival] = sorted([*cells[rival], cell], key=lambda c: c["strength"])
            save(result, path)
    return result


def making(host, rival, case, setting):
    """A method that is prepared from nothing, and {"make_evaluations", "make_s"}: what that took."""
    forget()
    begun = time.monotonic()
    with Evaluations(host) as seen:
        at = method(rival).prepare(host, case, **setting)
    took = {"make_evaluations": seen.rows, "make_s": round(time.monotonic() - begun, 1)}
    return at, method(rival).took(host, case) if hasattr(method(rival), "took") else took


def strengths(rival, picked):
    """The one that the tuning seeds preferred, then a method's own."""
    return list(dict.fromkeys([picked[rival]["best"]["strength"], *method(rival).STRENGTHS]))


def save(result, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


def table(result):
    """The result as lines of text."""
    for name in [name for name in CASES if name in result]:
        yield f"{name:22}" + "".join(f"{c.removeprefix('stereotype_')[:10]:>11}" for c in COLUMNS)
        for rival, cells in result[name].items():
            for cell in cells:
                label = f"{rival} {cell['strength']:g}"
                yield f"{label:22}" + "".join(f"{show(cell[c]):>11}" for c in COLUMNS)


def show(value):
    if value is None:
        return ""
    if isinstance(value, dict):
        value = value["value"] if "value" in value else sum(value.values())
    return f"{value:.3f}"


def plot(result, path):
    """Pareto fronts: how many still show the stereotype, against what was kept."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = [name for name in CASES if name in result]
    figure, axes = pyplot.subplots(1, len(cases), figsize=(6 * len(cases) + 1.5, 5), sharey=True, squeeze=False)
    axes = axes[0]
    for axis, name in zip(axes, cases):
        for rival, cells in result[name].items():
            rates = [100 * c["stereotype_rate"]["value"] for c in cells]
            ours = rival == "rs_corrector"
            axis.plot(
                rates, [c["content_kept"] for c in cells], "o-", label=rival, linewidth=3 if ours else 1,
                color="black" if ours else None, markersize=6 if ours else 4, zorder=3 if ours else 2,
            )  # fmt: skip
        axis.set(title=name, xlabel="stereotype_rate, % (fewer is better)", ylabel="content_kept (more is better)")
        axis.grid(alpha=0.3)
    axes[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seeds", choices=SEEDS, default="report")
    parser.add_argument("--images", type=int, help="a cell; 256 for a report, 64 for tuning")
    parser.add_argument("--json", type=Path, help="result of a report")
    args = parser.parse_args()
    if args.seeds == "report" and args.json is None:
        parser.error("expected --json FILE for a report, got none; name a file")
    host = Host()
    if args.seeds == "tune":
        found = tune(host, args.methods, args.cases, args.images or 64, args.json or SETTINGS)
        for name, methods in found.items():
            for rival, entry in methods.items():
                print(name, rival, entry["best"], min(t["objective"] for t in entry["trials"]))
        return
    result = report(host, args.methods, args.cases, args.images or 256, args.seeds, args.json)
    print("\n".join(table(result)))
    plot(result, args.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
