"""What a step costs, at the size that people use: `python benchmarks/overhead.py --model sd15 --json FILE`.

A checkpoint of full size with random weights, through the real ComfyUI, in one process; methods take turns, so that
whatever else the machine does falls on all of them. What ours adds is timed inside real steps, between two clocks
around its own hook: a total that varies by several per cent could not show half of one. Rivals, which add whole
evaluations of the checkpoint, are judged by their totals. Runs on a GPU as it is.
"""

import argparse
import json
import platform
import tempfile
import time
import weakref
from pathlib import Path

import checkpoints
import numpy as np
import torch
from from_words import gflop
from inprocess import Host
from quality import Evaluations, save
from rivals import CASES, gradient_clean, heads, method
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from tqdm.auto import tqdm

from rs_corrector import recipe, weights
from rs_corrector.correction import Correction
from rs_corrector.corrector import Config, Corrector
from rs_corrector.testbed.model import sigmas

SIZES = {"sd15": 64, "sdxl": 128}
#: Peak arithmetic a second in fp32 and in fp16 (dense, fp32 sums), and bytes a second, by their makers' data sheets.
GPUS = {"RTX 4090": (82.6e12, 165.2e12, 1.008e12), "H100 SXM": (66.9e12, 989.4e12, 3.35e12)}
LAUNCH = 5e-6  # seconds for a kernel to start


class FullSize(Host):
    """A `Host` whose model is a checkpoint of full size with random weights."""

    def __init__(self, name):
        super().__init__()
        self.family, self.size = checkpoints.FAMILIES[name], SIZES[name]
        checkpoints.place(name)
        self.model, *rest = checkpoints.load(self, name)
        if self.family.whole:
            self.clip, self.vae = rest
        self._encoded = {}

    def encode(self, text):
        """Random embeddings where the file has no text encoder: cost does not depend on words."""
        if self.family.whole or not isinstance(text, str):
            return super().encode(text)
        return checkpoints.conditioning(self.family, len(text))


def untrained(family, size, groups=("someone",)):
    """A corrector as training makes one for these latents, its arithmetic alone of interest."""
    table = sigmas()
    config = Config(
        kind="delta", groups=groups, latent_format=family.latent_format, latent_channels=family.channels,
        sigma_data=1.0, sigma_min=table[0].item(), sigma_max=table[-1].item(), windows=[(0.0, 1.0)],
        width=recipe.WIDTH, levels=recipe.levels_for((size, size)),
    )  # fmt: skip
    torch.manual_seed(0)
    return Corrector(config).eval().requires_grad_(False)


def untrained_head(family, size):
    """A gradient corrector's, of the same width."""
    return heads.Head(family.channels, recipe.WIDTH, recipe.levels_for((size, size))).eval().requires_grad_(False)


def methods(host):
    """{name: draw}, each as the quality benchmark applies it."""
    import folder_paths

    case = CASES["hat"]
    path = Path(folder_paths.models_dir) / "rs_correctors" / "untrained.safetensors"
    path.parent.mkdir()
    weights.save(untrained(host.family, host.size), path)
    ours = host.run("RSCorrectorLoader", corrector_name=path.name)[0]
    clocks = Clock(), Clock()

    def corrected(caption, count, seed, **sampling):
        model = host.apply(ours, model=clocks[0].around(host.model))
        return host.sample(clocks[1].around(model), caption, count, seed, **sampling)

    def attention(caption, count, seed, **sampling):
        (model,) = host.call("PerturbedAttentionGuidance", model=host.model, scale=3.0)
        return host.sample(model, caption, count, seed, **sampling)

    head = untrained_head(host.family, host.size)
    return clocks, {
        "none": method("none").prepare(host, case)(1.0),
        "rs_corrector": corrected,
        "pag": attention,
        "sega": method("sega").prepare(host, case, whole=True, threshold=0.75, warmup=0.0)(1.0),
        "prompt_teacher": method("prompt_teacher").prepare(host, case, start=0.0, end=1.0)(1.0),
        "gradient_clean": gradient_clean.corrected(host, head)(0.1),
    }


