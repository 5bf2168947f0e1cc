"""The gradient of a noise-aware preference, as classifier guidance (Dhariwal and Nichol 2021) follows it.

D' = D + strength * sigma^2 grad_x f(x, sigma), f a Bradley-Terry head on noisy latents.
"""

from . import heads

STRENGTHS = (1.0, 5.0, 20.0, 50.0, 100.0)
GRID = [{"steps": steps, "strength": s} for steps in (500, 1500) for s in (1.0, 3.0, 10.0, 30.0, 60.0, 100.0)]


def prepare(host, case, steps):
    head = heads.trained(host, case, True, steps)

    def draw(caption, count, seed, strength, **sampling):
        model = host.model.clone()

        def follow(args):
            sigma = args["sigma"]
            push = heads.gradient(head, args["input"].float(), sigma.float())
            return args["denoised"] + strength * sigma.view(-1, 1, 1, 1) ** 2 * push

        model.set_model_sampler_post_cfg_function(follow)
        return host.sample(model, caption, count, seed, **sampling)

    return draw
