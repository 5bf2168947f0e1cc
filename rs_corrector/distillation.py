"""A corrector from words alone: the checkpoint's own teacher difference, recorded and distilled.

Along the model's own trajectories for a neutral prompt the teacher is ``D(x, c+) - D(x, c-)`` for a preferred
and a rejected wording. It is recorded at the very states that a corrected run visits, since the teacher is
itself applied at random strength meanwhile, and a small network learns it: one kind of file, `delta`.
"""

from dataclasses import dataclass, replace

import torch

from .corrector import Config, Corrector, expand
from .training import fit

TEACHER_STRENGTHS = (0.0, 4.0)


@dataclass
class Records:
    """States and what the teacher says there: x (N, C, H, W), sigma (N,), delta (N, C, H, W)."""

    x: torch.Tensor
    sigma: torch.Tensor
    delta: torch.Tensor

    def __len__(self):
        return len(self.x)

    @classmethod
    def cat(cls, parts):
        return cls(*(torch.cat([getattr(p, name) for p in parts]) for name in ("x", "sigma", "delta")))


class Recorder:
    """A step's correction that applies the teacher at random strength and keeps what it said.

    Args:
        teacher: function (x, sigma) -> D+ - D-.
        generator: of the strengths, one an image, uniform in TEACHER_STRENGTHS.
    """

    def __init__(self, teacher, generator):
        self.teacher, self.generator, self.strength, self.parts = teacher, generator, None, []

    def __call__(self, x, sigma, denoised):
        if self.strength is None:
            low, high = TEACHER_STRENGTHS
            self.strength = torch.rand(len(x), generator=self.generator).to(x) * (high - low) + low
        delta = self.teacher(x, sigma)
        self.parts.append(Records(x.cpu(), sigma.cpu(), delta.cpu()))
        return denoised + expand(self.strength) * delta

    def records(self):
        return Records.cat(self.parts)


def distil(records, config, *, steps, batch, lr, seed, checkpoint=None):
    """Regress the recorded difference, one group; every record counts alike by its relative error.

    Args:
        records: {group: Records} for every group of `config`.
        config: a `Config` of kind "delta".

    Returns:
        A `Corrector` with gain 1; see `calibrate`.
    """
    torch.manual_seed(seed)
    corrector = Corrector(config)
    label = torch.cat([torch.full((len(records[g]),), i) for i, g in enumerate(config.groups)])
    everything = Records.cat([records[g] for g in config.groups])
    floor = everything.delta.square().mean() * 1e-2

    def loss(generator):
        pick = torch.randint(len(everything), (batch,), generator=generator)
        x, sigma, target = everything.x[pick], everything.sigma[pick], everything.delta[pick]
        error = (corrector.raw(x, sigma, label[pick]) - target).square().mean((1, 2, 3))
        return (error / (target.square().mean((1, 2, 3)) + floor)).mean()

    fit(corrector, loss, steps=steps, lr=lr, seed=seed, checkpoint=checkpoint, label="corrector")
    return corrector.eval().requires_grad_(False)


def least_squares_gain(corrector, group, records):
    """The factor that best matches held-out records: regression shrinks, this undoes the shrinking."""
    with torch.no_grad():
        predicted = corrector.raw(records.x, records.sigma, torch.full((len(records),), corrector.group_index(group)))
    return ((predicted * records.delta).sum() / predicted.square().sum()).item()


def calibrate(corrector, group, score_at, target, start=1.0, limit=16.0, tolerance=0.02):
    """Set a group's gain so that strength 1 is the full correction, without any reader of attributes.

    Args:
        score_at: function (corrector) -> mean preference score of samples drawn with it at strength 1,
            by the checkpoint's own words; grows with the gain.
        target: mean score of samples drawn under the preferred wording.
        start: first gain to try, from `least_squares_gain`.

    Returns:
        The corrector with the gain found, and the (gain, score) pairs tried.
    """
    index, tried = corrector.group_index(group), []

    def at(gain):
        gains = list(corrector.config.gains)
        gains[index] = gain
        corrector.config = replace(corrector.config, gains=tuple(gains))
        tried.append((gain, score_at(corrector)))
        return tried[-1][1] - target

    low, high = 0.0, start
    while at(high) < 0 and high < limit:
        low, high = high, high * 1.5
    while high - low > tolerance * high:
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) < 0 else (low, middle)
    at(high)
    return corrector, tried


def delta_config(groups, records, **described):
    """A `Config` of kind "delta" for recorded latents; the noise range is measured from the records."""
    sigma = torch.cat([r.sigma for r in records.values()])
    channels = next(iter(records.values())).x.shape[1]
    return Config(
        kind="delta",
        groups=tuple(groups),
        latent_channels=channels,
        sigma_min=sigma.min().item(),
        sigma_max=sigma.max().item(),
        **described,
    )
