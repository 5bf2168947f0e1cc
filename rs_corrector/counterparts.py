"""What a picture should have been: the same picture otherwise, without what the rejected wording names.

Three wordings of one scene, neutral (0), preferred (+) and rejected (-), and a checkpoint's unguided predictions D
under them tell all of it. Where noise is strong the words decide what is drawn; where it is weak, the picture does.
Between lies the *decision level*, which is measured, and of which every other level is a multiple:

    share(sigma) = sum <D0 - D-, D+ - D-> / sum |D+ - D-|^2,     over preferred pictures noised to sigma,

goes from what the words alone give to what the picture gives, nearly 1; the decision level is where it is halfway.
There the difference of the two wordings says *where* a picture shows the rejected depiction (DiffEdit, Couairon et al.
2022). Around it, whether the rejected wording explains a picture as well as any other says *whether* it does (Li et al.
2023). Only that part is redrawn under the preferred wording, a few times; the try that this wording explains best is
the one that counts.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F

WORDINGS = NEUTRAL, PREFERRED, REJECTED = "neutral", "preferred", "rejected"
#: The wording for everybody, "a person".
OTHERS = "others"

#: The decision level is looked for at so many noise levels, from the highest on, until |D+ - D-|^2 is below this share
#: of its largest: there it says nothing.
LEVELS, AUDIBLE = 24, 0.1
#: Where the share is above this at the highest level already, the picture decides from the beginning.
DECIDED = 0.9
#: Wordings are taken for equal where that largest is below this share of the pictures' own mean square.
EQUAL = 1e-4
#: Multiples of the decision level at which a picture is read, and draws of noise at each.
READ_LEVELS, READ_DRAWS = (0.4, 0.7, 1.0), 2
#: A picture shows the rejected depiction where the evidence against it is below this share of what is usual for
#: pictures of the preferred wording.
SHOWN = 0.03
#: A picture is somebody else's where the wording for everybody explains it better than the group's own wordings do, by
#: this share of the same.
STRANGER = 0.1
#: A pixel is redrawn where the energy of the mean difference is above this share of the picture's largest; draws of
#: noise that the mean is of.
MASK_SHARE, MASK_DRAWS = 0.1, 6
#: Multiple of the decision level at which it is seen what both wordings leave in place, and the share of their
#: difference from which on a picture is redrawn as a whole.
IN_PLACE_LEVEL, IN_PLACE = 2.0, 0.22
#: Redraws of a picture, of which the best is kept; the multiple of the decision level at which they begin; their steps.
TRIES, REDRAW, REDRAW_STEPS = 4, 2.0, 8
#: Below this multiple the redrawn part is drawn once more with a pixel more all round, and of the best redraw the whole
#: picture, so that no border is left and no trace beyond it. That one has the usual steps and so their texture.
SETTLE = 0.15
#: A part of a run has at least so many steps: of a short run too few would be left.
FEWEST_STEPS = 4


class Checkpoint(Protocol):
    """A model with its wordings and sampling settings; all latents are in model space, all noise levels VE.

    Attributes:
        at_once: pictures that it predicts at once; where there are more, one part after another.
        wordings: `wordings.Wordings`, which say what a wording's name means for a picture's number.
        top, bottom: its highest and its lowest noise level.
        levels: (S + 1,) falling noise levels that a picture usually goes through, zero at the end.
        evaluations: rows that it has predicted so far; with guidance a picture counts twice a step.
    """

    at_once: int
    wordings: object
    top: float
    bottom: float
    levels: torch.Tensor
    evaluations: int

    def sample(self, wording, batch, *, again=0, cfg=None, hook=None, latents=None, mask=None, levels=None):
        """Draw pictures: (B, C, H, W).

        Args:
            wording: the name of one.
            batch: range of the pictures' numbers, which their noise and their scenes follow from.
            again: other noise for the same pictures, where it is not 0.
            cfg: (B,) guidance scales; None draws without guidance.
            hook: function (x, sigma, denoised, signal) -> denoised.
            latents: (B, C, H, W) to start from; None is empty.
            mask: (B, 1, H, W), drawn only where it is 1; None is everywhere.
            levels: (S + 1,) falling noise levels to go through, down to zero, from the first of which the latents are
                noised; None goes through the usual ones.
        """

    def predict(self, x, sigma, wordings, batch):
        """Unguided predictions of x = z + sigma * n, sigma a number: one (B, C, H, W) for each wording named."""


@dataclass(frozen=True)
class Measured:
    """What was measured of a checkpoint and three wordings before anything is redrawn.

    Attributes:
        level: the decision level.
        evidence: what is usual against the rejected wording in pictures of the preferred one; see `evidence`.
        in_place: see `in_place`.
        scale, shift: see `bridge.statistics`; None where pictures are redrawn in part.
    """

    level: float
    evidence: float
    in_place: float
    scale: list | None = None
    shift: list | None = None

    @property
    def enough(self):
        """Evidence below this says that a picture shows the rejected depiction."""
        return SHOWN * self.evidence


def measure(checkpoint, z, batch, generator):
    """The decision level, on (B, C, H, W) pictures of the preferred wording.

    Raises:
        ValueError: the wordings do not differ.
    """
    sigmas = torch.linspace(math.log(checkpoint.top), math.log(checkpoint.bottom), LEVELS).exp().tolist()
    shares, energies = [], []
    for sigma in sigmas:
        neutral, preferred, rejected = checkpoint.predict(noised(z, sigma, generator), sigma, WORDINGS, batch)
        difference = preferred - rejected
        energy = difference.square().sum()
        share = ((neutral - rejected) * difference).sum() / energy.clamp_min(1e-12)
        shares.append(float(share))
        energies.append(float(energy) / z.numel())
        if energies[-1] < AUDIBLE * max(energies):
            break
    if max(energies) < EQUAL * float(z.square().mean()):
        raise ValueError(
            "expected two wordings that the checkpoint draws differently, got predictions that do not differ; word the "
            "preferred and the rejected depiction apart"
        )
    return decision_level(sigmas, shares, energies)


def usual(against):
    """What is usual of (B,) evidence against the rejected wording in pictures of the preferred one.

    Raises:
        ValueError: the checkpoint does not draw the preferred one.
    """
    if (median := float(against.median())) <= 0:
        raise ValueError(
            "expected the checkpoint to draw the preferred depiction under the preferred wording, got pictures that "
            "the rejected wording explains as well; choose words that it follows"
        )
    return median


def decision_level(sigmas, shares, energies):
    """Where the share first is halfway from its value at the highest level to its largest; capped at that level."""
    points = [(math.log(s), a) for s, a, e in zip(sigmas, shares, energies) if e >= AUDIBLE * max(energies)]
    top = points[0][1]
    halfway = (top + min(max(share for _, share in points), 1)) / 2
    if top < min(halfway, DECIDED):
        for (above, before), (below, after) in zip(points, points[1:]):
            if before < halfway <= after:
                return math.exp(above + (below - above) * (halfway - before) / (after - before))
    return math.exp(points[0][0])


def in_place(checkpoint, z, batch, level, generator):
    """Of what the two wordings draw where they differ, how much is the same under both, relative to the difference.

    A hat or a colour takes the place of what was there, and nothing is the same; a blur or a wash leaves everything
    in its place, and has to be undone in the whole picture. Of several preferred wordings the one counts that leaves
    least: others may be too like the rejected one to tell, blond hair like grey.
    """
    sigma = min(IN_PLACE_LEVEL * level, checkpoint.top)
    sides = _means(checkpoint, z, sigma, batch, generator)
    energy = (sides[0] - sides[1]).square().sum(1, keepdim=True)
    where = energy / energy.sum((2, 3), keepdim=True).clamp_min(1e-12)
    varied = [side - (side * where).sum((2, 3), keepdim=True) for side in sides]
    same, different = ((values * where).sum((1, 2, 3)) for values in (varied[0] * varied[1], energy))
    chosen = torch.tensor([checkpoint.wordings.choice(number) for number in batch]).to(z.device)
    shares = [same[chosen == each].sum() / different[chosen == each].sum().clamp_min(1e-12) for each in chosen.unique()]
    return float(min(shares))


def evidence(checkpoint, z, batch, level, generator):
    """How much better another wording explains pictures than the rejected one, near 0 where none does: (B,).

    sum of (|z - D-|^2 - |z - D|^2) / sigma^2 over levels and noise, with D the better one of D+ and D0.
    """
    neutral, preferred, rejected = _errors(checkpoint, z, batch, level, generator, WORDINGS)
    return rejected - torch.minimum(neutral, preferred)


def evidence_towards(checkpoint, z, batch, level, generator):
    """The same of the preferred wording alone, D = D+: (B,)."""
    preferred, rejected = _errors(checkpoint, z, batch, level, generator, (PREFERRED, REJECTED))
    return rejected - preferred


def spared(checkpoint, z, batch, measured, generator):
    """Flags of pictures of anybody that need nothing, (B,): the rejected wording does not explain them, or somebody
    else is in them, who may look like that.
    """
    wordings = (*WORDINGS, OTHERS)
    neutral, preferred, rejected, others = _errors(checkpoint, z, batch, measured.level, generator, wordings)
    free = rejected - torch.minimum(neutral, preferred) > measured.enough
    return free | (torch.minimum(neutral, rejected) - others > STRANGER * measured.evidence)


def edit_mask(checkpoint, z, batch, level, generator):
    """Where the two wordings differ on pictures: (B, 1, H, W), 1 where they are to be redrawn."""
    energy = torch.sub(*_means(checkpoint, z, level, batch, generator)).square().sum(1, keepdim=True)
    return (energy > MASK_SHARE * energy.amax((2, 3), keepdim=True)).float()


def redrawn(checkpoint, z, batch, mask, level, cfg, generator):
    """Of a few redraws under the preferred wording that one which it explains best: (B, C, H, W).

    Args:
        mask: (B, 1, H, W) as `edit_mask` returns it.
        cfg: (B,) guidance scales, or None.
    """
    tries, errors, noise = [], [], generator.get_state()
    redraw = falling(min(REDRAW * level, checkpoint.top), checkpoint.bottom, REDRAW_STEPS)
    settle = falling(SETTLE * level, checkpoint.bottom, FEWEST_STEPS)
    for again in range(1, 1 + TRIES):
        inside = checkpoint.sample(PREFERRED, batch, again=again, cfg=cfg, latents=z, mask=mask, levels=redraw)
        around = dict(latents=inside, mask=grown(mask, 1), levels=settle)
        tries.append(checkpoint.sample(PREFERRED, batch, again=again, **around))
        generator.set_state(noise)  # the same noise for all of them
        errors += _errors(checkpoint, tries[-1], batch, level, generator, (PREFERRED,))
    best = torch.stack(errors).argmin(0).to(z.device)
    picked = torch.stack(tries)[best, torch.arange(len(z))]
    return checkpoint.sample(PREFERRED, batch, latents=picked, levels=part(checkpoint, SETTLE * level))


def noise_seed(first, batch, again=0):
    """Seed of a batch's noise, where `first` is that of the first picture's: no two batches' redraws share one."""
    return first + (1 + TRIES) * batch.start + again


