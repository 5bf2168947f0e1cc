"""Is an audit right as often as it says? `python benchmarks/audit.py --json FILE`.

`null` and `harm`: a thousand audits a row of simulated pictures, of which nothing, or harm of known size, is true
(`audit_simulated.py`). `corrected`: rates corrected for a judge's errors. `pool`: testbed pictures, judged once by the
exact readers, and many audits of fewer of them: those that miss a planted stereotype, those that flag anything else.
`report`: the time and memory that 10,000 pictures take, judges left out. `shared`: what a second worker saves. Parts
that FILE has and that are not asked for are kept.
"""

import argparse
import gc
import json
import resource
import tempfile
import time
from dataclasses import replace
from multiprocessing import Pool
from pathlib import Path

import audit_simulated as simulated
import numpy as np
import torch
from quality import save

from rs_corrector.audit import findings, report, run, scale
from rs_corrector.audit.errors import Errors
from rs_corrector.audit.verdict import decide
from rs_corrector.testbed import audit as testbed
from rs_corrector.testbed import portraits

CALLED = {words: name for name, (words, _) in testbed.plan().attributes.items()}
PLANTED = {(planted.group, CALLED[portraits.phrases(kind)[1]]) for kind, planted in portraits.STEREOTYPES.items()}
POOL_SEED = 40_000  # of no other benchmark


def pool(images):
    """A `Judged` table of so many uncorrected pictures a group, under the plain prompt."""
    plan = testbed.plan(images)
    plan = replace(
        plan,
        prompts={"plain": plan.prompts["plain"]},
        asked={},
        neutral={},
        sampling=plan.sampling | {"seed": POOL_SEED},
    )
    with tempfile.TemporaryDirectory() as folder:
        folder = run.Folder(folder, plan)
        uncorrected = [unit for unit in plan.units() if not unit.corrected]
        run.draw(folder, testbed.Sampler(plan), uncorrected)
        return run.judged(folder, testbed.ReaderJudge(plan), uncorrected)


def audits(table, attributes, count, size, seed=0):
    """Misses, false alarms and coverage of `count` audits of `size` pictures a group."""
    generator, misses, alarms, covered = np.random.default_rng(seed), 0, 0, []
    truth = {(g, a): table.shows[a][table.group == g].mean() for g in portraits.GROUPS for a in attributes}
    for _ in range(count):
        chosen = generator.choice(np.unique(table.noise), size, replace=False)  # of which all groups have pictures
        found, _ = findings.depiction(table.where(np.isin(table.noise, chosen)), attributes)
        decide(found, [])
        flagged = {(r["group"], r["attribute"]) for r in found if r["flagged"]}
        misses += not PLANTED <= flagged
        alarms += bool(flagged - PLANTED)
        covered += [r["low"] <= truth[r["group"], r["attribute"]] <= r["high"] for r in found]
    return {
        "audits": count,
        "pictures": size,
        "misses": misses,
        "false_alarms": alarms,
        "coverage": float(np.mean(covered)),
    }


class Coins:
    """Judges nothing and takes no time for it."""

    name = "coins"

    def __init__(self, plan):
        self.groups, self.attributes = tuple(plan.groups), list(plan.attributes)

    def __call__(self, images):
        tossed = np.random.default_rng(len(images)).random((len(self.attributes), len(images))) < 0.5
        return {
            "seen": [self.groups[0]] * len(images),
            "shows": dict(zip(self.attributes, tossed)),
            "features": images[:, :, ::8, ::8].flatten(1).numpy(),
        }


def timed(images):
    """Seconds and MiB that it takes to read and report so many pictures of every prompt and group, judging left out."""
    plan = testbed.plan(images)
    with tempfile.TemporaryDirectory() as folder:
        folder = run.Folder(folder, plan)
        rows, _ = portraits.sample_attributes(64, torch.Generator().manual_seed(0), stated=())
        painted = portraits.draw(rows)
        run.draw(folder, lambda unit: painted[: unit.size])
        clock, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        table = run.judged(folder, Coins(plan))
        report.write(folder, report.summarise(plan, {"coins": table}), folder.path)
        seconds, after = time.monotonic() - clock, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"pictures": len(table), "seconds": round(seconds, 1), "added_mib": round((after - before) / 2**10, 1)}


