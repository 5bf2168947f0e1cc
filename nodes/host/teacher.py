"""The teacher: what a checkpoint itself makes of a preferred and a rejected wording, at every step."""

import uuid

import comfy.sampler_helpers
from comfy.patcher_extension import WrappersMP

from .correction import KEY, hook, noise_level, sigma_window
from .frames import check_served, frames


class _Step:
    """One run's step: catches D+ - D- while the host evaluates the step's own conditionings, then acts on it."""

    def __init__(self, guider, act, window):
        self.guider, self.act, self.difference = guider, act, None
        self.sampling = guider.model_patcher.get_model_object("model_sampling")
        self.start, self.end = sigma_window(self.sampling, window)
        self.everywhere = window[0] <= 0 and window[1] >= 1

    def wants(self, sigma):
        if self.difference is not None or self.everywhere:
            return self.difference is None
        return self.end <= float(noise_level(self.sampling, sigma)[0][0]) <= self.start

    def __call__(self, x, sigma, denoised, signal):
        difference, self.difference = self.difference, None
        return denoised if difference is None else self.act(x, sigma, denoised, signal, difference)


def teach(model, preferred, rejected, begin, window=(0.0, 1.0)):
    """A clone of `model` that hands the teacher's difference to a function at every step.

    Its two evaluations join the step's own in one call, so the host batches them as memory allows.

    Args:
        preferred, rejected: conditionings.
        begin: function () -> act, called as a run starts; act is
            (x, sigma, denoised, signal, difference) -> denoised, with difference D+ - D- in x0 space.
        window: (start_percent, end_percent); outside it nothing is evaluated.
    """
    check_served(model)
    patched = model.clone()
    names = [f"{KEY}_{side}_{uuid.uuid4().hex}" for side in ("preferred", "rejected")]

    def start(guider, noise):
        if "context_handler" in guider.model_options:
            raise ValueError(
                "expected a model that sees all frames at once, got context windows; use a corrector that was made of "
                "these wordings, or take the windows out"
            )
        for name, conditioning in zip(names, (preferred, rejected)):
            guider.conds[name] = comfy.sampler_helpers.convert_cond(conditioning)
        return _Step(guider, begin(), window)

    runs = hook(patched, start)

    def evaluate(executor, base, conds, x, sigma, *args, **kwargs):
        step = runs[-1] if runs else None
        if step is None or not step.wants(sigma):
            return executor(base, conds, x, sigma, *args, **kwargs)
        sides = [step.guider.conds[name] for name in names]
        *own, d_preferred, d_rejected = executor(base, [*conds, *sides], x, sigma, *args, **kwargs)
        step.difference = frames(d_preferred - d_rejected)
        return own

    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, evaluate)
    return patched
