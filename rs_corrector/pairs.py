"""A corrector from latents that someone marked: one denoiser, a label for each group and side."""

import torch

from .corrector import PREFERRED, REJECTED, UNMARKED, Corrector, expand
from .training import fit


def train_denoiser_pair(latents, config, *, steps, batch, lr, seed, checkpoint=None):
    """Denoising score matching with EDM's preconditioning (Karras et al. 2022), sigma log-uniform.

    Stereotypes are decided at high noise, where EDM's own log-normal would hardly look.

    Args:
        latents: {group: (preferred, rejected, unmarked)}, each (N, C, H, W) clean latents in model space;
            unmarked may be None, and then the gate is not to be used. Sides need not be aligned.
        config: a `Config` of kind "denoiser_pair".

    Returns:
        A `Corrector` with gain 1.

    Raises:
        ValueError: a side is empty.
    """
    sides = []
    for index, group in enumerate(config.groups):
        for side, name in ((PREFERRED, "preferred"), (REJECTED, "rejected"), (UNMARKED, "unmarked")):
            z = latents[group][side]
            if z is None and side == UNMARKED:
                continue
            if len(z) == 0:
                raise ValueError(f"expected {name} latents of {group!r}, got none; mark at least 8 a side")
            sides.append((3 * index + side, z))
    torch.manual_seed(seed)
    corrector = Corrector(config)

    def loss(generator):
        z, label = _balanced(sides, batch, generator)
        low, high = torch.tensor([config.sigma_min, config.sigma_max]).log()
        sigma = (torch.rand(len(z), generator=generator) * (high - low) + low).exp()
        x = z + expand(sigma) * torch.randn(z.shape, generator=generator)
        c_in, c_out, c_skip, c_noise = (expand(c) for c in corrector.precondition(sigma, 1.0))
        target = (z - c_skip * x) / c_out
        return (corrector.network(c_in * x, c_noise.flatten(), label) - target).square().mean()

    fit(corrector, loss, steps=steps, lr=lr, seed=seed, checkpoint=checkpoint, label="corrector")
    return corrector.eval().requires_grad_(False)


def _balanced(sides, batch, generator):
    """A batch with every label equally often: latents and labels."""
    share = -(-batch // len(sides))
    picks = [z[torch.randint(len(z), (share,), generator=generator)] for _, z in sides]
    labels = [torch.full((share,), label) for label, _ in sides]
    return torch.cat(picks), torch.cat(labels)
