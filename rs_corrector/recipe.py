"""From a set of pairs to a finished corrector: configuration, training, gain."""

import torch

from . import __version__
from .corrector import UNMARKED, Config
from .distillation import distil
from .pairs import FEWEST, RECORDS, PairsError
from .score_matching import train_denoiser_pair

HELD_OUT = 0.1


class Subset:
    """Some rows, indexed like the whole."""

    def __init__(self, rows, where):
        self.rows, self.where = rows, where

    def __len__(self):
        return len(self.where)

    def __getitem__(self, index):
        return self.rows[self.where[index]]


def train(pairs, *, seed=0, steps=2500, batch=128, lr=2e-3, width=48, levels=None, device="cpu", **fitting):
    """Train a corrector on a set of pairs; the last tenth of every group is held out.

    Args:
        pairs: a `Pairs` of either kind: recorded corrections give a "delta", marked sides a "denoiser_pair".
        levels: resolutions of the network; None goes down to 4 pixels.
        fitting: for `training.fit`: checkpoint, every, patience, watch.

    Returns:
        The `Corrector`, its strength 1 the full correction, and the run's `History`.

    Raises:
        PairsError: fewer than 8 pairs in a group, an empty side, mixed shapes or text encoders.
    """
    channels, *size = pairs.shape()
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
    config = Config(
        kind="delta" if pairs.kind == RECORDS else "denoiser_pair",
        unmarked=pairs.kind != RECORDS and all(_has_unmarked(rows) for rows in learned.values()),
        groups=pairs.groups,
        latent_format=pairs.latent_format,
        latent_channels=channels,
        sigma_data=deviation,
        sigma_min=low,
        sigma_max=high,
        onset=pairs.base.get("onset"),
        context=max((r.shape[1] for r in requests.values()), default=0),
        width=width,
        levels=levels or levels_for(size),
        base={k: pairs.base[k] for k in ("name", "fingerprint") if k in pairs.base},
        training={**pairs.source, "pairs": len(pairs), "steps": steps, "seed": seed},
        created_by=f"rs-corrector {__version__}",
    )
    fitting |= dict(steps=steps, lr=lr, identity=[batch, pairs.identity()])
    learn = distil if pairs.kind == RECORDS else train_denoiser_pair
    corrector, history = learn(learned, config, batch=batch, seed=seed, device=device, held_out=held_out, **fitting)
    for group, request in requests.items():
        corrector.requests[corrector.group_index(group)] = request.to(device)
    return corrector, history


#: What the held-out loss of a kind says, for people who read a report.
HELD_OUT_LOSS = {
    "delta": "squared error relative to the correction; if nothing is learnt, the share of records that need one",
    "denoiser_pair": "error under the marked side over that under the other; at 1 the sides are not told apart",
}


def levels_for(size):
    """Resolutions of the network for latents of (H, W): halved down to 4 pixels, six at most."""
    return max(1, min(6, min(size).bit_length() - 2))


def _has_unmarked(rows):
    return bool((rows["side"][torch.arange(len(rows["side"]))] == UNMARKED).any())


def _split(kind, rows):
    """(learned, held out) row indices: the last tenth of each side, or of the trajectories, which stay whole."""
    if kind == RECORDS:
        sigma = rows["sigma"][torch.arange(len(rows["sigma"]))]
        cut = len(sigma) - max(1, int(HELD_OUT * len(sigma)))
        begins = [0, *((sigma[1:] > sigma[:-1]).nonzero().flatten() + 1).tolist()]  # noise only falls within one
        cut = max((b for b in begins if b <= cut), default=0) or cut
        return torch.arange(cut), torch.arange(cut, len(sigma))
    side = rows["side"][torch.arange(len(rows["side"]))]
    sides = [(side == value).nonzero().flatten() for value in side.unique()]
    cuts = [len(side) - max(1, int(HELD_OUT * len(side))) for side in sides]
    return torch.cat([s[:cut] for s, cut in zip(sides, cuts)]), torch.cat([s[cut:] for s, cut in zip(sides, cuts)])


def _measure(pairs, learned):
    """(sigma_data, sigma_min, sigma_max): of clean latents measured, of records estimated where noise is least."""
    if pairs.kind != RECORDS:
        probe = [rows["latents"][torch.arange(min(len(rows["latents"]), 1024))] for rows in learned.values()]
        return torch.cat(probe).std().item(), pairs.base["sigma_min"], pairs.base["sigma_max"]
    rows = {
        name: torch.cat([r[name][torch.arange(min(len(r[name]), 4096))] for r in learned.values()])
        for name in ("x", "sigma", "signal")
    }
    level = rows["sigma"] / rows["signal"].clamp_min(1e-3)
    least = level.argsort()[: max(len(level) // 20, 1)]
    noisy = rows["x"][least] / rows["signal"][least].view(-1, 1, 1, 1)
    variance = noisy.var() - level[least].square().mean()
    high = min(level.max().item(), 1e3)
    return variance.clamp_min(1e-4).sqrt().item(), min(level.min().item(), 0.5 * high), high
