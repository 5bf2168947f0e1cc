"""SEGA (Brack et al. 2023), as Fair Diffusion (Friedrich et al. 2023) steers with it: two more conditionings a step.

Towards the preferred and away from the rejected words, in terms of the noise prediction eps = (x - D) / sigma:

    psi   = (eps(preferred) - eps(empty)) - (eps(rejected) - eps(empty)), each where it is among its largest shares
    gamma = strength * psi + momentum_scale * nu;    nu <- momentum * nu + (1 - momentum) * gamma
    eps'  = eps + gamma, after the warm-up
"""

import comfy.conds
import comfy.samplers
import torch

STRENGTHS = (0.5, 1.0, 2.0, 3.0, 5.0)
GRID = [
    {"warmup": warmup, "threshold": threshold, "momentum_scale": 0.3, "strength": s}
    for warmup in (0.1, 0.25)
    for threshold in (0.75, 0.9)
    for s in (1.0, 3.0, 5.0)
]
MOMENTUM = 0.4


def prepare(host, case, warmup, threshold, momentum_scale):
    """warmup: share of the schedule before it acts; threshold: quantile of |psi| below which it does not."""
    contexts = [host.encode(words)[0][0] for words in (case.preferred_words, case.rejected_words)]

    def draw(caption, count, seed, strength, **sampling):
        model, begin = host.model.clone(), host.model.get_model_object("model_sampling").percent_to_sigma(warmup)
        state = {"nu": 0.0}

        def guide(args):
            sigma = args["sigma"].view(-1, 1, 1, 1)
            towards, away = (evaluate(args, context) - args["uncond_denoised"] for context in contexts)
            psi = -(largest(towards, threshold) - largest(away, threshold)) / sigma
            gamma = strength * psi + momentum_scale * state["nu"]
            state["nu"] = MOMENTUM * state["nu"] + (1 - MOMENTUM) * gamma
            return args["denoised"] - sigma * gamma if sigma[0] <= begin else args["denoised"]

        model.set_model_sampler_post_cfg_function(guide)
        return host.sample(model, caption, count, seed, **sampling)

    return draw


def evaluate(args, context):
    """The checkpoint's denoised prediction under another context, in a post-CFG hook."""
    cond = args["cond"][0]
    model_conds = cond["model_conds"] | {"c_crossattn": comfy.conds.CONDCrossAttn(context)}
    other = [{**cond, "model_conds": model_conds}]
    return comfy.samplers.calc_cond_batch(args["model"], [other], args["input"], args["sigma"], args["model_options"])[
        0
    ]


def largest(difference, threshold):
    """The difference where its size is above a quantile of its own image's, 0 elsewhere."""
    size = difference.abs()
    return difference * (size >= torch.quantile(size.flatten(1), threshold, dim=1).view(-1, 1, 1, 1))