def part(checkpoint, high):
    """The usual levels from a noise level on, (S + 1,); others where these are too few."""
    levels = checkpoint.levels[checkpoint.levels <= high]
    return levels if len(levels) > FEWEST_STEPS else falling(high, checkpoint.bottom, FEWEST_STEPS)


def falling(high, low, steps):
    """(steps + 1,) noise levels from high down to low, and zero (Karras et al. 2022, equation 5)."""
    ramp = torch.linspace(max(high, 2 * low) ** (1 / 7), low ** (1 / 7), steps) ** 7
    return torch.cat([ramp, torch.zeros(1)])


def split(batch, size):
    """Parts of a range of pictures' numbers, each of so many at most."""
    return [batch[first : first + size] for first in range(0, len(batch), size)]


def noised(z, sigma, generator):
    return z + sigma * torch.randn(z.shape, generator=generator).to(z)


def grown(mask, pixels):
    """A mask with so many pixels more all round."""
    return F.max_pool2d(mask, 2 * pixels + 1, 1, pixels)


def _errors(checkpoint, z, batch, level, generator, wordings):
    """sum of |z - D|^2 / sigma^2 over the levels at which pictures are read, for each wording: (B,)."""
    errors = torch.zeros(len(wordings), len(z))
    for sigma in (multiple * level for multiple in READ_LEVELS for _ in range(READ_DRAWS)):
        sides = checkpoint.predict(noised(z, sigma, generator), sigma, wordings, batch)
        errors += torch.stack([(z - d).square().sum((1, 2, 3)).cpu() for d in sides]) / sigma**2
    return errors


def _means(checkpoint, z, sigma, batch, generator):
    """Mean predictions of the preferred and the rejected wording."""
    total = torch.zeros(2, *z.shape).to(z)
    for _ in range(MASK_DRAWS):
        total += torch.stack(checkpoint.predict(noised(z, sigma, generator), sigma, (PREFERRED, REJECTED), batch))
    return total / MASK_DRAWS
