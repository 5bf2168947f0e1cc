"""Concept Sliders (Gandikota et al. 2024): a LoRA learnt from words, which costs nothing while it is sampled.

Weights W + s A B of rank r are learnt so that, under the group's neutral caption c, the noise prediction moves along
the difference of the two wordings:

    eps_{W + AB}(x_t, c) = eps_W(x_t, c) + guidance * (eps_W(x_t, c+) - eps_W(x_t, c-))

x_t is on the way of the slider's own sampling, at a step drawn at random. As published: rank 4, alpha 1, convolutions
and self-attention alone, guidance 4. Fewer, larger updates at a higher rate, as this model is small. The slider may
come in after a share of the steps, as the authors do to keep a picture's structure.
"""

from functools import cache, partial

import torch
from torch.func import functional_call
from tqdm.auto import trange

from .latent_direction import onwards, until

STRENGTHS = (0.5, 1.0, 2.0, 4.0)
GRID = [
    {"cross": cross, "start": start, "strength": s}
    for cross in (False, True)
    for start in (0.0, 0.2)
    for s in (0.5, 1.0, 2.0)
]
RANK, ALPHA, GUIDANCE = 4, 1.0, 4.0
UPDATES, BATCH, RATE, STEPS, CFG = 250, 4, 2e-3, 20, 3.0


def prepare(host, case, cross, start):
    """cross: cross-attention learns too; start: share of the steps before the slider comes in."""
    difference = slider(host, case, cross)

    def at(strength):
        model = host.model.clone()
        model.add_patches({name: ("diff", (change,)) for name, change in difference.items()}, strength)
        if start == 0:
            return partial(host.sample, model)
        return partial(late, host, model, start)

    return at


def late(host, model, start, caption, count, seed, steps=20, **sampling):
    """Sampled by the checkpoint itself first, and by another model from a share of the steps on."""
    begin = round(start * steps)
    x = until(host, caption, count, seed, begin, steps, **sampling)
    return onwards(host, x, caption, seed, begin, steps, model=model, **sampling)


@cache
def slider(host, case, cross):
    """{name of a weight: what is added to it at strength 1}."""
    with torch.inference_mode(False), torch.enable_grad():
        base = host.model.model
        network, sampling = base.diffusion_model, base.model_sampling
        own = {name: w.detach().float().clone() for name, w in network.state_dict().items()}
        said = {text: host.encode(text)[0][0].clone() for text in (case.neutral, case.preferred, case.rejected, "")}
        sigmas = levels(sampling)
        generator = torch.Generator().manual_seed(0)
        factors = {
            name: (
                torch.randn(RANK, w[0].numel(), generator=generator).div(RANK).requires_grad_(),
                torch.zeros(len(w), RANK, requires_grad=True),
            )
            for name, w in own.items()
            if learns(name, w, cross)
        }

        def change():
            return {name: ALPHA / RANK * (up @ down).view_as(own[name]) for name, (down, up) in factors.items()}

        def denoised(weights, x, sigma, text):
            rows = (sampling.calculate_input(sigma, x), sampling.timestep(sigma))
            found = functional_call(network, weights, rows, {"context": said[text].expand(len(x), -1, -1)})
            return sampling.calculate_denoised(sigma, found, x)

        optimizer = torch.optim.AdamW([f for pair in factors.values() for f in pair], lr=RATE)
        for _ in trange(UPDATES, desc="slider"):
            last = int(torch.randint(len(sigmas) - 1, (1,), generator=generator))
            x = sigmas[0] * torch.randn(BATCH, 4, host.size, host.size, generator=generator)
            slid = own | {name: own[name] + more for name, more in change().items()}
            with torch.no_grad():
                for here, there in zip(sigmas[:last], sigmas[1 : last + 1]):
                    sigma = here.expand(BATCH)
                    empty, guided = (denoised(slid, x, sigma, text) for text in ("", case.neutral))
                    x = x + (there - here) * (x - empty - CFG * (guided - empty)) / here
                sigma = sigmas[last].expand(BATCH)
                neutral, preferred, rejected = (
                    denoised(own, x, sigma, text) for text in (case.neutral, case.preferred, case.rejected)
                )
                aim = neutral + GUIDANCE * (preferred - rejected)
            error = (denoised(slid, x, sigma, case.neutral) - aim) / sigma.view(-1, 1, 1, 1)  # of eps
            optimizer.zero_grad()
            error.square().mean().backward()
            optimizer.step()
        return {f"diffusion_model.{name}": more.detach() for name, more in change().items()}


def levels(sampling):
    """Noise levels of the schedule that everything here is drawn by."""
    import comfy.samplers

    return comfy.samplers.calculate_sigmas(sampling, "normal", STEPS).float()


def learns(name, weight, cross):
    """Whether a weight gets a LoRA: convolutions and linear layers, cross-attention only where that is wanted."""
    return name.endswith(".weight") and weight.ndim >= 2 and (cross or ".attn2." not in name)
