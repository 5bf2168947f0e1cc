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
from ..pairs import RECORDS, Pairs, Writer, read
from ..recipe import train
from ..request import mark
from . import comparison, measure, model, portraits

STEPS = (12, 30)  # a recorded trajectory's number of steps, drawn at random
EVERY = 250  # updates between two looks at what was held out
PASSES = 2  # trajectories led to each counterpart, with other numbers of steps and other shares


def redrawn_in_part(bed, drawn, own, neutral, preferred, rejected):
    """Counterparts that differ from what was drawn only where the two wordings differ."""
    batch = len(drawn)
    context = torch.cat([bed.encode_text([words]).expand(batch, -1, -1) for words in (preferred, rejected)])

    def denoisers(x, sigma):
        return bed.denoise(torch.cat([x, x]), sigma.repeat(2), context).chunk(2)

    mask, redrawn = edit_mask(drawn, denoisers, own), []
    for again in range(own + 1, own + 1 + CANDIDATES):
        inside = bed.sample([preferred] * batch, again, latents=drawn, mask=mask)
        redrawn.append(bed.sample([preferred] * batch, again, latents=inside, below=SETTLE_SIGMA))
    return closest_elsewhere(redrawn, drawn, mask)


def redrawn_as_a_whole(bed, drawn, own, neutral, preferred, rejected):
    """Counterparts from the same noise, where the depiction is a matter of the whole picture."""
    return bed.sample([preferred] * len(drawn), own)


#: Each planted stereotype, with how its counterparts are made.
COUNTERPARTS = {
    "hat": redrawn_in_part,
    "distorted": redrawn_as_a_whole,
    "hair": redrawn_in_part,
    "background": redrawn_in_part,
}


def seeds(args):
    """First noise seed of every batch to record; its redraws take the next ones."""
    return [((1 + args.seed) << 20) + (1 + CANDIDATES) * index for index in range(args.batches)]


def record(bed, folder, first_seeds, batch):
    """Corrections that lead neutral images to their counterparts, as a set of pairs: a group a stereotype."""
    base = {"name": "RS testbed model", "fingerprint": weights.fingerprint(bed.networks["unet"].parameters())}
    source = {
        "marked_by": "the authors of RS-Corrector, by the two wordings below; nobody sorted any image",
        "contest": "open an issue in the RS-Corrector repository, or make your own file with other words",
        "source": "the checkpoint's own images for the neutral wording, and what it would have drawn instead",
    }
    writer = Writer(folder, Pairs(RECORDS, "SD15", base | {"onset": ONSET}, source))
    for attribute, counterparts in COUNTERPARTS.items():
        group, *words = portraits.wordings(attribute)
        neutral, preferred, rejected = words
        facts = {"neutral": neutral, "preferred": preferred, "rejected": rejected}
        request = mark(*(bed.encode_text([w])[0] for w in words))
        for own in tqdm(first_seeds, desc=f"record {group}"):
            generator = torch.Generator().manual_seed(own)
            drawn = bed.sample([neutral] * batch, own)
            goal = counterparts(bed, drawn, own, *words)
            runs = []
            for caption, aim in [(neutral, goal)] * PASSES + [(preferred, None)]:
                runs.append(Recorder(aim, ONSET, generator))
                steps = int(torch.randint(STEPS[0], STEPS[1] + 1, (), generator=generator))
                bed.sample([caption] * batch, own, steps, correct=runs[-1])
            writer.append(group, facts, request, **trajectories(*runs))
    return writer.pairs


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=weights.SHIPPED)
    parser.add_argument("--pairs", type=Path, default=Path("build/pairs"), help="where records are kept")
    parser.add_argument(
        "--recorded", action="store_true", help="train on the records that are there, from where it was"
    )
    parser.add_argument("--batches", type=int, default=20, help="of trajectories to record, a stereotype")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--measured", type=int, default=256, help="images per group for the metrics of the header")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    bed, clock, unfinished = model.Testbed(), time.time(), args.pairs / "unfinished.safetensors"
    if args.recorded:
        pairs = read(args.pairs)
    else:
        for old in args.pairs.glob("*"):
            old.unlink()
        pairs = record(bed, args.pairs, seeds(args), args.batch)
    recorded = time.time() - clock
    corrector, _ = train(pairs, seed=args.seed, steps=args.steps, width=args.width, checkpoint=unfinished, every=EVERY)
    trained = time.time() - clock - recorded
    metrics, before = {"images": args.measured}, measure.drawn(bed, args.measured)
    known = comparison.readings(measure.WORLD, before)
    for attribute in COUNTERPARTS:
        group = portraits.STEREOTYPES[attribute].group
        after = measure.drawn(bed, args.measured, Correction(corrector, group))
        metrics[group] = measure.report(attribute, before, after, known)
    corrector.config = replace(corrector.config, metrics=metrics)
    card.save(corrector, args.out)
    print(f"recorded in {recorded:.0f} s, trained in {trained:.0f} s")
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.2f} MB)")
    print(args.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
