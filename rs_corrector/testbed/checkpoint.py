"""A world on its embedded path as the method sees a checkpoint."""

import sys
from functools import cache

import torch

from ..corrector import expand
from ..counterparts import noise_seed
from .model import initial_noise, schedule, sigmas
from .sampling import euler


class Embedded:
    """A `counterparts.Checkpoint` of a denoiser that needs no host.

    Args:
        denoise: function (x, (B,) sigma, conditioning) -> prediction.
        encode: function (captions) -> conditioning, a row a caption.
        wordings: `wordings.Wordings` of texts.
        size: height and width in latent pixels.
        seed: of the first picture's noise.
        steps: of Euler's method.
    """

    def __init__(self, denoise, encode, wordings, size, seed, steps=20):
        self.denoise, self.wordings, self.size, self.seed = denoise, wordings, size, seed
        self.encode = cache(lambda caption: encode([caption]))
        self.at_once, self.evaluations, table = sys.maxsize, 0, sigmas()
        self.bottom, self.top, self.levels = float(table[0]), float(table[-1]), schedule(table, steps)

    def _told(self, names, batch):
        said = [self.wordings.said(name, number) if name else "" for name in names for number in batch]
        return torch.cat([self.encode(caption) for caption in said])

    @torch.inference_mode()
    def sample(self, wording, batch, *, again=0, cfg=None, hook=None, latents=None, mask=None, levels=None):
        count, names = len(batch), (wording,) if cfg is None else (wording, "")
        told = self._told(names, batch)

        def guided(x, sigma):
            self.evaluations += count * len(names)
            rows = x.repeat(len(names), 1, 1, 1), sigma.repeat(len(names)), told
            positive, *rest = self.denoise(*rows).chunk(len(names))
            return rest[0] + expand(cfg) * (positive - rest[0]) if rest else positive

        noise = initial_noise(count, noise_seed(self.seed, batch, again), self.size)
        part = levels is not None
        return euler(guided, levels if part else self.levels, noise, hook, latents, mask, part=part)

    @torch.inference_mode()
    def predict(self, x, sigma, wordings, batch):
        self.evaluations += len(x) * len(wordings)
        levels = torch.full((len(wordings) * len(x),), float(sigma))
        told = self._told(wordings, batch)
        return self.denoise(x.repeat(len(wordings), 1, 1, 1), levels, told).chunk(len(wordings))
