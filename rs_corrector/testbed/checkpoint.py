"""A world on its embedded path as the method sees a checkpoint."""

from functools import cache

import torch

from ..corrector import expand
from ..counterparts import FEWEST_STEPS, noise_seed
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
        self.denoise, self.wordings, self.size, self.seed, self.steps = denoise, wordings, size, seed, steps
        self.encode = cache(lambda caption: encode([caption]))
        self.table, self.evaluations = sigmas(), 0
        self.bottom, self.top = float(self.table[0]), float(self.table[-1])

    def _told(self, names, batch):
        said = [self.wordings.said(name, number) if name else "" for name in names for number in batch]
        return torch.cat([self.encode(caption) for caption in said])

    @torch.inference_mode()
    def sample(self, wording, batch, *, again=0, cfg=None, hook=None, latents=None, mask=None, below=None):
        count, names = len(batch), (wording,) if cfg is None else (wording, "")
        told = self._told(names, batch)

        def guided(x, sigma):
            self.evaluations += count * len(names)
            rows = x.repeat(len(names), 1, 1, 1), sigma.repeat(len(names)), told
            positive, *rest = self.denoise(*rows).chunk(len(names))
            return rest[0] + expand(cfg) * (positive - rest[0]) if rest else positive

        noise = initial_noise(count, noise_seed(self.seed, batch, again), self.size)
        steps = self.steps if below is None else max(self.steps, FEWEST_STEPS)
        return euler(guided, schedule(self.table, steps), noise, hook, latents, mask, below=below)

    @torch.inference_mode()
    def predict(self, x, sigma, wordings, batch):
        self.evaluations += len(x) * len(wordings)
        levels = torch.full((len(wordings) * len(x),), float(sigma))
        told = self._told(wordings, batch)
        return self.denoise(x.repeat(len(wordings), 1, 1, 1), levels, told).chunk(len(wordings))
