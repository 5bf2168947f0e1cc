"""The anti-stereotypical preference and the update that it makes.

A preference is ``h = log p+(x; sigma) - log p-(x; sigma)``. By Tweedie's formula its gradient is closed-form,
``sigma^2 grad h = D+ - D- =: delta``, so correcting a latent needs no autograd, only small networks:

    D' = D + strength * gain * w(sigma) * delta,     D the checkpoint's own denoised prediction

There are two kinds. A "denoiser_pair" has learnt D+ and D- themselves, reads the noisy latent x, and has a score as
well. A "delta" has learnt the correction itself and reads D: the checkpoint has done the denoising, and what is
left is small image-to-image work on a nearly clean latent.
"""

import math
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from . import request
from .choice import KEEP
from .network import Network

KINDS = ("denoiser_pair", "delta")
#: A picture is one that has to be corrected where its prediction calls for more than this share of it, at a noise level
#: where corrections are at least so strong.
DECIDED, FROM = 0.85, 0.5
#: Labels of a denoiser_pair for every group, and of a delta for every preferred depiction.
PREFERRED, REJECTED = 0, 1
READ, LED = 0, 1


@dataclass(frozen=True)
class Config:
    """What a weights file says of itself; round-trips through its header (see `weights.py`).

    Attributes:
        kind: "denoiser_pair", two labels of one denoiser, or "delta", the correction learnt directly.
        groups: perceived groups by the user's names, in label order.
        choices: the preferred wordings of every group, as far as they are known as text; a "delta" has learnt each.
        shares: how often each of them is chosen, relative to one another.
        gains: one a group; strength 1 is the full correction.
        windows: (release, onset) noise levels (VE), one a group, between which the correction acts; see `weight`.
        context: size of the token embeddings by which it tells requests (`request.py`); 0 tells none.
        latent_format: ComfyUI's class name for the latent space, "SD15".
        latent_channels: of that space.
        sigma_data: standard deviation of clean latents.
        sigma_min, sigma_max: noise range seen in training (VE form).
        width, levels: of the network.
        training, metrics: for people to read: source, counts, words, seed; measurements.
        base: {"name", "fingerprint"} of the checkpoint it was made for.
        licence, created_by: SPDX name; program and version.
    """

    kind: str
    groups: tuple
    latent_format: str
    latent_channels: int
    sigma_data: float
    sigma_min: float
    sigma_max: float
    width: int
    levels: int
    choices: tuple = ()
    shares: tuple = ()
    gains: tuple = ()
    windows: tuple = ()
    context: int = 0
    training: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    base: dict = field(default_factory=dict)
    licence: str = "Apache-2.0"
    created_by: str = ""

    def __post_init__(self):
        object.__setattr__(self, "groups", tuple(self.groups))
        object.__setattr__(self, "choices", tuple(map(tuple, self.choices)) or (("",),) * len(self.groups))
        equally = [(1.0,) * len(choices) for choices in self.choices]
        object.__setattr__(self, "shares", tuple(map(tuple, self.shares or equally)))
        object.__setattr__(self, "gains", tuple(self.gains) or (1.0,) * len(self.groups))
        object.__setattr__(self, "windows", tuple(map(tuple, self.windows)) or ((0.0, None),) * len(self.groups))

    def asdict(self):
        return asdict(self)


