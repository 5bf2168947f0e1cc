"""Which of several preferred depictions a picture is to have, and whether it is left as it is.

A picture chooses by itself, from its own initial noise: alone, in any batch and at any place in it the choice is the
same, and nothing that is seen of the picture has to do with it. Passes that begin with other noise, a larger picture or
a part of it, choose the same by a number that they share.
"""

import hashlib
import json

import torch

#: The choice of a picture that is left as it is.
KEEP = -1
#: So often is a number wrapped; a hundred thousand times less than fp32 could tell apart.
TURNS = 64


def choices(noise, config, index, keep=0.0, seed=-1, mask=None):
    """Which preferred depiction every picture of a run is to have, (B,); `KEEP` for those that are left as they are.

    Corrections of other groups, wordings or places choose by numbers of their own.

    Args:
        noise: (B, C, H, W) that the run begins with.
        config, index: of a `Corrector`, and its group's.
        keep: share of pictures that are left as they are.
        seed: what pictures choose by, with their place in the batch; below 0 their own noise.
        mask: (M, 1, H, W), the place that is corrected; None is everywhere.
    """
    shares = config.shares[index]
    if keep == 0 and len(shares) == 1:
        return torch.zeros(len(noise), dtype=torch.int64)
    facts = config.training.get(config.groups[index])
    told = facts.get("rejected", facts.get("begun")) if isinstance(facts, dict) else None
    key = json.dumps([config.groups[index], config.choices[index], told])
    if seed >= 0:
        return choose(from_seed(seed, len(noise), key), keep, shares)
    place = "" if mask is None else hashlib.sha256(mask.cpu().float().contiguous().numpy().tobytes()).hexdigest()
    return choose(from_noise(noise, key + place), keep, shares)


def from_noise(noise, key):
    """Two numbers in 0..1 a picture: (B, 2), uniform and independent for noise that is normal.

    Each is where the noise lies along a direction of its own, u = Phi(<n, r> / |n|), r normal and drawn from `key`,
    wrapped `TURNS` times round 0..1: in small pictures two directions are never quite at right angles.

    Args:
        noise: (B, ...).
        key: a text; corrections of different keys choose independently of one another.
    """
    rows = noise.detach().float().cpu().flatten(1)
    generator = torch.Generator().manual_seed(_number(key))
    directions = torch.randn(2, rows.shape[1], generator=generator)
    along = rows @ directions.T / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return TURNS * torch.special.ndtr(along) % 1


def from_seed(seed, count, key):
    """The same from a number and the picture's place in its batch."""
    return torch.stack([torch.rand(2, generator=_generator(f"{key} {seed} {place}")) for place in range(count)])


def are_shares(values):
    """Whether numbers are shares relative to one another: 0 and above, bounded, and not all of them 0."""
    return all(0 <= value < 1e9 for value in values) and sum(values) > 0


def choose(numbers, keep, shares):
    """(B, 2) numbers in 0..1 -> (B,) indices of shares, `KEEP` for a share of `keep` of them.

    Args:
        keep: share of pictures that are left as they are.
        shares: (K,) relative to one another.
    """
    shares = torch.tensor(shares, dtype=torch.float64)
    ends = (shares / shares.sum()).cumsum(0)
    ends[shares.nonzero()[-1] :] = float("inf")
    chosen = torch.searchsorted(ends, numbers[:, 1].double().contiguous(), right=True)
    return torch.where(numbers[:, 0] < keep, KEEP, chosen)


def _generator(key):
    return torch.Generator().manual_seed(_number(key))


def _number(key):
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
