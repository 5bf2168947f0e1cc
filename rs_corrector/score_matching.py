"""A corrector from latents that someone marked: one denoiser, a label for each group and side."""

import torch

from .corrector import PREFERRED, REJECTED, UNMARKED, Corrector, expand
from .training import fit


def train_denoiser_pair(latents, config, *, batch, seed, device="cpu", held_out=None, **fitting):
    """Denoising score matching with EDM's preconditioning (Karras et al. 2022), sigma log-uniform.

    Stereotypes are decided at high noise, where EDM's own log-normal would hardly look.

    Args:
        latents: {group: {"latents": (N, C, H, W) in model space, "side": (N,) int64}}; sides need not be
            aligned, and unmarked ones may be absent, but then the gate is not to be used.
        config: a `Config` of kind "denoiser_pair".
        held_out: the same, for validation.
        fitting: for `training.fit`: steps, lr, checkpoint and so on.

    Returns:
        A `Corrector` with gain 1, and the run's `History`.

    Raises:
        ValueError: a group has no preferred or no rejected latents.
    """
    torch.manual_seed(seed)
    corrector = Corrector(config).to(device)
    where = rows_by_label(latents, config.groups)

    def score_matching(places, source, count, generator):
        z, label = _balanced(places, source, count, generator)
        low, high = torch.tensor([config.sigma_min, config.sigma_max]).log()
        sigma = (torch.rand(len(z), generator=generator) * (high - low) + low).exp()
        noise = torch.randn(z.shape, generator=generator)
        z, label, sigma, noise = (t.to(device) for t in (z, label, sigma, noise))
        x = z + expand(sigma) * noise
        c_in, c_out, c_skip, c_noise = corrector.precondition(sigma, 1.0)
        target = (z - expand(c_skip) * x) / expand(c_out)
        return (corrector.network(expand(c_in) * x, c_noise, label) - target).square().mean()

    validate = None
    if held_out is not None:
        held_out_places = rows_by_label(held_out, config.groups)

        def validate():
            with torch.no_grad():
                return score_matching(held_out_places, held_out, 512, torch.Generator().manual_seed(seed)).item()

    history = fit(
        corrector,
        lambda generator: score_matching(where, latents, batch, generator),
        seed=seed,
        validate=validate,
        **fitting,
    )
    return corrector.eval().requires_grad_(False), history


def rows_by_label(latents, groups):
    """{label: (group, row indices)}; every group needs both sides."""
    where = {}
    for index, group in enumerate(groups):
        side = latents[group]["side"][torch.arange(len(latents[group]["side"]))]
        for value, name in ((PREFERRED, "preferred"), (REJECTED, "rejected"), (UNMARKED, "unmarked")):
            rows = (side == value).nonzero().flatten()
            if len(rows):
                where[3 * index + value] = (group, rows)
            elif value != UNMARKED:
                raise ValueError(f"expected {name} latents of {group!r}, got none; mark some on both sides")
    return where


def _balanced(where, latents, count, generator):
    """A batch with every label equally often: latents and labels."""
    share = -(-count // len(where))
    z = [
        latents[group]["latents"][rows[torch.randint(len(rows), (share,), generator=generator)]]
        for group, rows in where.values()
    ]
    return torch.cat(z), torch.tensor(list(where)).repeat_interleave(share)
