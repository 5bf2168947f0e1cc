"""A linear direction in intermediate latents, as in Latent Directions (Olmos et al. 2024).

The normal n of a linear SVM between noisy latents of the two wordings at one step; there, once,
x <- x + strength * m * n with m the distance of the two sides' means along n.
"""

from functools import cache

import torch
from sklearn.svm import LinearSVC

STRENGTHS = (0.5, 1.0, 2.0, 3.0, 5.0)
GRID = [{"share": share, "strength": s} for share in (0.1, 0.25, 0.4, 0.55) for s in (1.0, 2.0, 4.0)]
REGULARISATION = 1e-3


def prepare(host, case, share):
    """share: of the steps, after which it acts."""

    def draw(caption, count, seed, strength, steps=20, **sampling):
        at = round(share * steps)
        x = until(host, caption, count, seed, at, steps, **sampling)
        return onwards(host, x + strength * direction(host, case, share), caption, seed, at, steps, **sampling)

    return draw


@cache
def direction(host, case, share, count=256, steps=20):
    """m * n, (4, 8, 8)."""
    preferred, rejected = (
        torch.cat([until(host, words, 64, i, round(share * steps), steps) for i in range(count // 64)])
        for words in (case.preferred, case.rejected)
    )
    rows, side = torch.cat([preferred, rejected]).flatten(1), torch.arange(2).repeat_interleave(count)
    scale = rows.std()
    machine = LinearSVC(C=REGULARISATION, max_iter=10000, random_state=0).fit((rows / scale).numpy(), 1 - side.numpy())
    normal = torch.from_numpy(machine.coef_[0]).float()
    normal = (normal / normal.norm()).view_as(preferred[0])
    return ((preferred.mean(0) - rejected.mean(0)) * normal).sum() * normal


def until(host, caption, count, seed, at, steps, cfg=3.0, sampler="euler", scheduler="normal"):
    """Noisy latents after `at` steps."""
    empty = {"samples": torch.zeros(count, 4, 8, 8)}
    return part(host, empty, caption, seed, steps, cfg, sampler, scheduler, "enable", 0, at, "enable")


def onwards(host, x, caption, seed, at, steps, cfg=3.0, sampler="euler", scheduler="normal"):
    """Clean latents from those."""
    return part(host, {"samples": x}, caption, seed, steps, cfg, sampler, scheduler, "disable", at, steps, "disable")


def part(host, latent, caption, seed, steps, cfg, sampler, scheduler, add_noise, start, end, leftover):
    conds = host.encode(caption), host.encode("")
    with torch.inference_mode():
        drawn = host.nodes["KSamplerAdvanced"]().sample(
            host.model, add_noise, seed, steps, cfg, sampler, scheduler, *conds, latent, start, end, leftover
        )
    return drawn[0]["samples"].clone()
