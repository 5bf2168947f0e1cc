"""Every method on the same model, seeds and steps: `python benchmarks/quality.py --json FILE`.

On the real ComfyUI, in this process. `--seeds tune` tries every setting of a method's grid on the tuning seeds and
writes the best of each to `benchmarks/rivals/settings.json`; `--seeds report` measures every method at that setting,
over its own strengths, on the reporting seeds. A run that is cut off goes on where it stopped.
"""

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path

import torch
from inprocess import Host
from rivals import CASES, METHODS, method
from tqdm.auto import tqdm

from rs_corrector.files import replacing
from rs_corrector.testbed import measure, portraits, readers

SETTINGS = Path(__file__).parent / "rivals" / "settings.json"
SEEDS = {"tune": measure.TUNING_SEED, "report": measure.REPORTING_SEED}
CHUNK = 64  # images at once; a cell's chunks take consecutive seeds
SAMPLING = dict(steps=20, cfg=3.0, sampler="euler", scheduler="normal")
COLUMNS = (
    "stereotype_rate", "stereotype_gap", "quality_gap", "request_obeyed", "group_retention", "content_kept",
    "others_content_kept", "collateral_change", "quality_ratio", "diversity_ratio", "added_cost",
)  # fmt: skip


def chunks(count, seed):
    """(size, seed) of every batch of a cell."""
    return [(min(CHUNK, count - done), seed + i) for i, done in enumerate(range(0, count, CHUNK))]


def images(host, draw, caption, count, seed, strength, sampling=SAMPLING):
    """A cell's pictures: (N, 3, 64, 64)."""
    return host.decode(torch.cat([draw(caption, size, own, strength, **sampling) for size, own in chunks(count, seed)]))


