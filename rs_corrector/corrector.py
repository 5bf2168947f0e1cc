"""The anti-stereotypical preference, and the correction of a prediction that it calls for.

A preference is ``h = log p+(x; sigma) - log p-(x; sigma)``. By Tweedie's formula its gradient is closed-form,
``sigma^2 grad h = D+ - D- =: delta``, so correcting a latent needs no autograd, only small networks; `correction.py`
adds it to D, the checkpoint's own denoised prediction, over a run.

There are two kinds. A "denoiser_pair" has learnt D+ and D- themselves, reads the noisy latent x, and has a score as
well. A "delta" has learnt the correction itself and reads D: the checkpoint has done the denoising, and what is
left is small image-to-image work on a nearly clean latent.
"""

import math
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from . import request
from .network import Network

KINDS = ("denoiser_pair", "delta")
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
        windows: (release, onset) noise levels (VE), one a group, between which it acts; see `correction.weight`.
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

    def film(self, level, label):
        """What the network is told: a VE noise level, clamped to what it has seen, and a label; see `Network.film`."""
        c = self.config
        return self.network.film(level.clamp(c.sigma_min, c.sigma_max).log() / 4, label)

    def precondition(self, sigma, signal):
        """(c_in, c_out, c_skip) of what the network reads and answers.

        A denoiser_pair has EDM's (Karras et al. 2022, table 1) for x = signal * z + sigma * n: with
        k^2 = sigma^2 + sigma_data^2 signal^2 they are c_in = 1/k, c_out = sigma sigma_data / k, and
        c_skip = signal sigma_data^2 / k^2. VE has signal 1; flow has signal 1 - sigma, finite at signal 0.
        A delta reads clean latents: 1/sigma_data, sigma_data, 0.
        """
        c = self.config
        if c.kind == "delta":
            return 1 / c.sigma_data, c.sigma_data, 0.0
        k = (sigma**2 + (c.sigma_data * signal) ** 2).sqrt()
        return 1 / k, sigma * c.sigma_data / k, signal * (c.sigma_data / k) ** 2

    def raw(self, latent, sigma, film, signal=1.0):
        """c_out * F(c_in latent, film): (B, C, H, W), (B,), film of (B,) -> (B, C, H, W)."""
        c_in, c_out, _ = self.precondition(sigma, signal)
        return expand(c_out) * self.network(expand(c_in) * latent, film)

    def denoise(self, x, sigma, label, signal=1.0):
        """D_label(x, sigma), a denoiser_pair's own prediction of the clean latent."""
        self.need_pair("a denoised prediction")
        c_skip = self.precondition(sigma, signal)[-1]
        return expand(c_skip) * x + self.raw(x, sigma, self.film(noise_to_signal(sigma, signal), label), signal)

    def deltas(self, x, sigma, denoised, group="", signal=1.0, choice=0, film=None):
        """The full correction towards the preferred depiction, in x0 space, by what is read and to follow.

        Args:
            x: (B, C, H, W) noisy latent in model space, ``signal * z + sigma * n``; what a denoiser_pair reads.
            sigma: (B,) noise level, in the base model's own parameterisation.
            denoised: (B, C, H, W) the base model's prediction after guidance; what a delta reads.
            group: which perceived group.
            signal: 1 for EPS and v-prediction (VE form); (B,) ``1 - sigma`` for flow matching.
            choice: index of the group's preferred depiction, a number or (B,) int64; a denoiser_pair has one.
            film: (2B, ...) of both answers, where it is known already; see `films`.

        Returns:
            Two (B, C, H, W), times the group's gain: what this prediction by itself calls for, on average over
            pictures that have to be corrected and those that need nothing; and what it calls for if the picture is one
            of the former. A denoiser_pair has one for both.
        """
        if film is None:
            film = self.films(noise_to_signal(sigma, signal), group, choice).flatten(0, 1)
        (c_in, c_out, _), gain = self.precondition(sigma, signal), self.config.gains[self.group_index(group)]
        seen = expand(c_in) * (denoised if self.config.kind == "delta" else x)
        one, two = expand(gain * c_out) * self.network(seen.repeat(2, 1, 1, 1), film).unflatten(0, (2, -1))
        if self.config.kind == "delta":
            return one, two
        difference = one - two  # the skip terms cancel
        return difference, difference

    def films(self, level, group="", choice=0):
        """`film` of both answers towards a preferred depiction: (B,) -> (2, B, ...)."""
        first = self.first_label(group) + 2 * choice
        return torch.stack([self.film(level, self._labels(level, first + side)) for side in (0, 1)])

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
        return torch.zeros(len(x), dtype=torch.int64, device=x.device) + index

    def need_pair(self, what):
        """Raise a ValueError where this corrector knows the difference only and `what` needs both denoisers."""
        if self.config.kind != "denoiser_pair":
            raise ValueError(
                f"expected a corrector of kind 'denoiser_pair' for {what}, got kind {self.config.kind!r}, "
                "which knows the difference only; train one on preference pairs"
            )


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


def noise_to_signal(sigma, signal=1.0):
    """The VE noise level of x = signal * z + sigma * n: (B,)."""
    return sigma / signal.clamp_min(1e-6) if torch.is_tensor(signal) else sigma


def expand(values):
    """(B,) -> (B, 1, 1, 1); scalars stay."""
    return values.view(-1, 1, 1, 1) if torch.is_tensor(values) and values.ndim else values
