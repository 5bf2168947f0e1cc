"""A whole picture as another wording has it: dual diffusion implicit bridges (Su et al. 2022).

Up the checkpoint's probability-flow ODE under the rejected wording, over, and down under the preferred one:

    x at sigma / k   ->   x' = scale x + shift at sigma,     scale = s+ / s-,  shift = m+ - scale m-,

m and s a channel's mean and standard deviation in pictures of either wording, k the geometric mean of the scales.
A wash brings all colours k times closer together, and what tells them apart is decided at a noise level k times lower;
so the picture goes over there. The lower that is, the more of the picture is kept.
"""

import torch

from .corrector import expand
from .counterparts import PREFERRED, REJECTED, falling

#: Multiples of the decision level at which a picture goes over, tried in this order.
TURNS = (0.12, 1.0, 2.0)
#: Evaluations each way.
STEPS = 12


def statistics(checkpoint, preferred, rejected, batches):
    """{"scale", "shift"}: a list each, one value a channel.

    Args:
        preferred, rejected: (B, C, H, W) pictures of either wording. Both are drawn once more from the highest level,
            with as much of themselves as noise leaves there: pictures that begin as noise alone vary less.
        batches: ranges of their numbers, each as many as are drawn at once.
    """
    levels, sizes = falling(checkpoint.top, checkpoint.bottom, STEPS), [len(batch) for batch in batches]
    sides = [
        torch.cat([
            checkpoint.sample(wording, batch, again=1, latents=part, levels=levels)
            for batch, part in zip(batches, z.split(sizes))
        ])
        for wording, z in ((PREFERRED, preferred), (REJECTED, rejected))
    ]  # fmt: skip
    (mean, spread), (mean_rejected, spread_rejected) = [(z.mean((0, 2, 3)), z.std((0, 2, 3))) for z in sides]
    scale = spread / spread_rejected.clamp_min(1e-6)
    return {"scale": scale.tolist(), "shift": (mean - scale * mean_rejected).tolist()}


def bridged(checkpoint, z, batch, measured, wanted, good):
    """The lowest bridge that leads somewhere, for every picture: (B, C, H, W), and (B,) flags of those that do.

    Args:
        measured: `counterparts.Measured` with scale and shift.
        wanted: (B,) flags of the pictures that are needed.
        good: function (pictures) -> (B,) flags.
    """
    goal, found = z, torch.zeros_like(wanted)
    for multiple in TURNS:
        if not (wanted & ~found).any():
            break
        made = bridge(checkpoint, z, batch, min(multiple * measured.level, checkpoint.top), measured)
        better = good(made) & ~found
        goal, found = torch.where(expand(better), made, goal), found | better
    return goal, found


def bridge(checkpoint, z, batch, sigma, measured):
    """Pictures of the rejected wording, (B, C, H, W), as the preferred one has them from noise level sigma down."""
    scale, shift = (torch.tensor(values).view(-1, 1, 1).to(z) for values in (measured.scale, measured.shift))
    turn = sigma / float(scale.log().mean().exp())
    up, down = (falling(level, checkpoint.bottom, STEPS)[:-1] for level in (turn, sigma))
    there = flow(checkpoint, z, up.flip(0), REJECTED, batch)
    back = flow(checkpoint, scale * there + shift, down, PREFERRED, batch)
    (clean,) = checkpoint.predict(back, checkpoint.bottom, (PREFERRED,), batch)
    return clean


def flow(checkpoint, x, sigmas, wording, batch):
    """Euler's method along dx/dsigma = (x - D) / sigma, in either direction, without guidance."""
    for sigma, following in zip(sigmas.tolist(), sigmas[1:].tolist()):
        (denoised,) = checkpoint.predict(x, sigma, (wording,), batch)
        x = x + (x - denoised) / sigma * (following - sigma)
    return x