class Clock:
    """Times every model call of a run, from where it stands among the wrappers inwards."""

    def __init__(self):
        self.seconds = []

    def around(self, model):
        from comfy.patcher_extension import WrappersMP

        def predict_noise(executor, *args, **kwargs):
            wait()
            begun = time.perf_counter()
            denoised = executor(*args, **kwargs)
            wait()
            self.seconds.append(time.perf_counter() - begun)
            return denoised

        timed = model.clone()
        timed.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, f"clock {id(self)}", predict_noise)
        return timed


def wait():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Counter(TorchDispatchMode):
    """While it lasts: operations that compute (views do not), what they read and write, and the most memory that new
    tensors hold at once; in bytes."""

    def __init__(self):
        super().__init__()
        self.operations = self.moved = self.now = self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if not any(r.alias_info and not r.alias_info.is_write for r in function._schema.returns):
            self.operations += 1
            self.moved += sum(t.nbytes for t in tree_leaves((args, kwargs, out)) if torch.is_tensor(t))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)}
        for tensor in tree_leaves(out):
            if torch.is_tensor(tensor) and tensor.untyped_storage()._cdata not in given:
                size = tensor.untyped_storage().nbytes()
                self.now += size
                weakref.finalize(tensor, self.release, size)
        self.most = max(self.most, self.now)
        return out

    def release(self, size):
        self.now -= size


