"""From a set of pairs to a finished corrector: configuration, training, gain."""

from functools import partial

import torch

from . import __version__
from .corrector import Config
from .distillation import distil, led
from .method import WINDOW
from .pairs import FEWEST, RECORDS, PairsError
from .score_matching import SORTED_WINDOW, train_denoiser_pair

HELD_OUT = 0.1
#: The usual training: updates, learning rate, and channels of the network.
STEPS, RATE, WIDTH = 3000, 2e-3, 32


class Subset:
    """Some rows, indexed like the whole."""

    def __init__(self, rows, where):
        self.rows, self.where = rows, where

    def __len__(self):
        return len(self.where)

    def __getitem__(self, index):
        first, *second = index if isinstance(index, tuple) else (index,)
        return self.rows[(self.where[first], *second) if second else self.where[first]]


def train(
    pairs, *, seed=0, steps=STEPS, batch=None, lr=RATE, width=WIDTH, levels=None, device="cpu", show=None, **fitting
):
    """Train a corrector on a set of pairs; a tenth of every group is held out.

    Args:
        pairs: a `Pairs` of either kind: recorded corrections give a "delta", marked sides a "denoiser_pair".
        batch: records an update; None takes `batch_for` the latents.
        levels: resolutions of the network; None takes `levels_for` them.
        show: of recorded corrections, a function of what `distillation.examples` returns; called as it learns.
        fitting: for `training.fit`: checkpoint, every, patience, watch.

    Returns:
        The `Corrector`, its strength 1 the full correction, and the run's `History`.

    Raises:
        PairsError: fewer than 8 pairs in a group, an empty side, mixed shapes or text encoders.
    """
    channels, *size = pairs.shape()
    batch = batch or batch_for(size)
    for group in pairs.groups:
        if pairs.count(group) < FEWEST:
            raise PairsError(f"expected at least {FEWEST} pairs of {group!r}, got {pairs.count(group)}; record more")
    learned, held_out = {}, {}
    for group in pairs.groups:
        rows = pairs.load(group)
        keep, rest = _split(pairs.kind, rows)
        learned[group] = {name: Subset(r, keep) for name, r in rows.items()}
        held_out[group] = {name: Subset(r, rest) for name, r in rows.items()}
    deviation, low, high = _measure(pairs, learned)
    requests = {g: r for g in pairs.groups if (r := pairs.request(g)) is not None}
    if len(sizes := {r.shape[1] for r in requests.values()}) > 1:
        raise PairsError(
            f"expected words of one text encoder, got embeddings of {sorted(sizes)}; make all sets with one"
        )
    choices, shares = zip(*(_choices(pairs, group) for group in pairs.groups))
    config = Config(
        kind="delta" if pairs.kind == RECORDS else "denoiser_pair",
        groups=pairs.groups,
        latent_format=pairs.latent_format,
        latent_channels=channels,
        sigma_data=deviation,
        sigma_min=low,
        sigma_max=high,
        choices=choices,
        shares=shares,
        windows=[_window(pairs, group) for group in pairs.groups],
        context=max((r.shape[1] for r in requests.values()), default=0),
        width=width,
        levels=levels or levels_for(size),
        base={k: pairs.base[k] for k in ("name", "fingerprint") if k in pairs.base},
        training={**pairs.source, "pairs": len(pairs), "steps": steps, "seed": seed},
        created_by=f"rs-corrector {__version__}",
    )
    fitting |= dict(steps=steps, lr=lr, identity=[batch, pairs.identity()])
    learn = partial(distil, show=show) if pairs.kind == RECORDS else train_denoiser_pair
    corrector, history = learn(learned, config, batch=batch, seed=seed, device=device, held_out=held_out, **fitting)
    for group, request in requests.items():
        corrector.requests[corrector.group_index(group)] = request.to(device)
    return corrector, history


#: What the held-out loss of a kind says, for people who read a report.
HELD_OUT_LOSS = {
    "delta": "squared error relative to the correction; if nothing is learnt, some more than the share that needs one",
    "denoiser_pair": "error under the marked side over that under the other; at 1 the sides are not told apart",
}


def batch_for(size):
    """Records an update for latents of (H, W): 128 at the testbed's 8x8, 16 at 64x64."""
    return max(4, 1024 // max(size))


def levels_for(size):
    """Resolutions of the network for latents of (H, W): halved down to 4 pixels, four at most."""
    return max(1, min(4, min(size).bit_length() - 2))


def _choices(pairs, group):
    """(texts, shares) of a group's preferred wordings: one that is not known as text, where nothing is."""
    facts = pairs.source.get(group, {}) if pairs.kind == RECORDS else {}
    texts = facts.get("preferred", [""])
    return texts, facts.get("shares") or [1.0] * len(texts)


def _window(pairs, group):
    """Between which noise levels the correction of a group acts: multiples of the decision level, where it is known."""
    if pairs.kind != RECORDS:
        return SORTED_WINDOW
    return tuple(multiple * pairs.source[group]["level"] for multiple in WINDOW)


def _split(kind, rows):
    """(learned, held out) row indices: a tenth of the runs that are led and of the others; or the last of a side."""
    if kind == RECORDS:
        needs = led(rows)
        place = torch.where(needs, needs.cumsum(0), (~needs).cumsum(0))
        held_out = place % round(1 / HELD_OUT) == 3  # so that three have one already
        return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()
    side = rows["side"][torch.arange(len(rows["side"]))]
    sides = [(side == value).nonzero().flatten() for value in side.unique()]
    cuts = [len(side) - max(1, int(HELD_OUT * len(side))) for side in sides]
    return torch.cat([s[:cut] for s, cut in zip(sides, cuts)]), torch.cat([s[cut:] for s, cut in zip(sides, cuts)])


def _measure(pairs, learned):
    """(sigma_data, sigma_min, sigma_max): the deviation of clean latents, and the noise levels that were seen."""
    name = "goal" if pairs.kind == RECORDS else "latents"
    probe = [rows[name][torch.arange(min(len(rows[name]), 1024))] for rows in learned.values()]
    deviation = torch.cat(probe).std().clamp_min(1e-2).item()
    if pairs.kind != RECORDS:
        return deviation, pairs.base["sigma_min"], pairs.base["sigma_max"]
    level = torch.cat([rows["level"][torch.arange(len(rows["level"]))].flatten() for rows in learned.values()])
    high = min(level.max().item(), 1e3)
    return deviation, min(level.min().item(), 0.5 * high), high
