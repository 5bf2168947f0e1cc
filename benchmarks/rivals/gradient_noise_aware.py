"""The gradient of a noise-aware preference, as classifier guidance (Dhariwal and Nichol 2021) follows it.

D' = D + strength * sigma^2 grad_x f(x, sigma), f a Bradley-Terry head on noisy latents.
"""

from . import heads

STRENGTHS = (1.0, 3.0, 30.0)
GRID = [{"steps": steps, "strength": s} for steps in (300, 1500) for s in (0.5, 1.0, 3.0, 10.0, 30.0, 100.0)]


def prepare(host, case, steps):
    head = heads.trained(host, case, True, steps)

    def follow(args, strength):
        sigma = args["sigma"]
        push = heads.gradient(head, args["input"].float(), sigma.float())
        return args["denoised"] + strength * sigma.view(-1, 1, 1, 1) ** 2 * push

    return heads.following(host, follow)
