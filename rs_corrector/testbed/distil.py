"""Make the shipped corrector from words alone: `python -m rs_corrector.testbed.distil --seed 0`.

The testbed model is its own teacher. No attribute is read until the weights are final; then the result is
measured once, on reporting seeds, for the header and the model card.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from .. import card, weights
from ..corrector import Correction
from ..distillation import CANDIDATES, ONSET, SETTLE_SIGMA, Recorder, closest_elsewhere, edit_mask, trajectories
from ..pairs import RECORDS, Pairs, Writer
from ..recipe import train
from . import measure, model, portraits

OUT = Path(__file__).parents[2] / "corrector_weights" / "testbed.safetensors"
GROUP = "green"
NEUTRAL = portraits.neutral(GROUP)
PREFERRED, REJECTED = f"{NEUTRAL}, bare-headed", f"{NEUTRAL}, wearing a hat"
STEPS = (12, 30)  # a recorded trajectory's number of steps, drawn at random
PASSES = 2  # trajectories led to each counterpart, with other numbers of steps and other shares


def teacher_of(bed, count):
    """(x, sigma) -> (D+, D-): the checkpoint under the preferred and the rejected wording, in one batch."""
    context = torch.cat([bed.encode_text([words]).expand(count, -1, -1) for words in (PREFERRED, REJECTED)])

    def denoisers(x, sigma):
        return bed.denoise(torch.cat([x, x]), sigma.repeat(2), context).chunk(2)

    return denoisers


def record(bed, folder, batches, batch, seed):
    """Corrections that lead neutral images to their counterparts, as a set of pairs."""
    base = {"name": "RS testbed model", "fingerprint": weights.fingerprint(bed.networks["unet"].parameters())}
    source = {
        "marked_by": "the authors of RS-Corrector, by the two wordings below; nobody sorted any image",
        "contest": "open an issue in the RS-Corrector repository, or make your own file with other words",
        "source": "the checkpoint's own images for the neutral wording, redrawn where the two wordings differ",
    }
    writer = Writer(folder, Pairs(RECORDS, "SD15", base | {"onset": ONSET}, source))
    generator = torch.Generator().manual_seed(seed)
    denoisers = teacher_of(bed, batch)
    for index in tqdm(range(batches), desc="record"):
        own = (seed << 20) + (1 + CANDIDATES) * index
        drawn = bed.sample([NEUTRAL] * batch, own)
        mask = edit_mask(drawn, denoisers, own)
        redrawn = []
        for again in range(own + 1, own + 1 + CANDIDATES):
            inside = bed.sample([PREFERRED] * batch, again, latents=drawn, mask=mask)
            redrawn.append(bed.sample([PREFERRED] * batch, again, latents=inside, below=SETTLE_SIGMA))
        counterparts = closest_elsewhere(redrawn, drawn, mask)
        runs = []
        for words, goal in [(NEUTRAL, counterparts)] * PASSES + [(PREFERRED, None)]:
            runs.append(Recorder(goal, ONSET, generator))
            steps = int(torch.randint(STEPS[0], STEPS[1] + 1, (), generator=generator))
            bed.sample([words] * batch, own, steps, correct=runs[-1])
        facts = {"neutral": NEUTRAL, "preferred": PREFERRED, "rejected": REJECTED}
        writer.append(GROUP, facts, **trajectories(*runs))
    return writer.pairs


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--pairs", type=Path, default=Path("build/pairs"), help="where records are kept; emptied first")
    parser.add_argument("--batches", type=int, default=6, help="of trajectories to record")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--measured", type=int, default=256, help="images per group for the metrics of the header")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    for old in args.pairs.glob("*"):
        old.unlink()
    bed = model.Testbed()
    clock = time.time()
    pairs = record(bed, args.pairs, args.batches, args.batch, 1 + args.seed)
    recorded = time.time() - clock
    corrector, _ = train(pairs, seed=args.seed, steps=args.steps, width=args.width)
    trained = time.time() - clock - recorded
    pictures = measure.before_and_after(bed, Correction(corrector, GROUP), args.measured)
    metrics = {"images": args.measured, **measure.report("hat", *pictures)}
    corrector.config = replace(corrector.config, metrics=metrics)
    card.save(corrector, args.out)
    print(f"recorded in {recorded:.0f} s, trained in {trained:.0f} s")
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.2f} MB)")
    print(args.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
