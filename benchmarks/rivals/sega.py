"""SEGA (Brack et al. 2023), as Fair Diffusion (Friedrich et al. 2023) steers with it: two more conditionings a step.

Towards the preferred and away from the rejected words, in terms of the noise prediction eps = (x - D) / sigma:

    psi   = (eps(preferred) - eps(empty)) - (eps(rejected) - eps(empty)), each where it is among its channel's largest
    gamma = strength * psi + momentum_scale * nu;    nu <- momentum * nu + (1 - momentum) * gamma
    eps'  = eps + gamma, after the warm-up
"""

import torch

STRENGTHS = (0.5, 2.0, 4.0)
GRID = [
    {"whole": whole, "threshold": threshold, "warmup": 0.1, "strength": s}
    for whole in (False, True)
    for threshold in (0.0, 0.75)
    for s in (1.0, 3.0, 8.0)
]
MOMENTUM, MOMENTUM_SCALE = 0.4, 0.3


def prepare(host, case, whole, threshold, warmup):
    """Edit prompts and where they act.

    whole: whole captions and not their last clauses alone; threshold: quantile of |psi| below which it does not act;
    warmup: share of the schedule before it acts.
    """
    words = (case.preferred, case.rejected) if whole else (case.preferred_words, case.rejected_words)
    contexts = [host.encode(w)[0][0] for w in words]
    begin = host.model.get_model_object("model_sampling").percent_to_sigma(warmup)

    def at(strength):
        def draw(caption, count, seed, **sampling):
            model, state = host.model.clone(), {"nu": 0.0}

            def guide(args):
                sigma = args["sigma"].view(-1, 1, 1, 1)
                towards, away = (evaluate(args, context) - args["uncond_denoised"] for context in contexts)
                psi = -(largest(towards, threshold) - largest(away, threshold)) / sigma
                gamma = strength * psi + MOMENTUM_SCALE * state["nu"]
                state["nu"] = MOMENTUM * state["nu"] + (1 - MOMENTUM) * gamma
                return args["denoised"] - sigma * gamma if sigma[0] <= begin else args["denoised"]

            model.set_model_sampler_post_cfg_function(guide)
            return host.sample(model, caption, count, seed, **sampling)

        return draw

    return at


def evaluate(args, context):
    """The checkpoint's denoised prediction under another context, in a post-CFG hook."""
    import comfy.conds
    import comfy.samplers

    cond = args["cond"][0]
    model_conds = cond["model_conds"] | {"c_crossattn": comfy.conds.CONDCrossAttn(context)}
    conds = [[{**cond, "model_conds": model_conds}]]
    return comfy.samplers.calc_cond_batch(args["model"], conds, args["input"], args["sigma"], args["model_options"])[0]


def largest(difference, threshold):
    """The difference where its size is above a quantile of its own channel's, 0 elsewhere."""
    size = difference.abs()
    return difference * (size >= torch.quantile(size.flatten(2), threshold, dim=2)[..., None, None])
