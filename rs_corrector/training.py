"""One training loop for every network here: Adam, warm-up and cosine, EMA, exact resume."""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, safe_open, save_file
from tqdm.auto import tqdm

from .files import replacing


def learning_rate(step, steps, peak, warmup):
    """Linear warm-up, then cosine down to zero."""
    return peak * min((step + 1) / warmup, 1) * 0.5 * (1 + math.cos(math.pi * step / steps))


def fit(module, loss, *, steps, lr, seed, warmup=100, decay=0.999, clip=1.0, checkpoint=None, every=500, label="train"):
    """Minimise `loss` and leave the exponential moving average of the weights in `module`.

    Each step draws from its own generator, seeded by (seed, step), so a resumed run repeats an
    uninterrupted one exactly.

    Args:
        module: its trainable parameters are optimised in place.
        loss: function (generator) -> scalar.
        steps, lr, warmup: number of updates, peak learning rate, updates of warm-up.
        decay: of the EMA, ramped up over the first steps.
        clip: largest gradient norm.
        checkpoint: path to resume from and to save to every `every` steps; removed by nobody.
        label: name on the progress bar.

    Returns:
        Losses, one float for each step made by this call.
    """
    parameters = dict(module.named_parameters())
    averages = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-4)
    start = _resume(checkpoint, parameters, averages, optimizer)
    losses = []
    bar = tqdm(range(start, steps), desc=label, initial=start, total=steps, mininterval=5)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, lr, warmup)
        value = loss(torch.Generator().manual_seed(seed * 1_000_003 + step))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), clip)
        optimizer.step()
        rate = min(decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(averages.values()), list(parameters.values()), 1 - rate)
        losses.append(value.item())
        if step % 50 == 0:
            bar.set_postfix(loss=f"{sum(losses[-50:]) / len(losses[-50:]):.4f}")
        if checkpoint and ((step + 1) % every == 0 or step + 1 == steps):
            _save(checkpoint, step + 1, parameters, averages, optimizer)
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(averages[name])
    return losses


def _save(path, step, parameters, averages, optimizer):
    tensors = {f"parameter.{k}": v.detach() for k, v in parameters.items()}
    tensors |= {f"average.{k}": v for k, v in averages.items()}
    for name, p in parameters.items():
        tensors |= {f"{key}.{name}": value for key, value in optimizer.state[p].items()}
    with replacing(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, {"step": json.dumps(step)})


def _resume(path, parameters, averages, optimizer):
    if path is None or not Path(path).is_file():
        return 0
    with safe_open(path, "pt") as file:
        step = json.loads(file.metadata()["step"])
    tensors = load_file(path)
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(tensors[f"parameter.{name}"])
            averages[name].copy_(tensors[f"average.{name}"])
            optimizer.state[p] = {key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
    return step