def one_step(corrector, size, batch=1):
    """A call of the correction alone, on latents of a size."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    channels = corrector.config.latent_channels
    x, denoised = torch.randn(batch, channels, size, size, device=device), torch.randn(batch, channels, size, size)
    correction, sigma = Correction(corrector.to(device)), torch.ones(batch, device=device)
    denoised = denoised.to(device)
    return lambda: correction(x, sigma, denoised)


def seconds(call, repeats=9):
    """Median time of a call."""
    call()
    clock = []
    for _ in range(repeats):
        wait()
        begun = time.perf_counter()
        call()
        wait()
        clock.append(time.perf_counter() - begun)
    return float(np.median(clock))


@torch.inference_mode()
def alone(family, size):
    """What one correction does, counted: arithmetic, memory, operations, looks at the device."""
    call = one_step(untrained(family, size), size)
    call()  # what is computed once a run
    with Counter() as counted:
        call()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    with profile(activities=activities) as seen:
        call()
    names = [event.name for event in seen.events()]
    return {
        "gflop": gflop(call),
        "moved_mib": counted.moved / 2**20,
        "extra_peak_mib": counted.most / 2**20,
        "operations": counted.operations,
        "kernels": sum(e.device_type == torch.autograd.DeviceType.CUDA for e in seen.events()) or None,
        "synchronisations": sum("item" in n or "local_scalar" in n or "Synchronize" in n for n in names),
    }


@torch.inference_mode()
def growth(family):
    """Seconds of one correction: with resolution, batch and groups."""
    by = {"resolution": {}, "batch": {}, "groups": {}}
    for pixels in (512, 1024, 1536, 2048):
        by["resolution"][str(pixels)] = seconds(one_step(untrained(family, pixels // 8), pixels // 8))
    for batch in (1, 4, 16):
        by["batch"][str(batch)] = seconds(one_step(untrained(family, 64), 64, batch))
    for groups in (1, 4, 16):
        names = tuple(f"group {i}" for i in range(groups))
        corrector = untrained(family, 64, names)
        x, sigma = torch.randn(1, family.channels, 64, 64), torch.ones(1)
        by["groups"][str(groups)] = seconds(lambda c=corrector, x=x, s=sigma: Correction(c, "group 0")(x, s, x))
    return by


@torch.inference_mode()
def start(host):
    """What is paid once: the pack's import into ComfyUI, a corrector's loading and size, its compilation and gain."""
    corrector = untrained(host.family, host.size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "corrector.safetensors")
        weights.save(corrector, path)
        found = {"import_s": host.import_s, "load_s": seconds(lambda: weights.load(path))}
        found["file_mib"] = path.stat().st_size / 2**20
    call = one_step(corrector, host.size)
    found["eager_s"] = seconds(call)
    corrector.network.compile(mode="reduce-overhead")
    begun = time.perf_counter()
    call()
    return found | {"compile_s": time.perf_counter() - begun, "compiled_s": seconds(call)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SIZES, default="sd15")
    parser.add_argument("--steps", type=int, default=20, help="of the plain run and of ours, in all")
    parser.add_argument("--rival-steps", type=int, default=4, help="of every rival, in all")
    parser.add_argument("--methods", nargs="+", help="beside none and rs_corrector; all without it", default=None)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    host = FullSize(args.model)
    (outer, inner), draws = methods(host)
    if args.methods is not None:
        draws = {name: draws[name] for name in dict.fromkeys(["none", "rs_corrector", *args.methods])}
    result = {
        "model": args.model, "latents": host.size, "host": f"ComfyUI {host.version}", "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU cores",
        "machine": platform.machine(), "alone": alone(host.family, host.size), "growth": growth(host.family),
        "start": start(host),
    }  # fmt: skip
    totals, evals = {name: [] for name in draws}, {}
    wanted = {name: args.steps if name in ("none", "rs_corrector") else args.rival_steps for name in draws}
    bar = tqdm(total=sum(wanted.values()), desc=args.model)
    each = 2  # steps of a turn
    while any(len(totals[name]) < wanted[name] for name in draws):
        for name, draw in draws.items():
            if len(totals[name]) >= wanted[name]:
                continue
            with Evaluations(host) as seen:
                wait()
                begun = time.perf_counter()
                draw(CASES["hat"].neutral, 1, 0, steps=each, cfg=5.0, sampler="euler", scheduler="normal")
                wait()
            totals[name] += [(time.perf_counter() - begun) / each] * each
            evals[name] = seen.rows / each
            bar.update(each)
    plain = float(np.median(totals["none"]))
    result["step_s"], result["methods"] = plain, {}
    base = counted_base(host.family, host.size)
    result["estimate"] = estimate(result["alone"], base)
    for name in draws:
        ratios = np.array(totals[name]) / plain
        cost = {"gflop": (evals[name] - evals["none"]) * base["gflop"] / 2, "extra_peak_mib": None}
        if name == "gradient_clean":
            cost["gflop"] = gradient_gflop(host.family, host.size)
        if name == "rs_corrector":
            ratios = 1 + (np.array(outer.seconds) - np.array(inner.seconds)) / plain
            cost = {key: result["alone"][key] for key in ("gflop", "extra_peak_mib")}
            result["totals_ratio"] = float(np.median(totals[name]) / plain)
        low, middle, high = np.quantile(ratios, (0.025, 0.5, 0.975))
        found = {"ratio": middle, "low": low, "high": high, "steps": len(totals[name])}
        result["methods"][name] = {k: float(v) for k, v in found.items()} | cost | {"evals": evals[name]}
    save(result, args.json)
    print(json.dumps(result, indent=1))


def counted_base(family, size):
    """A guided step's two rows through the checkpoint's network, counted without memory and in fp16."""
    call = checkpoints.evaluation(family, size, rows=2)
    with Counter() as counted:
        call()
    return {"gflop": gflop(call), "moved_mib": counted.moved / 2**20, "operations": counted.operations}


def gradient_gflop(family, size):
    """A gradient corrector's step: through its head, and back, which takes as much where weights are fixed."""
    head, x = untrained_head(family, size), torch.randn(1, family.channels, size, size)
    return 2 * gflop(lambda: head(x, torch.ones(1)))


def estimate(ours, base):
    """{GPU: seconds that a guided step and our correction would take at best}, by the roofline model.

    Nothing of it was measured. A part takes as long as its arithmetic or its traffic, whichever is longer, and no less
    than its kernels take to start; captured in a CUDA graph, ours would start once.
    """

    def least(part, peak, bandwidth):
        return max(part["gflop"] * 1e9 / peak, part["moved_mib"] * 2**20 / bandwidth)

    found = {}
    for gpu, (single, half, bandwidth) in GPUS.items():
        step = max(least(base, half, bandwidth), base["operations"] * LAUNCH)
        each = max(least(ours, single, bandwidth), ours["operations"] * LAUNCH)
        graph = least(ours, single, bandwidth) + LAUNCH
        found[gpu] = {"step_s": step, "ours_s": each, "graph_s": graph}
        found[gpu] |= {"ratio": 1 + each / step, "graph_ratio": 1 + graph / step}
    return found


if __name__ == "__main__":
    main()