class Corrector(nn.Module):
    """A trained preference. Forward-only in use; the network alone is trained.

    Attributes:
        name, digest: of the file that it came from (`files.digest`); empty for none.
    """

    def __init__(self, config, name="", digest=""):
        super().__init__()
        self.config, self.name, self.digest = config, name, digest
        self.network = Network(config.latent_channels, config.width, config.levels, sum(self.labels()))
        if config.context:
            self.register_buffer("requests", torch.zeros(len(config.groups), request.ROWS, config.context))

    def group_index(self, group):
        """Label index of a group's name; empty means the only group.

        Raises:
            ValueError: unknown, or empty with several groups; lists the known ones.
        """
        known, group = self.config.groups, (group or "").strip()
        if not group and len(known) == 1:
            return 0
        if group not in known:
            got = f"{group!r}" if group else "an empty group"
            raise ValueError(f"expected one of the corrector's groups ({', '.join(known)}), got {got}; name one")
        return known.index(group)

    def labels(self):
        """How many labels of the network each group has: two for every preferred depiction; a pair has one of those."""
        return [2 * len(choices) for choices in self.config.choices]

    def first_label(self, group):
        """The group's first label of the network; see `labels`."""
        return sum(self.labels()[: self.group_index(group)])

    def asked(self, tokens, group=""):
        """Which things of the rejected wording prompts ask for, (R, request.THINGS) flags; see `request.py`.

        Args:
            tokens: (R, T, E) the prompts' embeddings.

        Returns:
            None where that cannot be told: they are of another text encoder than the corrector was made with, or of
            another of its layers.
        """
        asked = self.requests[self.group_index(group)] if self.config.context else None
        if asked is None or not asked.any():
            return torch.zeros(len(tokens), request.THINGS, dtype=torch.bool, device=tokens.device)
        if tokens.shape[-1] != self.config.context or request.foreign(tokens, asked).any():
            return None
        return request.things(tokens, asked)

    def things(self, group=""):
        """What the things of the group's rejected wording are called, as far as that is known."""
        facts = self.config.training.get(self.config.groups[self.group_index(group)])
        return facts.get("things", []) if isinstance(facts, dict) else []

    def precondition(self, sigma, signal):
        """(c_in, c_out, c_skip, c_noise) of what the network reads and answers.

        A denoiser_pair has EDM's (Karras et al. 2022, table 1) for x = signal * z + sigma * n: with
        k^2 = sigma^2 + sigma_data^2 signal^2 they are c_in = 1/k, c_out = sigma sigma_data / k, and
        c_skip = signal sigma_data^2 / k^2. VE has signal 1; flow has signal 1 - sigma, finite at signal 0.
        A delta reads clean latents: 1/sigma_data, sigma_data, 0.
        Both are told the VE level sigma/signal, clamped to what they have seen.
        """
        c = self.config
        level = sigma / (signal.clamp_min(1e-6) if torch.is_tensor(signal) else signal)
        c_noise = level.clamp(c.sigma_min, c.sigma_max).log() / 4
        if c.kind == "delta":
            return 1 / c.sigma_data, c.sigma_data, 0.0, c_noise
        k = (sigma**2 + (c.sigma_data * signal) ** 2).sqrt()
        return 1 / k, sigma * c.sigma_data / k, signal * (c.sigma_data / k) ** 2, c_noise

    def raw(self, latent, sigma, label, signal=1.0):
        """c_out * F(c_in latent, c_noise, label), before any gain; (B, C, H, W), (B,), (B,) -> (B, C, H, W)."""
        c_in, c_out, _, c_noise = self.precondition(sigma, signal)
        return expand(c_out) * self.network(expand(c_in) * latent, c_noise, label)

    def denoise(self, x, sigma, label, signal=1.0):
        """D_label(x, sigma), a denoiser_pair's own prediction of the clean latent."""
        self.need_pair("a denoised prediction")
        _, _, c_skip, _ = self.precondition(sigma, signal)
        return expand(c_skip) * x + self.raw(x, sigma, label, signal)

    def deltas(self, x, sigma, denoised, group="", signal=1.0, choice=0):
        """The full correction towards the preferred depiction, in x0 space, by what is read and to follow.

        Args:
            x: (B, C, H, W) noisy latent in model space, ``signal * z + sigma * n``; what a denoiser_pair reads.
            sigma: (B,) noise level, in the base model's own parameterisation.
            denoised: (B, C, H, W) the base model's prediction after guidance; what a delta reads.
            group: which perceived group.
            signal: 1 for EPS and v-prediction (VE form); (B,) ``1 - sigma`` for flow matching.
            choice: index of the group's preferred depiction, a number or (B,) int64; a denoiser_pair has one.

        Returns:
            Two (B, C, H, W), times the group's gain: what this prediction by itself calls for, on average over
            pictures that have to be corrected and those that need nothing; and what it calls for if the picture is one
            of the former. A denoiser_pair has one for both.
        """
        gain, first = self.config.gains[self.group_index(group)], self.first_label(group) + 2 * choice
        labels = torch.cat([self._labels(x, side) + first for side in (0, 1)])
        signals = signal.repeat(2) if torch.is_tensor(signal) else signal
        seen = denoised if self.config.kind == "delta" else x
        one, two = self.raw(seen.repeat(2, 1, 1, 1), sigma.repeat(2), labels, signals).chunk(2)
        if self.config.kind == "delta":
            return gain * one, gain * two
        difference = gain * (one - two)  # the skip terms cancel
        return difference, difference

    def score(self, z, group=""):
        """How preferred clean latents are, by this pair of denoisers: (B,), positive is preferred."""
        return self.score_by_level(z, group).sum(0)

    def score_by_level(self, z, group="", levels=16, seed=0):
        """(L, B) parts of the score, over `noise_levels(sigma_min, sigma_max, levels)`; see `likelihood_ratio`."""
        self.need_pair("a score")
        first, c = self.first_label(group), self.config

        def denoisers(x, sigma):
            return tuple(self.denoise(x, sigma, self._labels(x, first + side)) for side in (PREFERRED, REJECTED))

        return likelihood_ratio(z, denoisers, noise_levels(c.sigma_min, c.sigma_max, levels), seed)

    def _labels(self, x, index):
        return torch.full((len(x),), index, device=x.device)

    def need_pair(self, what):
        """Raise a ValueError where this corrector knows the difference only and `what` needs both denoisers."""
        if self.config.kind != "denoiser_pair":
            raise ValueError(
                f"expected a corrector of kind 'denoiser_pair' for {what}, got kind {self.config.kind!r}, "
                "which knows the difference only; train one on preference pairs"
            )


