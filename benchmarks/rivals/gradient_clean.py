"""The gradient of a preference on clean latents, a normalised step at the denoised prediction.

D' = D + strength * |D| * g / |g|, g = grad_z f(D), f a Bradley-Terry head on clean latents.
"""

from . import heads

STRENGTHS = (0.1, 0.2, 0.8)
GRID = [{"steps": steps, "strength": s} for steps in (300, 1500) for s in (0.05, 0.1, 0.2, 0.4, 0.6, 1.0)]


def prepare(host, case, steps):
    return corrected(host, heads.trained(host, case, False, steps))


def corrected(host, head):
    """`at` for a head, trained or not."""

    def follow(args, strength):
        denoised = args["denoised"]
        g = heads.gradient(head, denoised.float(), args["sigma"].new_full((len(denoised),), heads.SIGMA[0]))
        size = denoised.flatten(1).norm(dim=1) / g.flatten(1).norm(dim=1).clamp_min(1e-12)
        return denoised + strength * size.view(-1, 1, 1, 1) * g

    return heads.following(host, follow)
