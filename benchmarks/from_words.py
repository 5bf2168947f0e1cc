"""A corrector from a few words, inside the graph: `python benchmarks/from_words.py --json FILE`.

Records and trains with the pack's own nodes on the real ComfyUI, no attribute read on the way; then measures on
reporting seeds, beside the teacher node at equal effect and correctors made from images that were sorted.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import checkpoints
import torch
from inprocess import Host
from torch.utils.flop_counter import FlopCounterMode

from rs_corrector import recipe
from rs_corrector.corrector import Corrector
from rs_corrector.metrics import wilson
from rs_corrector.testbed import measure, portraits, readers

GROUP, NEUTRAL, PREFERRED, REJECTED = portraits.wordings("hat")
DRAWING = dict(steps=20, cfg=3.0, sampler_name="euler", scheduler="normal")
SIZE = dict(width=64, height=64)
#: First of the noise seeds whose images are sorted; neither tuned nor reported on.
SORTED_SEED = 5_000
TEACHER_STRENGTHS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--count", type=int, default=384, help="images to record from")
    parser.add_argument("--steps", type=int, default=recipe.STEPS)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    host = Host()
    words = dict(preferred=host.encode(PREFERRED), rejected=host.encode(REJECTED))
    before = readers.read(drawn(host, host.model, args.images))[0]
    base_gflop = sd15_gflop()

    corrector, recorded, trained = made_from_words(host, args.count, args.steps)
    ours = host.apply(corrector)
    teachers = {
        strength: host.run(
            "RSCorrectorPrompt", model=host.model, strength=strength, start_percent=0.0, end_percent=1.0, **words
        )[0]
        for strength in TEACHER_STRENGTHS
    }

    def rate(model):  # on tuning seeds: which strength of the teacher has the effect that ours has
        return (
            measure.column(readers.read(drawn(host, model, args.images, measure.TUNING_SEED))[0], "hat").float().mean()
        )

    aim = rate(ours)
    strength = min(teachers, key=lambda s: abs(rate(teachers[s]) - aim))
    result = {
        "base": host.fingerprint,
        "host": host.version,
        "images": args.images,
        "uncorrected": wilson(measure.shown("hat", before)),
        "record_s": round(recorded, 1),
        "train_s": round(trained, 1),
        **measured(before, drawn(host, ours, args.images)),
        "teacher": {"strength": strength, **measured(before, drawn(host, teachers[strength], args.images))},
        "added_cost_ratio": cost_ratio(as_made_for_sd15(corrector.model), base_gflop, 64),
        "added_cost_ratio_testbed": cost_ratio(corrector.model, testbed_gflop(host), 8),
        "sorted": {
            str(count): measured(before, drawn(host, host.apply(from_sorted(host, count)), args.images))
            for count in (64, 256)
        },
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def made_from_words(host, count, steps):
    """A corrector of the host's model from three wordings, and the seconds that recording and training took."""
    words = dict(neutral=NEUTRAL, preferred=PREFERRED, rejected=REJECTED, negative="", others=portraits.OTHERS)
    clock = time.monotonic()
    pairs, *_ = host.run(
        "RSCorrectorPairsFromWords", model=host.model, group=GROUP, name="words", count=count, batch_size=64, seed=1,
        **{side: host.encode(text) for side, text in words.items()}, **SIZE, **DRAWING,
    )  # fmt: skip
    recorded = time.monotonic() - clock
    corrector, _, report = host.run("RSCorrectorTrain", pairs=pairs, steps=steps, **training())
    print(report)
    return corrector, recorded, time.monotonic() - clock - recorded


def training():
    """What every corrector that a benchmark makes is trained with."""
    return dict(batch_size=0, width=recipe.WIDTH, learning_rate=recipe.RATE, seed=0)


def drawn(host, model, count, seed=measure.REPORTING_SEED):
    return host.images(model, NEUTRAL, count, seed)


def measured(before, images):
    return measure.target_metrics("hat", before, readers.read(images)[0])


def from_sorted(host, count):
    """A corrector from images that a person sorted; the person is the exact reader, who looks at hats only."""
    sides = {0: [], 1: []}
    seed = SORTED_SEED
    while min(sum(map(len, side)) for side in sides.values()) < count:
        for caption in (PREFERRED, REJECTED):
            images = host.images(host.model, caption, 64, seed)
            hat = measure.column(readers.read(images)[0], "hat")
            for value, side in sides.items():
                side.append(images[hat == value])
        seed += 1
    preferred, rejected = (torch.cat(side)[:count].movedim(1, -1) for side in sides.values())
    (pairs,) = host.run(
        "RSCorrectorPairsFromSorted", model=host.model, vae=host.vae, group=GROUP, name=f"sorted_{count}",
        preferred=preferred, rejected=rejected,
    )  # fmt: skip
    return host.run("RSCorrectorTrain", pairs=pairs, steps=recipe.STEPS, **training())[0]


def as_made_for_sd15(corrector):
    """The network that `recipe.train` would build on 64x64 latents; its arithmetic counts, not its weights."""
    return Corrector(replace(corrector.config, levels=recipe.levels_for((64, 64))))


def cost_ratio(corrector, base_gflop, size):
    """Added arithmetic of the corrector over that of the teacher: two evaluations of the base model."""
    x = torch.zeros(1, corrector.config.latent_channels, size, size)
    return gflop(lambda: corrector.deltas(x, torch.ones(1), x)) / (2 * base_gflop)


def gflop(call):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops() / 1e9


def sd15_gflop():
    """One evaluation of Stable Diffusion 1.5's UNet at 64x64 latents, counted without memory."""
    return gflop(checkpoints.evaluation(checkpoints.FAMILIES["sd15"], 64))


def testbed_gflop(host):
    base = host.model.model
    x, context = torch.zeros(1, 4, 8, 8), host.encode(NEUTRAL)[0][0]
    return gflop(lambda: base.diffusion_model(x, torch.zeros(1), context=context))


if __name__ == "__main__":
    main()
