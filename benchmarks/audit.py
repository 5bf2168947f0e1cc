"""Does an audit recover the planted truth? `python benchmarks/audit.py --json FILE`.

A pool of testbed pictures, judged once by the exact readers; then many audits of fewer pictures, drawn from it.
Counted: audits that miss a planted stereotype, audits that flag anything else, and how often an interval covers the
pool's own rate. And the time, and the memory beyond sampling, that a report of 1,000 pictures takes; and what a second
worker saves.
"""

import argparse
import json
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from quality import save

from rs_corrector.audit import findings, report, run, scale
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
        rows = np.concatenate([
            generator.choice(np.flatnonzero(table.group == group), size, replace=False) for group in portraits.GROUPS
        ])  # fmt: skip
        found = findings.depiction(table.where(rows), attributes)
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


def timed(images):
    """Seconds and MiB that judging and reporting so many pictures take, sampling left out."""
    plan = testbed.plan(images)
    with tempfile.TemporaryDirectory() as folder:
        folder = run.Folder(folder, plan)
        run.draw(folder, testbed.testbed_sampler(plan))
        clock, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        table = run.judged(folder, testbed.ReaderJudge(plan))
        report.write(folder, report.summarise(plan, {"readers": table}), folder.path)
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=int, default=1000, help="pictures a group")
    parser.add_argument("--audits", type=int, default=100)
    parser.add_argument("--size", type=int, default=64, help="pictures a group in one audit")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    result = audits(pool(args.pool), testbed.plan().attributes, args.audits, args.size)
    result["shared"] = shared(32)
    result["report"] = timed(56)  # 4 groups x 2 prompts and a neutral one, without and with: 1,008 pictures
    save(result, args.json)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
