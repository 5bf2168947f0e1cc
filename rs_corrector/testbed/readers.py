"""Read the attributes of a portrait: the nearest portrait that can be drawn.

For one layout the squared distance to an image is quadratic in the region colours c,
``|image|^2 - 2 sum_r c_r.P_r + sum_rq G_rq c_r.c_q`` with P = masks . image and G = masks . masks', so
the best colour of every palette is found from P and G alone, and the image is touched once.
Reading is therefore maximum likelihood under Gaussian pixel noise: analytic, with nothing trained.
"""

from functools import cache
from typing import NamedTuple

import torch

from . import portraits as P

_FREE = {"background": "background", "shirt": "group", "skin": "skin", "hair": "hair"}
_SWEEPS = 3  # coordinate descent over regions; layouts overlap only at soft edges, so it settles at once


@cache
def _geometry():
    masks = P.layout_masks().flatten(2)
    gram = masks @ masks.mT
    ridge = 1e-3 * torch.eye(len(P.REGIONS))
    return masks, gram, torch.linalg.inv(gram + ridge)


def _palette(region, distorted):
    """(L,) flags -> (L, K, 3) colours of the region, washed out where distorted."""
    wash = distorted[:, None, None].float() * P.WASH
    return P.PALETTES[region] * (1 - wash) + P.PALE * wash


class Reading(NamedTuple):
    """What the nearest drawable portrait says of images.

    Attributes:
        attributes: (N, A) int64 in the order of `portraits.ATTRIBUTES`.
        residual: (N,) root-mean-square distance to that portrait, in units of full scale.
        flaw: (N,) the same to the nearest portrait that is not distorted.
    """

    attributes: torch.Tensor
    residual: torch.Tensor
    flaw: torch.Tensor


def read(images):
    """(attributes, residual) of `inspect`."""
    return inspect(images)[:2]


def inspect(images, chunk=64):
    """The `Reading` of (N, 3, 64, 64) RGB images in 0..1."""
    if images.ndim != 4 or images.shape[1:] != (3, P.SIZE, P.SIZE):
        raise ValueError(
            f"expected images of shape (N, 3, {P.SIZE}, {P.SIZE}), got {tuple(images.shape)}; "
            "the readers know the testbed's portraits only"
        )
    parts = [_inspect(part.float().cpu()) for part in images.split(chunk)]
    return Reading(*map(torch.cat, zip(*parts)))


def _inspect(images):
    masks, gram, inverse = _geometry()
    flat = images.flatten(2)
    projected = torch.einsum("lrp,ncp->nlrc", masks, flat)
    distorted = P.layouts()[:, -1].bool()
    colours = torch.einsum("lrq,nlqc->nlrc", inverse, projected)  # unconstrained least squares
    choice = {}
    for sweep in range(_SWEEPS):
        for r, region in enumerate(P.REGIONS):
            palette = _palette(region, distorted)
            if sweep:
                others = torch.einsum("lq,nlqc->nlc", gram[:, r], colours) - gram[:, r, r, None] * colours[:, :, r]
                pull = projected[:, :, r] - others
                cost = gram[:, r, r, None] * palette.square().sum(-1) - 2 * torch.einsum("nlc,lkc->nlk", pull, palette)
            else:
                cost = (colours[:, :, r, None] - palette).square().sum(-1)
            choice[region] = cost.argmin(-1)
            colours[:, :, r] = palette[torch.arange(len(palette)), choice[region]]
    distance = (
        flat.square().sum((1, 2))[:, None]
        - 2 * (colours * projected).sum((2, 3))
        + torch.einsum("lrq,nlrc,nlqc->nl", gram, colours, colours)
    )
    nearest, best = distance.min(1)
    flawless = distance.masked_fill(distorted, torch.inf).amin(1)
    row = torch.arange(len(images))
    attributes = torch.empty(len(images), len(P.ATTRIBUTES), dtype=torch.long)
    for region, name in _FREE.items():
        attributes[:, P.COLUMN[name]] = choice[region][row, best]
    for name, column in zip(("x", "y", "glasses", "hat", "distorted"), P.layouts()[best].T):
        attributes[:, P.COLUMN[name]] = column
    residual, flaw = ((d.clamp_min(0) / flat[0].numel()).sqrt() for d in (nearest, flawless))
    return attributes, residual, flaw
