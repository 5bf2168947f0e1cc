"""A linear direction in latent space, Latent Directions (Olmos et al. 2024).

The unit normal n of a linear SVM between noisy latents of the two wordings after a share of the steps; once, either at
that step or in the initial noise, x <- x + strength * |x| * m * n. |x| is the deviation of the latents there and m the
distance of the two sides' means along n in units of it.
"""

from functools import cache

import torch
from sklearn.svm import LinearSVC

from . import learning_batches

STRENGTHS = (2.0, 4.0, 8.0)
GRID = [
    {"share": share, "initial": initial, "strength": s}
    for share, initial in ((0.1, True), (0.4, True), (0.25, False), (0.55, False))
    for s in (1.0, 3.0, 10.0)
]
REGULARISATION = 1e-3


def prepare(host, case, share, initial):
    """share: of the steps, after which the direction is learnt; initial: add it to the initial noise and not there."""
    step = direction(host, case, share)

    def at(strength):
        def draw(caption, count, seed, steps=20, **sampling):
            begin = 0 if initial else round(share * steps)
            x = until(host, caption, count, seed, begin, steps, **sampling)
            return onwards(host, x + strength * x.std() * step, caption, seed, begin, steps, **sampling)

        return draw

    return at


@cache
def direction(host, case, share, steps=20):
    """m * n, (4, 8, 8)."""
    at = round(share * steps)
    sides = [
        torch.cat([until(host, words, *batch, at, steps) for batch in learning_batches()])
        for words in (case.preferred, case.rejected)
    ]
    scale, count = torch.cat(sides).std(), len(sides[0])
    rows, preferred = torch.cat(sides).flatten(1) / scale, torch.arange(2 * count) < count
    machine = LinearSVC(C=REGULARISATION, max_iter=10000, random_state=0).fit(rows.numpy(), preferred.numpy())
    normal = torch.from_numpy(machine.coef_[0]).float()
    normal = normal / normal.norm()
    distance = ((rows[:count].mean(0) - rows[count:].mean(0)) * normal).sum()
    return (distance * normal).view_as(sides[0][0])


def until(host, caption, count, seed, at, steps, cfg=3.0, sampler="euler", scheduler="normal"):
    """Noisy latents after `at` steps; after none, the initial noise."""
    empty = {"samples": torch.zeros(count, 4, 8, 8)}
    if at == 0:
        noise = torch.randn(count, 4, 8, 8, generator=torch.manual_seed(seed))
        sampling = host.model.get_model_object("model_sampling")
        return host.model.model.process_latent_out(noise * (1 + float(sampling.sigma_max) ** 2) ** 0.5)
    return part(host, empty, caption, seed, steps, cfg, sampler, scheduler, "enable", 0, at, "enable")


def onwards(host, x, caption, seed, at, steps, cfg=3.0, sampler="euler", scheduler="normal", model=None):
    """Clean latents from those, by the checkpoint or by another model."""
    settings = caption, seed, steps, cfg, sampler, scheduler, "disable", at, steps, "disable"
    return part(host, {"samples": x}, *settings, model=model)


def part(host, latent, caption, seed, steps, cfg, sampler, scheduler, add_noise, start, end, leftover, model=None):
    conds = host.encode(caption), host.encode("")
    with torch.inference_mode():
        drawn = host.nodes["KSamplerAdvanced"]().sample(
            model or host.model, add_noise, seed, steps, cfg, sampler, scheduler, *conds, latent, start, end, leftover
        )
    return drawn[0]["samples"].clone()
