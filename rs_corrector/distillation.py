"""A corrector from words alone: what a checkpoint would have drawn instead, recorded and distilled.

The difference of two wordings, D(x, c+) - D(x, c-), says *where* an image shows the rejected depiction (DiffEdit,
Couairon et al. 2022). Redrawing only there under the preferred wording, and the whole once more at low noise so
that no seam is left, gives every image a counterpart z+ that is the same picture otherwise: of a few tries, the one
that changes least elsewhere. Along the model's own trajectory for that image the correction that leads to it is
``z+ - D(x, sigma)``; it is recorded at the very states that a corrected run visits. Images drawn under the preferred
wording need no correction, and that is recorded too: it is what spares everyone else. A small network learns the
(weighted) mean of both given (x, sigma): one kind of file, `delta`. Strength 1 is the full correction wherever x
tells that one is needed.
"""

import torch
import torch.nn.functional as F

from .corrector import Corrector, expand, weight
from .training import fit

#: Where noise is as strong as latents of unit variance.
ONSET = 1.0
#: Noise level below which a counterpart is drawn once more as a whole, so that the seams of the mask settle.
SETTLE_SIGMA = 0.8
MASK_SIGMA, MASK_DRAWS, MASK_SHARE = 4.0, 6, 0.35
#: Records are drawn in proportion to w(sigma), and no less than this.
LEAST = 0.02
#: How often each image is redrawn for its counterpart.
CANDIDATES = 4
#: What records depend on beside words and sampling: sets made otherwise are not continued.
RECIPE = ("spared, half led all the way", ONSET, SETTLE_SIGMA, MASK_SIGMA, MASK_DRAWS, MASK_SHARE, CANDIDATES)


@torch.no_grad()
def edit_mask(z, denoisers, seed=0):
    """Where two wordings differ on clean latents: (B, 1, H, W), 1 where the image is to be redrawn.

    The energy of their mean difference at one noise level, averaged over 3x3, above a share of its maximum.

    Args:
        z: (B, C, H, W) clean latents in model space.
        denoisers: function (x, sigma) -> (D+, D-), on x = z + sigma * n.
    """
    generator = torch.Generator().manual_seed(seed)
    sigma = torch.full((len(z),), MASK_SIGMA, device=z.device)
    difference = torch.zeros_like(z)
    for _ in range(MASK_DRAWS):
        noise = torch.randn(z.shape, generator=generator).to(z)
        difference += torch.sub(*denoisers(z + MASK_SIGMA * noise, sigma))
    energy = difference.square().sum(1, keepdim=True)
    energy = F.avg_pool2d(energy, 3, stride=1, padding=1, count_include_pad=False)
    return (energy > MASK_SHARE * energy.amax((2, 3), keepdim=True)).float()


def closest_elsewhere(candidates, z, mask):
    """Of several redrawn batches, per image the candidate that is closest to the original outside the mask.

    Settling moves all of a picture a little. It moves the rest least where the redrawn part suits it.

    Args:
        candidates: K batches (B, C, H, W).
        z: (B, C, H, W), the originals.
        mask: (B, 1, H, W), 1 where they were redrawn.
    """
    candidates = torch.stack(candidates)
    distance = ((candidates - z) * (1 - mask)).square().sum((2, 3, 4))
    return candidates[distance.argmin(0), torch.arange(len(z))]


class Recorder:
    """Leads one batch's sampling towards its counterparts, by a random share each, and keeps what that took.

    Args:
        counterparts: (B, C, H, W) clean latents in model space; None leads nowhere and keeps that nothing was needed.
        onset: as in `Config`; the recorded states are those of runs with that weight.
        generator: of the shares, one an image: half of them are 1, as in use, the others uniform in 0..1.
    """

    def __init__(self, counterparts, onset, generator):
        self.counterparts, self.onset, self.generator = counterparts, onset, generator
        self.share, self.steps = None, []

    def __call__(self, x, sigma, denoised, signal=1.0):
        """A step's correction, as `Correction` is."""
        if self.share is None:
            self.share = (2 * torch.rand(len(x), generator=self.generator)).clamp_max(1)
        delta = torch.zeros_like(denoised) if self.counterparts is None else self.counterparts.to(denoised) - denoised
        kept = {"x": x, "sigma": sigma, "signal": torch.as_tensor(signal).expand(len(x)), "delta": delta}
        self.steps.append({name: value.detach().float().cpu() for name, value in kept.items()})
        return denoised + expand(self.share.to(x) * weight(sigma, signal, self.onset)) * delta


def trajectories(*recorders):
    """What runs of one batch recorded: {name: (images * steps, ...)}, every image's trajectories in one piece."""
    steps = [step for recorder in recorders for step in recorder.steps]
    return {name: torch.stack([step[name] for step in steps], 1).flatten(0, 1) for name in steps[0]}


def distil(records, config, *, batch, seed, device="cpu", held_out=None, **fitting):
    """Regress the recorded difference by relative error; where none was needed, relative to the usual one.

    A record is drawn as often as its noise level weighs in use, w(sigma).

    Args:
        records: {group: {"x", "sigma", "signal", "delta"}}, tensors or anything that an index tensor indexes.
        config: a `Config` of kind "delta".
        held_out: the same, for validation.
        fitting: for `training.fit`: steps, lr, checkpoint and so on.

    Returns:
        A `Corrector` with gain 1, and the run's `History`.

    Raises:
        ValueError: no record differs from its counterpart.
    """
    torch.manual_seed(seed)
    corrector = Corrector(config).to(device)
    probe = torch.Generator().manual_seed(seed)
    chances = relevance(records, config)
    usual = energy(draw(records, chances, 1024, probe)["delta"])
    if not usual.any():
        raise ValueError("expected two wordings that differ, got no difference in any record; choose other words")
    usual = usual[usual > 0].mean().to(device)

    def relative_error(rows):
        error = corrector.raw(rows["x"], rows["sigma"], rows["label"], rows["signal"]) - rows["delta"]
        size = energy(rows["delta"])  # exactly 0 where a run was recorded as needing nothing
        return (energy(error) / torch.where(size > 0, size + 1e-2 * usual, usual)).mean()

    validate = None
    if held_out is not None:
        fixed = draw(held_out, relevance(held_out, config), 4 * batch, probe, device)

        def validate():
            with torch.no_grad():
                return relative_error(fixed).item()

    history = fit(
        corrector,
        lambda generator: relative_error(draw(records, chances, batch, generator, device)),
        seed=seed,
        validate=validate,
        **fitting,
    )
    return corrector.eval().requires_grad_(False), history


def energy(latents):
    """Mean square, (B,)."""
    return latents.square().mean((1, 2, 3))


def relevance(records, config):
    """{group: (N,)}, in label order: how often a record is to be drawn."""
    chances = {}
    for group in config.groups:
        rows = records[group]
        everything = torch.arange(len(rows["sigma"]))
        chances[group] = weight(rows["sigma"][everything], rows["signal"][everything], config.onset).clamp_min(LEAST)
    return chances


def draw(records, chances, count, generator, device="cpu"):
    """A batch with every group of `chances` equally often: the records' tensors, and the label of each."""
    groups = list(chances)
    share = -(-count // len(groups))
    picks = [torch.multinomial(chances[g], share, replacement=True, generator=generator) for g in groups]
    rows = {
        name: torch.cat([records[g][name][pick] for g, pick in zip(groups, picks)]).to(device)
        for name in ("x", "sigma", "signal", "delta")
    }
    return rows | {"label": torch.arange(len(groups), device=device).repeat_interleave(share)}
