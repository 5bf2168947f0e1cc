"""Euler's method on Stable Diffusion's noise levels, for the worlds on their embedded path."""

import torch


def euler(denoise, sigmas, noise, correct=None, latents=None, mask=None, flow=False, part=False):
    """Integrate dx/dsigma = (x - D) / sigma as ComfyUI's `euler` does (Karras et al. 2022, algorithm 1).

    Args:
        denoise: function (x, (B,) sigma) -> D, after guidance.
        sigmas: (steps + 1,), falling, zero at the end.
        noise: (B, C, H, W) of unit variance.
        correct: None, or a function (x, sigma, denoised[, signal]) -> denoised.
        latents: (B, C, H, W) to start from; None is empty.
        mask: (B, 1, H, W), drawn only where it is 1, as with the host's noise mask; None is everywhere.
        flow: x = (1 - sigma) z + sigma n, as in flow matching, and not x = z + sigma n.
        part: begin with the latents at the first of these levels, wherever that is, and not with noise alone.

    Returns:
        (B, C, H, W) clean latents.
    """
    latents = torch.zeros_like(noise) if latents is None else latents
    mask = torch.ones(1) if mask is None else mask

    def noised(sigma):
        return (1 - sigma if flow else 1.0) * latents + sigma * noise

    x = noised(sigmas[0]) if flow or part else latents + noise * (1 + sigmas[0] ** 2).sqrt()
    for sigma, following in zip(sigmas, sigmas[1:]):
        level = sigma.expand(len(x))
        x = mask * x + (1 - mask) * noised(sigma)
        denoised = denoise(x, level)
        if correct is not None:
            denoised = correct(x, level, denoised, 1 - level) if flow else correct(x, level, denoised)
        denoised = mask * denoised + (1 - mask) * latents
        x = x + (x - denoised) / sigma * (following - sigma)
    return x