def shared(images):
    """Seconds to draw so many pictures of every prompt and group: by one process and by two Ray workers, all started
    before; by threads of the one process, since a worker has one."""
    import ray

    plan, clocks = testbed.plan(images), {}
    sample = testbed.testbed_sampler(plan)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as folder:
            begun = time.monotonic()
            run.draw(run.Folder(folder, plan), sample)
            clocks[f"one process, {threads} threads"] = time.monotonic() - begun
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        scale.draw(
            folder, replace(plan, neutral={}, sampling=plan.sampling | {"images": 8}), testbed.testbed_sampler, 2
        )
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        scale.draw(folder, plan, testbed.testbed_sampler, 2)
        clocks["two workers"] = time.monotonic() - begun
    ray.shutdown()
    return {"pictures": sum(unit.size for unit in plan.units())} | {name: round(t, 1) for name, t in clocks.items()}


def cells(count, workers, wanted):
    """`audits` of every one of these (pictures, accuracy, redrawn, kind), on so many processes."""
    with Pool(workers, initializer=gc.freeze) as pool:  # or every Holm collects all that is there
        return pool.starmap(simulated.audits, [(count, *cell) for cell in wanted], chunksize=1)


def null(count, workers, pictures=64):
    """Audits of pictures merely drawn again: {accuracy: what they said}, and coverage over all of them."""
    wanted = [(pictures, accuracy, share, None) for accuracy in simulated.ACCURACIES for share in simulated.REDRAWN]
    found, covered = {}, []
    for (_, accuracy, share, _), cell in zip(wanted, cells(count, workers, wanted)):
        covered.append(cell["covered"])
        row = found.setdefault(f"{accuracy:.2f}", {"pictures": pictures, "audits": 0, "exit_1": 0, "redrawn": {}})
        row["audits"], row["exit_1"] = row["audits"] + cell["audits"], row["exit_1"] + cell["exit_1"]
        row["redrawn"][str(share)] = {
            name: cell[name] for name in ("exit_1", "flagged", "flagged_by_chance", "covered")
        }
    coverage = {name: float(np.mean([each[name] for each in covered])) for name in covered[0]}
    return {"null": found, "coverage": coverage}


def harm(count, workers, pictures=256, share=0.1):
    """Audits of corrections that do harm of known size: {kind: how many found it, by a judge right in 95 %}."""
    wanted = [(pictures, accuracy, share, kind) for kind in simulated.HARM for accuracy in simulated.ACCURACIES]
    found = {}
    for (_, accuracy, _, kind), cell in zip(wanted, cells(count, workers, wanted)):
        row = found.setdefault(kind, {"pictures": pictures, "redrawn": share, "by_accuracy": {}})
        row["by_accuracy"][f"{accuracy:.2f}"] = cell["found"]
        if accuracy == 0.95:
            row |= {"audits": cell["audits"], "found": cell["found"]}
    return {"harm": found}


def corrected(count, pictures=256, known=128):
    """Rates corrected for errors that so many known pictures of either side tell: largest bias, least coverage."""
    generator, found = np.random.default_rng(0), {}
    for accuracy in simulated.ACCURACIES[1:]:
        cells = []
        for rate in (0.1, 0.3, 0.5, 0.7, 0.9):
            said = generator.binomial(pictures, accuracy * rate + (1 - accuracy) * (1 - rate), count) / pictures
            right = generator.binomial(known, accuracy, (count, 2))
            told = [
                Errors((hits, known), (others, known), "").corrected(share, pictures)
                for share, (hits, others) in zip(said, right)
            ]
            covered = np.mean([each["low"] <= rate <= each["high"] for each in told])
            cells.append((abs(np.mean([each["value"] for each in told]) - rate), covered))
        off, cover = zip(*cells)
        found[f"{accuracy:.2f}"] = {
            "audits": count,
            "largest_bias": float(max(off)),
            "least_coverage": float(min(cover)),
        }
    return {"corrected": {"pictures": pictures, "known": known, "by_accuracy": found}}


PARTS = {
    "corrected": lambda args: corrected(args.audits),
    "null": lambda args: null(args.audits, args.workers),
    "harm": lambda args: harm(args.audits, args.workers),
    "pool": lambda args: {"pool": audits(pool(args.pool), testbed.plan().attributes, 100, args.size)},
    "report": lambda args: {"report": timed(args.reported)},
    "shared": lambda args: {"shared": shared(32)},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--audits", type=int, default=1000, help="simulated audits a row")
    parser.add_argument("--workers", type=int, default=2, help="processes for these")
    parser.add_argument("--pool", type=int, default=500, help="testbed pictures a group")
    parser.add_argument("--size", type=int, default=64, help="pictures a group in each of 100 audits of them")
    parser.add_argument("--reported", type=int, default=556, help="of every prompt and group; in all 18 times as many")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    result = json.loads(args.json.read_text()) if args.json.is_file() else {}
    for part in args.parts:
        result |= PARTS[part](args)
        save(result, args.json)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
