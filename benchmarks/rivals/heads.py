"""Scalar preferences on latents, for the two correctors that follow their gradient."""

from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import nn

from rs_corrector.network import Network
from rs_corrector.training import fit

from . import sides

SIGMA = 0.03, 14.6


class Head(nn.Module):
    """f(x, sigma): (B, C, H, W), (B,) -> (B,), larger is preferred; the trunk is the corrector's own network."""

    def __init__(self, channels=4, width=48, levels=2):
        super().__init__()
        self.network = Network(channels, width, levels, 1)

    def forward(self, x, sigma):
        scale = (1 + sigma**2).rsqrt().view(-1, 1, 1, 1)
        label = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return self.network(scale * x, self.network.film(sigma.log() / 4, label)).mean((1, 2, 3))


@cache
def trained(host, case, noisy, steps, batch=64, seed=0):
    """A head by the Bradley-Terry loss, -log sigmoid(f(x+) - f(x-)), the best one on an eighth that is held out.

    noisy: on both sides at one noise level, each with its own noise; else on clean latents.
    """
    with torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        head, whole = Head(), [side.clone() for side in sides(host, case)]
        cut = len(whole[0]) - len(whole[0]) // 8
        low, high = torch.tensor(SIGMA).log()

        def loss(generator, part=slice(None, cut)):
            picked = [z[part][torch.randint(len(z[part]), (batch,), generator=generator)] for z in whole]
            sigma = (torch.rand(batch, generator=generator) * (high - low) + low).exp()
            sigma = sigma if noisy else torch.full_like(sigma, SIGMA[0])
            noises = (torch.randn(picked[0].shape, generator=generator) * sigma.view(-1, 1, 1, 1) for _ in picked)
            better, worse = (head(z + noise, sigma) for z, noise in zip(picked, noises))
            return -F.logsigmoid(better - worse).mean()

        @torch.no_grad()
        def validate():
            return loss(torch.Generator().manual_seed(seed), slice(cut, None)).item()

        fit(head, loss, steps=steps, lr=1e-3, seed=seed, decay=0.99, every=100, validate=validate, label="head")
    return head.eval().requires_grad_(False)


def gradient(head, x, sigma):
    """Gradient of f in x, also under inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_()
        return torch.autograd.grad(head.to(x.device)(x, sigma.clone()).sum(), x)[0]


def following(host, follow):
    """`at` of a method whose step is follow(args, strength) -> denoised, after all guidance."""

    def at(strength):
        model = host.model.clone()
        model.set_model_sampler_post_cfg_function(lambda args: follow(args, strength))
        return partial(host.sample, model)

    return at
