"""A corrector from latents that someone marked: one denoiser, a label for each group and side."""

from dataclasses import replace
from functools import partial

import torch

from .correction import Correction
from .corrector import PREFERRED, REJECTED, Corrector, expand, noise_levels
from .training import fit

#: (release, onset) of a correction, as in `correction.weight`: it comes in where noise is as strong as latents of unit
#: variance. With words a level is measured instead.
SORTED_WINDOW = (0.0, 1.0)
#: Gains that are tried, in this order.
GAINS = (1.0, 1.125, 1.25, 1.375, 1.5, 1.625, 1.75, 1.875, 2.0)


def train_denoiser_pair(latents, config, *, batch, seed, device="cpu", held_out=None, **fitting):
    """Denoising score matching with EDM's preconditioning (Karras et al. 2022), sigma log-uniform.

    Stereotypes are decided at high noise, where EDM's own log-normal would hardly look.

    Args:
        latents: {group: {"latents": (N, C, H, W) in model space, "side": (N,) int64}}; sides need not be aligned.
        config: a `Config` of kind "denoiser_pair".
        held_out: the same, for validation.
        fitting: for `training.fit`: steps, lr, checkpoint and so on.

    Returns:
        A `Corrector`, calibrated (see `calibrated`), and the run's `History`.

    Raises:
        ValueError: a group has no preferred or no rejected latents.
    """
    torch.manual_seed(seed)
    corrector = Corrector(config).to(device)
    where = rows_by_label(latents, config.groups)

    def errors(z, labels, generator):
        """Mean squared error, (B,), under each of some labels in turn, with the same noise."""
        low, high = torch.tensor([config.sigma_min, config.sigma_max]).log()
        sigma = (torch.rand(len(z), generator=generator) * (high - low) + low).exp()
        noise = torch.randn(z.shape, generator=generator)
        z, sigma, noise = z.to(device), sigma.to(device), noise.to(device)
        x = z + expand(sigma) * noise
        c_in, c_out, c_skip = corrector.precondition(sigma, 1.0)
        target = (z - expand(c_skip) * x) / expand(c_out)
        for label in labels:
            found = corrector.network(expand(c_in) * x, corrector.film(sigma, label.to(device)))
            yield (found - target).square().mean((1, 2, 3))

    def loss(generator):
        z, label = _balanced(where, latents, batch, generator)
        return next(errors(z, [label], generator)).mean()

    validate = None
    if held_out is not None:
        marked = rows_by_label(held_out, config.groups)

        @torch.no_grad()
        def validate():
            """Error under the marked side's label over that under the other's: the difference is what is used.

            The plain error would stop too early, at a network that tells the sides apart less well.
            """
            generator = torch.Generator().manual_seed(seed)
            z, label = _balanced(marked, held_out, 4 * batch, generator)
            other = label // 2 * 2 + (REJECTED - label % 2)
            right, wrong = errors(z, [label, other], generator)
            return (right / wrong).mean().item()

    history = fit(corrector, loss, seed=seed, validate=validate, **fitting)
    corrector.eval().requires_grad_(False)
    shape = latents[config.groups[0]]["latents"][torch.zeros(1, dtype=torch.int64)].shape[1:]
    watch = fitting.get("watch")
    tick = partial(watch, len(history.losses) - 1, history) if watch else None
    gains = [calibrated(corrector, group, shape, seed, chunk=batch, tick=tick) for group in config.groups]
    corrector.config = replace(config, gains=gains)
    return corrector, history


@torch.no_grad()
def calibrated(corrector, group, shape, seed=0, images=32, steps=20, chunk=32, tick=None):
    """The gain at which strength 1 is the full correction, found without looking at any picture.

    The rejected denoiser stands in for a checkpoint that draws the stereotype. It is sampled (Euler) with the
    correction on, which is raised until the results score as preferred as what the preferred denoiser draws.

    Args:
        corrector: a trained denoiser_pair with gain 1.
        shape: (C, H, W) of latents.
        chunk: images at once.
        tick: function that is called at every step; may raise to interrupt.

    Returns:
        The first of `GAINS` that reaches the score, or else the one that comes closest.
    """
    c, first = corrector.config, corrector.first_label(group)
    device = next(corrector.parameters()).device
    start = torch.randn(images, *shape, generator=torch.Generator().manual_seed(seed)) * c.sigma_max
    levels = [*noise_levels(c.sigma_min, c.sigma_max, steps).flip(0).tolist(), 0.0]

    def score(side, gain):
        scores = []
        for x in start.to(device).split(chunk):
            correct = Correction(corrector, group, gain)  # of this run
            label = torch.full((len(x),), first + side, device=device)
            for level, following in zip(levels, levels[1:]):
                if tick is not None:
                    tick()
                sigma = torch.full((len(x),), level, device=device)
                denoised = correct(x, sigma, corrector.denoise(x, sigma, label))
                x = x + (x - denoised) / level * (following - level)
            scores.append(corrector.score(x, group))
        return torch.cat(scores).mean().item()

    aim, found = score(PREFERRED, 0.0), {}
    for gain in GAINS:
        found[gain] = score(REJECTED, gain)
        if found[gain] >= aim - 1e-3 * abs(aim):
            return gain
    return max(found, key=found.get)


def rows_by_label(latents, groups):
    """{label: (group, row indices)}; every group needs both sides."""
    where = {}
    for index, group in enumerate(groups):
        side = latents[group]["side"][torch.arange(len(latents[group]["side"]))]
        for value, name in ((PREFERRED, "preferred"), (REJECTED, "rejected")):
            rows = (side == value).nonzero().flatten()
            if not len(rows):
                raise ValueError(f"expected {name} latents of {group!r}, got none; mark some on both sides")
            where[2 * index + value] = (group, rows)
    return where


def _balanced(where, latents, count, generator):
    """A batch with every label equally often: latents and labels."""
    share = -(-count // len(where))
    z = [
        latents[group]["latents"][rows[torch.randint(len(rows), (share,), generator=generator)]]
        for group, rows in where.values()
    ]
    return torch.cat(z), torch.tensor(list(where)).repeat_interleave(share)
