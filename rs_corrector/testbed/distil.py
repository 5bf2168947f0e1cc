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

from .. import __version__, weights
from ..card import card
from ..corrector import Correction, likelihood_ratio
from ..distillation import Recorder, Records, calibrate, delta_config, distil, least_squares_gain
from ..files import replacing
from . import measure, model, portraits

OUT = Path(__file__).parents[2] / "corrector_weights" / "testbed.safetensors"
GROUP = "green"
NEUTRAL = "a portrait of a person in a green shirt"
PREFERRED, REJECTED = f"{NEUTRAL}, bare-headed", f"{NEUTRAL}, wearing a hat"
STEPS = (12, 30)  # a recorded trajectory's number of steps, drawn at random
SCORE_RANGE = (0.3, 10.0)  # noise levels at which the words tell the two depictions apart


def teacher_of(bed, count):
    """(x, sigma) -> (D+, D-): the checkpoint under the preferred and the rejected wording, in one batch."""
    context = torch.cat([bed.encode_text([words]).expand(count, -1, -1) for words in (PREFERRED, REJECTED)])

    def denoisers(x, sigma):
        return bed.denoise(torch.cat([x, x]), sigma.repeat(2), context).chunk(2)

    return denoisers


def record(bed, batches, batch, seed):
    """Teacher differences along neutral trajectories, a list of `Records`, one a batch."""
    generator = torch.Generator().manual_seed(seed)
    denoisers = teacher_of(bed, batch)
    parts = []
    for index in tqdm(range(batches), desc="record"):
        recorder = Recorder(lambda x, sigma: torch.sub(*denoisers(x, sigma)), generator)
        steps = int(torch.randint(STEPS[0], STEPS[1] + 1, (), generator=generator))
        bed.sample([NEUTRAL] * batch, seed=(seed << 20) + index, steps=steps, correct=recorder)
        parts.append(recorder.records())
    return parts


def calibrated(bed, corrector, held_out, images, seed):
    """Raise the gain until corrected samples are as preferred, by the model's own words, as samples that were asked."""
    denoisers = teacher_of(bed, images)

    def score(captions, correct=None):
        z = bed.sample(captions, seed=seed << 20, correct=correct)
        return likelihood_ratio(z, denoisers, *SCORE_RANGE).mean().item()

    target = score([PREFERRED] * images)
    start = least_squares_gain(corrector, GROUP, held_out)
    return calibrate(corrector, GROUP, lambda c: score([NEUTRAL] * images, Correction(c, GROUP)), target, start), {
        "start": start,
        "target": target,
        "neutral": score([NEUTRAL] * images),
    }


def measured(bed, corrector, images):
    """The main metrics on reporting seeds, embedded path, default settings."""
    before, after = (
        {
            group: bed.decode(
                bed.sample([f"a portrait of a person in a {group} shirt"] * images, measure.REPORTING_SEED, correct=c)
            )
            for group in portraits.GROUPS
        }
        for c in (None, Correction(corrector, GROUP))
    )
    return {"images": images, **measure.report("hat", before, after)}


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--batches", type=int, default=6, help="of trajectories to record; the last is held out")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--images", type=int, default=96, help="for calibration")
    parser.add_argument("--measured", type=int, default=256, help="images per group for the metrics of the header")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    bed = model.Testbed()
    clock = time.time()
    *parts, held_out = record(bed, args.batches, args.batch, 1 + args.seed)
    records = {GROUP: Records.cat(parts)}
    recorded = time.time() - clock
    config = delta_config(
        [GROUP],
        records,
        latent_format="SD15",
        sigma_data=1.0,
        width=args.width,
        levels=2,
        training={
            "marked_by": "the authors of RS-Corrector, by the two wordings below; nobody sorted any image",
            "contest": "open an issue in the RS-Corrector repository, or make your own file with other words",
            "source": "teacher difference, recorded on the checkpoint's own neutral trajectories",
            "neutral": NEUTRAL,
            "preferred": PREFERRED,
            "rejected": REJECTED,
            "records": len(records[GROUP]),
            "steps": args.steps,
            "seed": args.seed,
        },
        base={
            "name": "RS testbed model",
            "fingerprint": weights.fingerprint(bed.networks["unet"].parameters()),
        },
        created_by=f"rs-corrector {__version__}",
    )
    corrector = distil(records, config, steps=args.steps, batch=128, lr=2e-3, seed=args.seed)
    trained = time.time() - clock - recorded
    (corrector, tried), facts = calibrated(bed, corrector, held_out, args.images, 2 + args.seed)
    corrector.config = replace(corrector.config, metrics=measured(bed, corrector, args.measured))
    weights.save(corrector, args.out)
    with replacing(args.out.with_suffix(".md")) as temporary:
        temporary.write_text(card(corrector.config, args.out.name))
    print(f"recorded in {recorded:.0f} s, trained in {trained:.0f} s; calibration {facts}, tried {tried}")
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.2f} MB), gain {corrector.config.gains[0]:.2f}")
    print(card(corrector.config, args.out.name))


if __name__ == "__main__":
    main()