class Bench:
    """The uncorrected pictures of one case and what every method's are compared with them by.

    Args:
        count: pictures of the target group, of its explicit requests, and of all other groups together.
        seed: first of the noise seeds.
        sampling: steps, cfg, sampler, scheduler.
    """

    def __init__(self, host, case, count, seed, sampling=SAMPLING):
        self.host, self.case, self.count, self.seed, self.sampling = host, case, count, seed, sampling
        self.before = self.neutral(method("none").prepare(host, case), 1.0)

    def neutral(self, draw, strength):
        others = -(-self.count // (len(portraits.GROUPS) - 1))
        count = {group: self.count if group == self.case.group else others for group in portraits.GROUPS}
        return {group: self.images(draw, portraits.neutral(group), strength, n) for group, n in count.items()}

    def images(self, draw, caption, strength, count):
        return images(self.host, draw, caption, count, self.seed, strength, self.sampling)

    def measure(self, draw, strength):
        """All metrics of one method at one strength."""
        asked = self.images(draw, self.case.rejected, strength, self.count)
        found = measure.report(self.case.attribute, self.before, self.neutral(draw, strength))
        sides = ("stereotype_rate", "stereotype_gap", "quality_gap")
        found |= {name: found[name]["after"] for name in sides}
        found["request_obeyed"] = measure.obeyed(self.case.attribute, asked)
        return {name: found[name] for name in COLUMNS if name in found}

    def trial(self, draw, strength):
        """The share that still shows the stereotype plus the share of content lost: what settings are picked by."""
        after = self.images(draw, self.case.neutral, strength, self.count)
        read = [readers.read(pictures)[0] for pictures in (self.before[self.case.group], after)]
        rate = measure.column(read[1], self.case.attribute).float().mean().item()
        kept = measure.content_kept(*read).mean().item()
        return {"stereotype_rate": rate, "content_kept": kept, "objective": rate + 1 - kept}

    def added_cost(self, draw, strength, repeats=3):
        """Added evaluations of the base model a step, and the rest of the added wall time as a share of a step."""
        plain = method("none").prepare(self.host, self.case)
        clocks, rows = {draw: [], plain: []}, {}
        for _ in range(repeats):
            for each in clocks:
                begun = time.perf_counter()
                with Evaluations(self.host) as seen:
                    each(self.case.neutral, CHUNK, self.seed, strength, **self.sampling)
                clocks[each].append(time.perf_counter() - begun)
                rows[each] = seen.rows / CHUNK / self.sampling["steps"]
        own, base = (statistics.median(clocks[each]) for each in (draw, plain))
        share = max(own / base - rows[draw] / rows[plain], 0.0)
        return {"evaluations": round(rows[draw] - rows[plain], 2), "share": round(share, 3)}


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


def tune(host, methods, count, path):
    """Every setting of every grid on the tuning seeds; the whole grid and the best of it go to `path`."""
    found = json.loads(path.read_text()) if path.is_file() else {}
    for name, case in CASES.items():
        bench = Bench(host, case, count, SEEDS["tune"])
        for rival in tqdm(methods, desc=f"tune, {name}"):
            trials = []
            for setting in method(rival).GRID:
                strength, rest = setting["strength"], {k: v for k, v in setting.items() if k != "strength"}
                trials.append({**setting, **bench.trial(method(rival).prepare(host, case, **rest), strength)})
            best = min(trials, key=lambda t: t["objective"])
            known = method(rival).GRID[0].keys()
            found.setdefault(name, {})[rival] = {
                "best": {k: v for k, v in best.items() if k in known}, "images": count, "trials": trials,
            }  # fmt: skip
            save(found, path)
    return found


def report(host, methods, count, seeds, path):
    """Every method over its strengths; cells that `path` has already are kept."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    setting = {"host": f"ComfyUI {host.version}", "torch": torch.__version__, "images": count, "seeds": SEEDS[seeds]}
    setting |= {"chunk": CHUNK, **SAMPLING}
    result = json.loads(path.read_text()) if path.is_file() else {}
    if result and {k: v for k, v in result["setting"].items() if k != "commit"} != setting:
        raise SystemExit(f"expected the setting {setting} in {path}, got another; delete the file or name another one")
    result = {name: {} for name in CASES} | result | {"setting": setting | {"commit": commit}}
    best = json.loads(SETTINGS.read_text())
    for name, case in CASES.items():
        todo = [(m, s) for m in methods for s in strengths(m, best[name])]
        todo = [(m, s) for m, s in todo if all(c["strength"] != s for c in result[name].get(m, []))]
        if not todo:
            continue
        bench = Bench(host, case, count, SEEDS[seeds])
        for rival, strength in tqdm(todo, desc=name):
            picked = {k: v for k, v in best[name][rival]["best"].items() if k != "strength"}
            draw = method(rival).prepare(host, case, **picked)
            cell = {"strength": strength, **bench.measure(draw, strength)}
            cells = [*result[name].get(rival, []), cell]
            cell["added_cost"] = cells[0].get("added_cost") or bench.added_cost(draw, strength)
            result[name][rival] = sorted(cells, key=lambda c: c["strength"])
            save(result, path)
    return result


def strengths(rival, best):
    """A method's own, and the one that the tuning seeds preferred."""
    return sorted({*method(rival).STRENGTHS, best[rival]["best"]["strength"]})


def save(result, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")


def table(result):
    """The result as lines of text."""
    for name in CASES:
        yield f"{name:22}" + "".join(f"{c.removeprefix('stereotype_')[:10]:>11}" for c in COLUMNS)
        for rival, cells in result[name].items():
            for cell in cells:
                label = f"{rival} {cell['strength']:g}"
                yield f"{label:22}" + "".join(f"{show(cell[c]):>11}" for c in COLUMNS)


def show(value):
    if isinstance(value, dict):
        value = value["value"] if "value" in value else sum(value.values())
    return f"{value:.3f}"


def plot(result, path):
    """Pareto fronts: how many still show the stereotype, against what was kept."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(CASES), figsize=(6 * len(CASES), 5), sharey=True)
    for axis, name in zip(axes, CASES):
        for rival, cells in result[name].items():
            rates = [100 * c["stereotype_rate"]["value"] for c in cells]
            ours = rival == "rs_corrector"
            axis.plot(
                rates, [c["content_kept"] for c in cells], "o-", label=rival, linewidth=3 if ours else 1,
                color="black" if ours else None, markersize=6 if ours else 4, zorder=3 if ours else 2,
            )  # fmt: skip
        axis.set(title=name, xlabel="stereotype_rate, % (fewer is better)", ylabel="content_kept (more is better)")
        axis.grid(alpha=0.3)
    axes[-1].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", choices=SEEDS, default="report")
    parser.add_argument("--images", type=int, help="a cell; 256 for a report, 96 for tuning")
    parser.add_argument("--json", type=Path, required=True, help=f"result; of tuning the grid, by habit {SETTINGS}")
    args = parser.parse_args()
    host = Host()
    if args.seeds == "tune":
        found = tune(host, args.methods, args.images or 96, args.json)
        for name, methods in found.items():
            for rival, entry in methods.items():
                print(name, rival, entry["best"], min(t["objective"] for t in entry["trials"]))
        return
    result = report(host, args.methods, args.images or 256, args.seeds, args.json)
    print("\n".join(table(result)))
    plot(result, args.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
