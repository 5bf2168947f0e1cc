"""One training loop for every network here: Adam, warm-up and cosine, EMA, validation, exact resume."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from .files import replacing

#: By so much a validation has to be worse than another, relative to it, for a run to end early.
WORSE = 0.1


@dataclass
class History:
    """What a run saw: a loss per step, and (step, validation loss) pairs."""

    losses: list = field(default_factory=list)
    validation: list = field(default_factory=list)

    def stale(self, patience):
        """True once the last `patience` validations were all worse, by `WORSE`, than the best before them.

        As long as they are about as good the run goes on: much is learnt while the learning rate comes to rest.
        """
        values = [value for _, value in self.validation]
        return len(values) > patience and min(values[-patience:]) > (1 + WORSE) * min(values[:-patience])


def learning_rate(step, steps, peak, warmup):
    """Linear warm-up, then cosine down to zero."""
    return peak * min((step + 1) / warmup, 1) * 0.5 * (1 + math.cos(math.pi * step / steps))


def fit(
    module,
    loss,
    *,
    steps,
    lr,
    seed,
    warmup=100,
    decay=0.999,
    clip=1.0,
    identity=None,
    checkpoint=None,
    every=500,
    validate=None,
    patience=4,
    watch=None,
    label="train",
):
    """Minimise `loss` and leave the exponential moving average of the weights in `module`: the best one validated.

    Each step draws from its own generator, seeded by (seed, step), so a resumed run repeats an
    uninterrupted one exactly.

    Args:
        module: its parameters are optimised in place, on their own device.
        loss: function (generator) -> scalar.
        steps, warmup: number of updates, and of those that warm up.
        lr: peak learning rate; or several, {beginning of parameter names: rate}, which must cover all of them.
        decay: of the EMA, ramped up over the first steps.
        clip: largest gradient norm.
        identity: what else a resumed run must have in common with the one that was cut off; goes through JSON.
        checkpoint: path to resume from and to save to every `every` steps.
        validate: function () -> held-out loss, called every `every` steps with the averages in `module`.
        patience: stop early after this many validations that were worse; see `History.stale`.
        watch: function (step, history), called after every step; may raise to interrupt.
        label: name on the progress bar.

    Returns:
        The `History` of the whole run, resumed parts included.

    Raises:
        ValueError: the checkpoint is of a run with other settings.
    """
    parameters = dict(module.named_parameters())
    averages = {name: p.detach().clone() for name, p in parameters.items()}
    peaks = lr if isinstance(lr, dict) else {"": lr}
    groups = [
        {"params": [p for n, p in parameters.items() if n.startswith(start)], "lr": peaks[start]} for start in peaks
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=1e-4)
    shapes = [[name, *p.shape] for name, p in parameters.items()]
    settings = json.dumps([seed, steps, lr, warmup, decay, clip, every, identity, shapes])
    best = {}
    history = _resume(checkpoint, settings, parameters, averages, best, optimizer)
    start = len(history.losses)
    bar = tqdm(range(start, steps), desc=label, initial=start, total=steps, mininterval=5)
    for step in bar:
        if history.stale(patience):
            bar.close()
            break
        for group, peak in zip(optimizer.param_groups, peaks.values()):
            group["lr"] = learning_rate(step, steps, peak, warmup)
        value = loss(torch.Generator().manual_seed(seed * 1_000_003 + step))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), clip)
        optimizer.step()
        rate = min(decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(averages.values()), list(parameters.values()), 1 - rate)
        history.losses.append(value.item())
        if step % 50 == 0:
            bar.set_postfix(loss=f"{sum(history.losses[-50:]) / len(history.losses[-50:]):.4f}")
        if (step + 1) % every == 0 or step + 1 == steps:
            if validate is not None:
                with _averaged(parameters, averages):
                    history.validation.append((step + 1, validate()))
                if history.validation[-1][1] <= min(value for _, value in history.validation):
                    best = {name: average.clone() for name, average in averages.items()}
            if checkpoint is not None:
                _save(checkpoint, history, settings, parameters, averages, best, optimizer)
        if watch is not None:
            watch(step, history)
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_((best or averages)[name])
    return history


class _averaged:
    """The averages in place of the parameters, for as long as the block lasts."""

    def __init__(self, parameters, averages):
        self.parameters, self.averages = parameters, averages

    def __enter__(self):
        self._swap()

    def __exit__(self, *exception):
        self._swap()

    def _swap(self):
        with torch.no_grad():
            for name, p in self.parameters.items():
                kept = p.clone()
                p.copy_(self.averages[name])
                self.averages[name].copy_(kept)


_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def _save(path, history, settings, parameters, averages, best, optimizer):
    tensors = {f"parameter.{k}": v.detach() for k, v in parameters.items()}
    tensors |= {f"average.{k}": v for k, v in averages.items()}
    tensors |= {f"best.{k}": v for k, v in best.items()}
    for name, p in parameters.items():
        tensors |= {f"{key}.{name}": optimizer.state[p][key] for key in _MOMENTS}
    tensors = {k: v.cpu().contiguous() for k, v in tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"history": json.dumps(asdict(history)), "settings": settings})


def _resume(path, settings, parameters, averages, best, optimizer):
    if path is None or not Path(path).is_file():
        return History()
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if metadata.get("settings") != settings:
        raise ValueError(f"expected a run of the same settings at {path}, got another; delete it or change them back")
    history = History(**json.loads(metadata["history"]))
    history.validation = [tuple(pair) for pair in history.validation]
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}  # so that the file can be replaced
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(tensors[f"parameter.{name}"])
            averages[name].copy_(tensors[f"average.{name}"])
            if f"best.{name}" in tensors:
                best[name] = tensors[f"best.{name}"].to(p.device)
            state = {key: tensors[f"{key}.{name}"] for key in _MOMENTS}
            optimizer.state[p] = {k: v if k == "step" else v.to(p.device) for k, v in state.items()}
    return history
