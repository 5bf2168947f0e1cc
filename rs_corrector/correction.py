"""The update of a sampling run, ``D' = D + strength * mask * w(sigma) * delta``, step by step."""

import torch
import torch.nn.functional as F

from .choice import KEEP
from .corrector import expand, noise_levels, noise_to_signal

#: A picture is one that has to be corrected where its prediction calls for more than this share of it, at a noise level
#: where corrections are at least so strong.
DECIDED, FROM = 0.85, 0.5
#: What depends on the noise level alone is computed once a run, at so many levels between these, log-uniform: what it
#: costs at every step is to look it up. Flow matching begins beyond the highest.
LEVELS, LOWEST, HIGHEST = 1024, 1e-3, 1e3


class Correction:
    """The update of the denoised prediction over one run, ``D' = D + strength * mask * w(sigma) * delta``.

    A picture on its way from the rejected depiction to the preferred one may look like a third on the way, lilac
    between rose and sky, which others show by right. So once what its prediction calls for is nearly (`DECIDED`) what
    it would call for in a picture that has to be corrected, it is one, to the end of the run, and gets that where its
    prediction calls for less. Others get what their predictions call for. Every run needs a `Correction` of its own.

    Args:
        corrector: a `Corrector`.
        group: whom it is for.
        strength: 0 is off, 1 the full correction.
        start, end: sigma window, ``end <= sigma <= start``; outside it w is 0.
        mask: (M, 1, H, W) in 0..1, of any size: where it acts; M masks serve a batch in turn. None is everywhere.
        choice: (N,) int64 on the CPU, the preferred depiction of every picture, `choice.KEEP` for one that is left as
            it is; they serve a batch in turn. None is the first for all.

    Attributes:
        calls: how many predictions were corrected.
        size: of those corrections, the sum of their norms relative to the prediction's; a tensor after the first.
    """

    def __init__(self, corrector, group="", strength=1.0, start=float("inf"), end=0.0, mask=None, choice=None):
        self.window = corrector.config.windows[corrector.group_index(group)]
        if not start > end:
            raise ValueError(f"expected a window whose start sigma lies above its end, got {start} to {end}; swap them")
        self.corrector, self.group, self.strength, self.start, self.end = corrector, group, strength, start, end
        self.mask, self.choice = mask, choice
        self._placed = self._picked = self._led = self._table = None
        self.calls, self.size = 0, 0.0

    def __call__(self, x, sigma, denoised, signal=1.0):
        """Correct one prediction: (B, C, H, W), (B,), (B, C, H, W) -> (B, C, H, W).

        With strength 0, outside the window, or where no picture is to be corrected, `denoised` itself comes back. An
        open window reads no sigma.
        """
        if self.strength == 0:
            return denoised
        if (self.start, self.end) != (float("inf"), 0.0) and not self.end <= float(sigma[0]) <= self.start:
            return denoised
        rows, choice = self._pick(x)
        if rows is not None and not len(rows):
            return denoised
        mask = None if self.mask is None else self._place(x)
        x, sigma, signal, before, mask = (
            t if rows is None or not torch.is_tensor(t) else t[rows] for t in (x, sigma, signal, denoised, mask)
        )
        sigma = sigma.float()
        film, amount, enough = self._look_up(noise_to_signal(sigma, signal), choice)
        read, led = self.corrector.deltas(x.float(), sigma, before.float(), self.group, signal, choice, film)
        if mask is not None:
            read, led = mask * read, mask * led
        update = expand(amount) * torch.where(expand(self._falls_short(read, led, enough)), led, read)
        self.calls, self.size = self.calls + 1, self.size + update.norm() / before.norm()
        update = update.to(denoised.dtype)
        return denoised + update if rows is None else denoised.index_add(0, rows, update)

    def _look_up(self, level, choice):
        """What depends on the noise level alone: film (2B, ...), strength * w (B,), what is enough to decide (B,)."""
        if self._table is None or self._table[0].device != level.device:
            levels = noise_levels(LOWEST, HIGHEST, LEVELS).to(level.device)
            choices = range(len(self.corrector.config.choices[self.corrector.group_index(self.group)]))
            films = torch.stack([self.corrector.films(levels, self.group, each) for each in choices], 1)
            w = weight(levels, 1.0, *self.window)
            self._table = (
                (levels[1:] * levels[:-1]).sqrt(),
                films,
                self.strength * w,
                torch.where(w > FROM, 0.0, float("inf")),
            )
        between, films, amount, enough = self._table
        at = torch.bucketize(level.contiguous(), between)
        return films[:, choice, at].flatten(0, 1), amount[at], enough[at]

    def _pick(self, x):
        """Which rows of a batch are corrected, (R,), None for all of them; and towards what, a number or (R,)."""
        if self.choice is None:
            return None, 0
        if self._picked is None or self._picked[0] != len(x):
            choice = in_turn(self.choice, len(x))
            rows = None if (choice != KEEP).all() else (choice != KEEP).nonzero().flatten()
            choice = choice if rows is None else choice[rows]
            self._picked = len(x), None if rows is None else rows.to(x.device), choice.to(x.device)
        return self._picked[1:]

    def _falls_short(self, read, led, enough):
        """Which pictures are to be corrected, by this step or one before it, and call for less now: (B,) flags."""
        nearly = (torch.sub(read, led, alpha=DECIDED) * led).sum((1, 2, 3)) > enough
        self._led = nearly if self._led is None or len(self._led) != len(read) else self._led | nearly
        return self._led > nearly

    def _place(self, x):
        if self._placed is None or len(self._placed) != len(x) or self._placed.shape[2:] != x.shape[2:]:
            self._placed = mask_over(self.mask, x)
        return self._placed


def weight(sigma, signal=1.0, release=0.0, onset=None):
    """w(sigma) = 1 / (1 + (sigma / onset)^4) * 1 / (1 + (release / sigma)^4), (B,).

    A correction comes in as it becomes specific to the image: where noise hides the image it can only be a mean, and
    adding that decides attributes that nobody asked to change. It ends where the base model is to finish the picture by
    itself. Noise is measured in the VE form, sigma / signal; without an onset it is there from the beginning.
    """
    comes = 1.0 if onset is None else (onset * signal) ** 4 / ((onset * signal) ** 4 + sigma**4)
    goes = sigma**4 / ((release * signal) ** 4 + sigma**4) if release else torch.ones_like(sigma)
    return comes * goes


def in_turn(rows, count):
    """(R, ...) -> (count, ...): the rows again and again, as they serve the pictures of a batch."""
    return rows[torch.arange(count) % len(rows)]


def mask_over(mask, x):
    """Masks in turn over a batch, (M, 1, h, w) -> (B, 1, H, W): averaged over what each latent pixel covers, so that 0
    stays exactly 0."""
    return F.adaptive_avg_pool2d(in_turn(mask, len(x)).to(x.device, torch.float32), x.shape[2:])
