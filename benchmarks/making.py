"""What it takes to make a corrector, and what it then does: `python benchmarks/making.py --json FILE`.

Every effort that RS Pairs from Words offers, by the pack's own nodes on the real ComfyUI, in this process: one
corrector of all kinds on the learned testbed, in scenes, and one in the exact world at 32x32. Seconds count on an idle
machine only; pictures are those of the reporting seeds.
"""

import argparse
import json
import time
from pathlib import Path

import depictions
import torch
from from_words import SIZE, training
from inprocess import Host
from ladder_bench import RECORD_SEED, SAMPLING, Bench, Rung, make, prepare
from quality import Evaluations, save

from rs_corrector import recipe
from rs_corrector.recording import IMAGES
from rs_corrector.testbed import comparison, measure, portraits

RUNG = Rung(32)


def on_testbed(host, effort, steps, before, known):
    """{"make_evaluations", "record_s", "train_s", "testbed"}: of each group, and of training them all together."""
    pairs, seconds, evaluations = None, {}, {}
    for kind in portraits.STEREOTYPES:
        group, neutral, _, rejected = portraits.wordings(kind)
        begun = time.monotonic()
        with Evaluations(host) as seen:
            pairs, *_ = host.run(
                "RSCorrectorPairsFromWords", model=host.model, clip=host.clip, group=group, name=f"{effort}_{kind}",
                neutral=neutral, preferred="\n".join(portraits.preferred(kind)), rejected=rejected, negative="",
                others=portraits.OTHERS, contexts="\n".join(portraits.contexts(kind)), count=0, effort=effort,
                batch_size=64, seed=RECORD_SEED, steps=SAMPLING["steps"], cfg=SAMPLING["cfg"],
                sampler_name=SAMPLING["sampler"], scheduler="normal", merge_with=pairs, **SIZE,
            )  # fmt: skip
        seconds[kind], evaluations[kind] = time.monotonic() - begun, seen.rows
    begun = time.monotonic()
    corrector, _, report = host.run("RSCorrectorTrain", pairs=pairs, steps=steps, **training())
    print(effort, "testbed:", report)
    made = {"make_evaluations": evaluations, "record_s": seconds, "train_s": time.monotonic() - begun}
    count = len(before[portraits.GROUPS[0]])
    cells = {}
    for kind, stereotype in portraits.STEREOTYPES.items():
        after = depictions.pictures(host, host.apply(corrector, stereotype.group), count)
        cells[kind] = depictions.compared(kind, before, after, known)
    return made | {"testbed": cells}


def in_exact_world(host, effort, steps, count):
    """{kind: what the ladder measures} at 32x32."""
    bench = Bench(host, RUNG, count)
    corrector, made = make(bench, IMAGES[effort], steps)
    seconds = {name: made[name] for name in ("record_s", "train_s")}
    return seconds | {
        kind: bench.measure(kind, prepare(bench, "rs_corrector", kind, corrector)) | {"make_evaluations": evaluations}
        for kind, evaluations in made["evaluations"].items()
    }


def run(host, count, steps, path):
    result = {"host": host.version, "images": count, "base": host.fingerprint, "threads": torch.get_num_threads()}
    before = depictions.pictures(host, host.model, count)
    known = comparison.readings(measure.WORLD, before)
    for effort in IMAGES:
        result[effort] = on_testbed(host, effort, steps, before, known)
        save(result, path)
    for effort in IMAGES:
        result[effort]["ladder32"] = in_exact_world(host, effort, steps, count)
        save(result, path)
    return result


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256, help="pictures a rate")
    parser.add_argument("--steps", type=int, default=recipe.STEPS, help="of training")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args(argv)
    print(json.dumps(run(Host(), args.images, args.steps, args.json), indent=2))


if __name__ == "__main__":
    main()
