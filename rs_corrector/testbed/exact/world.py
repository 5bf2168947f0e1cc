"""A world whose every probability is known: the exact denoiser and exact readers, nothing learnt."""

import math
from typing import NamedTuple

import torch

from ..sampling import euler
from . import captions, drawing
from .drawing import CHANNELS
from .pictures import CORNERS, OBJECTS, PLANTED, Pictures, pink_spectrum
from .texture import Spectral, White

#: Noise level at which clean pictures are read.
READING_SIGMA = 0.05
#: Pictures evaluated at once.
CHUNK = {"white": 64, "pink": 16}


class Reading(NamedTuple):
    """What the likeliest picture behind latents is.

    Attributes:
        attributes: (N, A) int64 in the order of `World.sizes`.
        residual: (N, 4, n, n) signed distance to that picture without its texture, in deviations of the texture.
    """

    attributes: torch.Tensor
    residual: torch.Tensor


class World(Pictures):
    """Those pictures, and all that is known of them under noise; arguments as for `Pictures`."""

    @torch.inference_mode(False)  # what gradients are taken through, wherever it is made
    def __init__(self, grid, texture="white", rates="strong", scenes=False):
        super().__init__(grid, texture, rates, scenes)
        self.density = (
            White(self.layouts, self.colours, self.deviations)
            if texture == "white"
            else Spectral(self.layouts, self.colours, pink_spectrum(grid))
        )

    def prior(self, level, tables=None):
        """Log probabilities of everything, {name: (B, ...)}, and zeros for every layout.

        Args:
            level: (B, V) of captions, as `captions.levels` returns them.
            tables: of the population; None is this world's.
        """
        tables = tables or self.tables
        stated = ("group", "hair", "background", "hat", "glasses", "distorted", "scale", "place", "company")
        found = {name: captions.stated(tables[name], name, level) for name in stated if name in tables}
        found["skin"] = tables["skin"].log().expand(len(level), -1)
        found["layout"] = torch.zeros(len(level), len(self.layouts.regions), device=level.device)
        return found

    def denoise(self, x, sigma, level, signal=1.0):
        """The posterior mean E[z | x], exactly: the gradient of the log-partition function.

        Args:
            x: (B, 4, n, n) = signal * z + sigma * n.
            sigma: (B,). signal: a number or (B,); 0 gives the mean of what captions leave possible.
            level: (B, V), what captions state.

        Raises:
            ValueError: latents of another shape.
        """
        if x.shape[1:] != (CHANNELS, self.grid, self.grid):
            raise ValueError(f"expected latents of shape {(CHANNELS, self.grid, self.grid)}, got {tuple(x.shape[1:])}")
        return torch.cat([self._mean(*rows) for rows in self._chunks(x, sigma, signal, level)])

    def _chunks(self, x, sigma, signal, level):
        signal = torch.as_tensor(signal, dtype=x.dtype, device=x.device).expand(len(x))
        return zip(*(t.split(CHUNK[self.texture]) for t in (x, sigma, signal, level)))

    def _mean(self, x, sigma, signal, level):
        with torch.inference_mode(False), torch.enable_grad():  # ComfyUI runs whole prompts in inference mode
            eta = (x * (signal / sigma**2).view(-1, 1, 1, 1)).requires_grad_()
            partition = self.density(eta, (signal / sigma) ** 2, self.prior(level + 0))
            return torch.autograd.grad(partition.sum(), eta)[0]

    def posterior(self, x, sigma, level, signal=1.0, tables=None):
        """{attribute: (B, K)} probabilities given noisy pictures: gradients of the log-partition by the log prior.

        Positions come as "layout", (B, L). Arguments as for `denoise` and `prior`.
        """
        found = []
        for picture, noise, share, said in self._chunks(x, sigma, signal, level):
            with torch.inference_mode(False), torch.enable_grad():
                prior = {name: table.clone().requires_grad_() for name, table in self.prior(said + 0, tables).items()}
                eta = picture * (share / noise**2).view(-1, 1, 1, 1)
                partition = self.density(eta, (share / noise) ** 2, prior)
                used = torch.autograd.grad(partition.sum(), list(prior.values()))
                found.append({n: g.sum(1) if n in PLANTED else g for n, g in zip(prior, used)})
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}

    @torch.no_grad()
    def read(self, z):
        """The `Reading` of (N, 4, n, n) clean latents, under a prior by which nothing is likelier than another."""
        flat = {name: torch.full_like(table, 1 / table.shape[-1]) for name, table in self.tables.items()}
        level = torch.zeros(len(z), len(captions.PHRASES))
        posterior = self.posterior(z, torch.full((len(z),), READING_SIGMA), level, tables=flat)
        layout = posterior["layout"].argmax(1)
        values = {name: posterior[name].argmax(1) for name in self.sizes if name in posterior}
        values |= {n: t[layout] + self._middle(n) for n, t in self.layouts.table.items()}
        if self.scenes:
            values |= dict.fromkeys(CORNERS, torch.zeros_like(layout))
        attributes = torch.stack([values[name] for name in self.sizes], 1)
        if self.scenes:
            self._read_corners(z, attributes)
        mean, deviation = self.mean(attributes)
        return Reading(attributes, (z - mean) / deviation)

    def _read_corners(self, z, attributes):
        """Fill in what stands in free corners: what makes its corner likeliest, the rest of the picture known."""
        free = self.layouts.free[self.layout_index(attributes)]
        corners, columns = drawing.corner_masks(self.grid), [self.column[name] for name in CORNERS]
        costs = []
        for thing in range(1 + OBJECTS):
            attributes[:, columns] = thing * free.long()
            mean, deviation = self.mean(attributes)
            cost = ((z - mean) / deviation).square().sum(1) + 2 * CHANNELS * deviation[:, 0].log()
            costs.append(torch.einsum("nhw,jhw->nj", cost, corners))
        attributes[:, columns] = torch.stack(costs).argmin(0) * free

    @torch.inference_mode()
    def sample(self, said, seed, sigmas, cfg=3.0, correct=None, latents=None, mask=None, flow=False):
        """Euler sampling: one caption a picture -> (N, 4, n, n) clean latents; arguments as `sampling.euler`'s."""
        level, nothing = captions.levels(said), torch.zeros(len(said), len(captions.PHRASES))

        def guided(x, sigma):
            signal = 1 - sigma if flow else 1.0
            positive = self.denoise(x, sigma, level, signal)
            if cfg == 1:
                return positive
            negative = self.denoise(x, sigma, nothing, signal)
            return negative + cfg * (positive - negative)

        shape = (len(said), CHANNELS, self.grid, self.grid)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return euler(guided, sigmas, noise, correct, latents, mask, flow)


def stretched(sigmas, top):
    """Noise levels whose lowest stays and whose highest becomes `top`, evenly in their logarithm."""
    low, high = math.log(float(sigmas[0])), math.log(float(sigmas[-1]))
    return (low + (sigmas.log() - low) * (math.log(top) - low) / (high - low)).exp()
