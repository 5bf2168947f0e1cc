"""What training costs by the number of pairs and steps: `python benchmarks/training.py --json FILE`.

Every cell is a process of its own, on latents of noise: time and memory do not depend on what is drawn. Memory is
the largest private one (RssAnon); pages of the memory-mapped pairs are the system's to take back.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch

from rs_corrector import recipe
from rs_corrector.pairs import RECORDS, SIDES, Pairs, Writer

SHARD = 1000
#: Steps of a recorded run, and what its set has to know of its group.
RUN, FACTS = 20, {"level": 3.0}
COUNTS = (100, 1_000, 10_000)
#: (latent size, kind, pairs, steps, batch); 8 is the testbed's size, 64 that of 512x512 pixels.
CELLS = [
    *((8, kind, pairs, steps, 128) for kind in (RECORDS, SIDES) for pairs in COUNTS for steps in (100, 200)),
    *((64, SIDES, pairs, steps, 16) for pairs in COUNTS for steps in (5, 10)),
    (64, SIDES, 100_000, 10, 16),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        args.json.write_text(json.dumps(measure(*json.loads(args.cell))))
        return
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "cell.json")
        for cell in CELLS:
            command = [sys.executable, __file__, "--json", str(answer), "--cell", json.dumps(cell)]
            subprocess.run(command, check=True, capture_output=True)
            cells.append(json.loads(answer.read_text()))
            print(cells[-1], flush=True)
    result = {"cores": len(os.sched_getaffinity(0)), "torch": torch.__version__, "cells": cells}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(size, kind, count, steps, batch):
    """Write `count` pairs, train on them for `steps`."""
    base = {"sigma_min": 0.03, "sigma_max": 14.6}
    peak, begun = 0, []

    def watch(step, history):
        nonlocal peak
        peak = max(peak, private_memory())
        begun.append(time.monotonic())

    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(folder, Pairs(kind, "SD15", base))
        clock = time.monotonic()
        for _ in range(0, count, SHARD):
            writer.append("group", FACTS, **noise(kind, min(SHARD, count), size))
        written = time.monotonic() - clock
        disk = sum(s.path.stat().st_size for s in writer.pairs.shards)
        recipe.train(writer.pairs, steps=steps, batch=batch, watch=watch, every=steps)
    return {
        "size": size,
        "kind": kind,
        "pairs": count,
        "steps": steps,
        "batch": batch,
        "write_s": round(written, 2),
        "step_s": statistics.median(b - a for a, b in pairwise(begun)),
        "peak_mib": round(peak),
        "disk_mib": round(disk / 2**20, 1),
    }


def noise(kind, count, size):
    if kind == SIDES:
        return {"latents": torch.randn(count, 4, size, size), "side": torch.arange(count) % 2}
    runs = -(-count // RUN)
    denoised = torch.randn(runs, RUN, 4, size, size)
    level = torch.linspace(14.6, 0.03, RUN).expand(runs, RUN)
    area, choice = torch.ones(runs, 1, size, size), torch.zeros(runs, dtype=torch.int64)
    return {"goal": denoised[:, 0] + 1, "denoised": denoised, "level": level, "area": area, "choice": choice}


def private_memory():
    """MiB of this process that no file backs."""
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    return int(status["RssAnon"].split()[0]) / 1024


if __name__ == "__main__":
    main()
