"""Make the shipped corrector from words alone: `python -m rs_corrector.testbed.distil --seed 0`.

The testbed model is its own teacher, by the recipe of the node and at its settings. No attribute is read until the
weights are final; then the result is measured once, on reporting seeds, for the header and the model card.
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from tqdm.auto import tqdm

from .. import card, weights
from ..method import RECIPE
from ..pairs import RECORDS, Pairs, Writer, read
from ..recipe import STEPS, WIDTH, train
from ..recording import recorded, report
from ..request import marked
from ..wordings import Wordings
from . import comparison, measure, model, portraits
from .checkpoint import Embedded

LATENT = 8  # pixels a side
EVERY = 125  # updates between two looks at what was held out


def record(bed, folder, args):
    """Records for every planted stereotype, as a set of pairs: a group a stereotype."""
    base = {"name": "RS testbed model", "fingerprint": weights.fingerprint(bed.networks["unet"].parameters())}
    source = {
        "marked_by": "the authors of RS-Corrector, by the two wordings below; nobody sorted any image",
        "contest": "open an issue in the RS-Corrector repository, or make your own file with other words",
        "source": "the checkpoint's own images for the neutral wording, and what it would have drawn instead",
    }
    writer = Writer(folder, Pairs(RECORDS, "SD15", base, source))
    for attribute in portraits.STEREOTYPES:
        group, neutral, _, rejected = portraits.wordings(attribute)
        preferred, contexts = portraits.preferred(attribute), portraits.contexts(attribute)
        said = Wordings(neutral, preferred, rejected, portraits.OTHERS, contexts=contexts)
        request, things = marked(said, lambda text: bed.encode_text([text])[0])
        checkpoint = Embedded(bed.denoise, bed.encode_text, said, LATENT, (1 + args.seed) << 20)
        batches = recorded(
            checkpoint,
            writer,
            group,
            count=args.images,
            batch_size=args.batch,
            cfg=args.cfg,
            begun=sha256(repr((said, args.seed, args.cfg, RECIPE)).encode()).hexdigest()[:16],
            request=request,
            facts={"things": things},
        )
        for _ in tqdm(batches, desc=f"record {group}", total=-(-args.images // args.batch)):
            pass
        print(f"{group}: {report(writer.pairs.source[group])}")
    return writer.pairs


def measured(bed, corrector, count):
    """What a corrector of the planted stereotypes does, on so many pictures a group of the reporting seeds."""
    metrics, before = {"images": count}, measure.drawn(bed, count)
    known = comparison.readings(measure.WORLD, before)
    for attribute in portraits.STEREOTYPES:
        group = portraits.STEREOTYPES[attribute].group
        after = measure.drawn(
            bed, count, partial(model.choosing, corrector, group, count, measure.REPORTING_SEED, LATENT)
        )
        metrics[group] = measure.report(attribute, before, after, known, portraits.others(attribute))
    return metrics


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=weights.SHIPPED)
    parser.add_argument("--pairs", type=Path, default=Path("build/pairs"), help="where records are kept; continued")
    parser.add_argument("--recorded", action="store_true", help="train on the records that are there")
    parser.add_argument("--images", type=int, default=256, help="to record from, a stereotype")
    parser.add_argument("--batch", type=int, default=64, help="images drawn at once")
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--measured", type=int, default=256, help="images per group for the metrics of the header")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    bed, clock, unfinished = model.Testbed(), time.time(), args.pairs / "unfinished.safetensors"
    begun_before = (args.pairs / "manifest.json").is_file()
    pairs = read(args.pairs) if args.recorded else record(bed, args.pairs, args)
    since = time.time() - clock
    corrector, _ = train(pairs, seed=args.seed, steps=args.steps, width=args.width, checkpoint=unfinished, every=EVERY)
    trained = time.time() - clock - since
    training = dict(corrector.config.training)
    if not begun_before:  # or it would be a part of the time
        training["seconds"] = {"record": round(since), "train": round(trained)}
    corrector.config = replace(corrector.config, training=training, metrics=measured(bed, corrector, args.measured))
    card.save(corrector, args.out)
    print(f"recorded in {since:.0f} s, trained in {trained:.0f} s")
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.2f} MB)")
    print(args.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
