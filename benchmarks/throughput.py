"""What bounds the making of a corrector: `python benchmarks/throughput.py --json FILE`.

Recording goes through the pack's own node on the real ComfyUI, with a clock around the checkpoint's network: what is
left of the time is the pack's. Training is profiled operation by operation, on latents of noise, in the testbed's
size and in that of 512x512 pixels.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import torch
from from_words import DRAWING, GROUP, NEUTRAL, PREFERRED, REJECTED, SIZE
from inprocess import Host
from quality import save
from torch.profiler import ProfilerActivity, profile
from training import FACTS, noise

from rs_corrector import recipe
from rs_corrector.pairs import RECORDS, SIDES, Pairs, Writer
from rs_corrector.testbed.portraits import OTHERS

#: (latent size, kind, batch, profiled steps)
TRAINING = ((8, RECORDS, 128, 40), (64, RECORDS, 16, 6), (64, SIDES, 16, 6))
#: Operations by what their names contain, the first that fits.
SORTS = {"convolutions": "conv", "norms": "layer_norm", "matrix products": "mm", "reading pairs": "index"}


class Profiled(Exception):
    """Enough steps were seen."""


class Stopwatch:
    """Counts a network's rows and the seconds that it takes, while it lasts."""

    def __init__(self, network):
        self.network, self.rows, self.seconds = network, 0, 0.0

    def __enter__(self):
        self.handles = [
            self.network.register_forward_pre_hook(self.start),
            self.network.register_forward_hook(self.stop),
        ]
        return self

    def start(self, network, inputs):
        self.rows, self.begun = self.rows + len(inputs[0]), time.perf_counter()

    def stop(self, network, inputs, outputs):
        self.seconds += time.perf_counter() - self.begun

    def __exit__(self, *exception):
        for handle in self.handles:
            handle.remove()


def recording(host, count):
    """Images a second from words, the checkpoint's evaluations an image, and its share of the time."""
    words = dict(neutral=NEUTRAL, preferred=PREFERRED, rejected=REJECTED, negative="", others=OTHERS)
    words = {side: host.encode(text) for side, text in words.items()}
    common = dict(model=host.model, group=GROUP, batch_size=64, seed=1, **words, **SIZE, **DRAWING)
    with Stopwatch(host.model.model.diffusion_model) as network:
        begun = time.perf_counter()
        host.run("RSCorrectorPairsFromWords", name="timed", count=count, **common)
        seconds = time.perf_counter() - begun
    return {
        "images": count,
        "images_s": count / seconds,
        "evaluations_an_image": network.rows / count,
        "checkpoint_share": network.seconds / seconds,
    }


def training(size, kind, batch, steps):
    """Samples a second, and the shares of the time by sort of operation."""
    base = {"sigma_min": 0.03, "sigma_max": 14.6}
    recorder, clock, shares = profile(activities=[ProfilerActivity.CPU]), [], Counter()

    def watch(step, history):
        if step == 0:
            recorder.start()
        clock.append(time.perf_counter())
        if step == steps:
            recorder.stop()
            raise Profiled

    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(folder, Pairs(kind, "SD15", base))
        writer.append("group", FACTS, **noise(kind, 1000, size))
        with suppress(Profiled):
            recipe.train(writer.pairs, steps=1000, batch=batch, watch=watch)
    for event in recorder.key_averages():
        sort = next((sort for sort, part in SORTS.items() if part in event.key), "everything else")
        shares[sort] += event.self_cpu_time_total
    return {
        "size": size,
        "kind": kind,
        "batch": batch,
        "samples_s": batch * steps / (clock[-1] - clock[0]),
        "shares": {sort: spent / shares.total() for sort, spent in shares.most_common()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128, help="to record from")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    result = {"training": [training(*cell) for cell in TRAINING]}
    host = Host()
    result = {
        "cores": torch.get_num_threads(), "torch": torch.__version__, "host": host.version,
        "recording": recording(host, args.images), **result,
    }  # fmt: skip
    save(result, args.json)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