class Correction:
    """The update of the denoised prediction over one run, ``D' = D + strength * mask * w(sigma) * delta``.

    A picture on its way from the rejected depiction to the preferred one may look like a third on the way, lilac
    between rose and sky, which others show by right. So once what its prediction calls for is nearly (`DECIDED`) what
    it would call for in a picture that has to be corrected, it is one, to the end of the run; until then, and
    otherwise, a picture gets what its prediction calls for. Every run needs a `Correction` of its own.

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
        self.mask, self.choice, self._placed, self._picked, self._led = mask, choice, None, None, None
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
        read, led = self.corrector.deltas(x.float(), sigma, before.float(), self.group, signal, choice)
        if mask is not None:
            read, led = mask * read, mask * led
        w = weight(sigma, signal, *self.window)
        update = self.strength * expand(w) * torch.where(expand(self._decided(read, led, w)), led, read)
        self.calls, self.size = self.calls + 1, self.size + update.norm() / before.norm()
        update = update.to(denoised.dtype)
        return denoised + update if rows is None else denoised.index_add(0, rows, update)

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

    def _decided(self, read, led, w):
        """Which pictures are to be corrected, by this step or one before it: (B,) flags."""
        if self._led is None or len(self._led) != len(read):
            self._led = torch.zeros(len(read), dtype=torch.bool, device=read.device)
        share = (read * led).sum((1, 2, 3)) / led.square().sum((1, 2, 3)).clamp_min(1e-12)
        self._led = self._led | ((share > DECIDED) & (w > FROM))
        return self._led

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


def noise_levels(low, high, count=16):
    """(L,) noise levels, log-uniform."""
    return torch.linspace(math.log(low), math.log(high), count).exp()


@torch.no_grad()
def likelihood_ratio(z, denoisers, sigmas, seed=0):
    """Diffusion-classifier log-likelihood ratio (Li et al. 2023) of two denoisers on clean latents, by noise level.

    ``integral of sigma^-3 (|z - D-|^2 - |z - D+|^2) d sigma``, the same noise on both sides, over log sigma.

    Args:
        z: (B, C, H, W) clean latents in model space.
        denoisers: function (x, sigma) -> (D+, D-), on x = z + sigma * n.
        sigmas: (L,) log-uniform, as `noise_levels` gives them.

    Returns:
        (L, B) parts of the score; their sum over levels is the score, positive is preferred.
    """
    generator = torch.Generator().manual_seed(seed)
    step = (sigmas[-1] / sigmas[0]).log().item() / (len(sigmas) - 1)
    parts = []
    for level in sigmas:
        sigma = level.expand(len(z)).to(z)
        x = z + expand(sigma) * torch.randn(z.shape, generator=generator).to(z)
        preferred, rejected = ((z - d).square().sum((1, 2, 3)) for d in denoisers(x, sigma))
        parts.append(step * (rejected - preferred) / sigma**2)
    return torch.stack(parts)


def in_turn(rows, count):
    """(R, ...) -> (count, ...): the rows again and again, as they serve the pictures of a batch."""
    return rows[torch.arange(count) % len(rows)]


def mask_over(mask, x):
    """Masks in turn over a batch, (M, 1, h, w) -> (B, 1, H, W): averaged over what each latent pixel covers, so that 0
    stays exactly 0."""
    return F.adaptive_avg_pool2d(in_turn(mask, len(x)).to(x.device, torch.float32), x.shape[2:])


def expand(values):
    """(B,) -> (B, 1, 1, 1); scalars stay."""
    return values.view(-1, 1, 1, 1) if torch.is_tensor(values) and values.ndim else values
