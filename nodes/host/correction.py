"""Correct every step of a sampling run: the corrector as a managed model, and the hooks that call it."""

import copy
import logging
import weakref

import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import torch
from comfy.patcher_extension import WrappersMP

from ...rs_corrector import weights
from ...rs_corrector.choice import KEEP, choices
from ...rs_corrector.correction import Correction
from .frames import by_frame, check_served, check_shape, clips, frames
from .requests import asked
from .telling import tell

KEY = "rs_corrector"
log = logging.getLogger("RS-Corrector")
_NAMED = weakref.WeakKeyDictionary()  # {model: its fingerprint}


def manage(corrector):
    """Wrap a `Corrector` so that the host moves it together with the model it corrects."""
    management = comfy.model_management
    patcher = comfy.model_patcher.ModelPatcher(
        corrector, load_device=management.get_torch_device(), offload_device=management.unet_offload_device()
    )
    # What newer hosts call for a copy on another device.
    patcher.cached_patcher_init = (lambda disable_dynamic=False: manage(copy.deepcopy(corrector)), ())
    return patcher


def load(patcher):
    """The corrector of a patcher, on the host's device."""
    comfy.model_management.load_models_gpu([patcher])
    return on_device(patcher.model, patcher.load_device)


def on_device(corrector, device):
    """The corrector on `device`; the host leaves plain layers behind where it loads models in part."""
    return corrector if next(corrector.parameters()).device == device else corrector.to(device)


def apply(model, patcher, group, strength, window, obey=True, mask=None, keep=0.0, choice_seed=-1, node=None):
    """A clone of `model` whose every sampling run is corrected; strength 0 gives a plain clone.

    Args:
        model: the host's ModelPatcher.
        patcher: a corrector as `manage` returns it.
        group, strength: as for `Correction`.
        window: (start_percent, end_percent) of the sampling schedule.
        obey: leave pictures alone whose prompts ask for the rejected depiction itself.
        mask: (M, 1, H, W) where to act, None is everywhere.
        keep: share of pictures that are left as they are.
        choice_seed: what pictures choose by, with their place in the batch; below 0 their own initial noise.
        node: id of the node in the editor that shows what was done.
    """
    corrector = patcher.model
    check_latents(model, corrector.config)
    patched = model.clone()
    if strength == 0:
        return patched
    registered = patched.get_additional_models_with_key(KEY)
    if not any(other.model is corrector for other in registered):
        patched.set_additional_models(KEY, registered + [patcher])

    def begin(guider, noise):
        prompts = {name: conds for name, conds in guider.conds.items() if obey and KEY not in name}
        requests = asked(prompts, corrector, group, window, mask, noise)
        chosen = choices(noise, corrector.config, corrector.group_index(group), keep, choice_seed, mask)
        sampling = guider.model_patcher.get_model_object("model_sampling")
        chosen = torch.where(requests.pictures, KEEP, chosen)
        where = None if mask is None else by_frame(mask, noise)
        bounds = sigma_window(sampling, window)
        correction = Correction(corrector, group, strength, *bounds, where, by_frame(chosen, noise))
        return _Run(correction, requests, chosen, node)

    hook(patched, begin, _Run.report)
    return patched


class _Run:
    """One run's steps: all pictures corrected but those that are kept, or whose prompts ask for what is corrected."""

    def __init__(self, correction, requests, chosen, node):
        self.correction, self.requests, self.chosen, self.node = correction, requests, chosen, node

    def __call__(self, x, sigma, denoised, signal):
        on_device(self.correction.corrector, x.device)
        return self.correction(x, sigma, denoised, signal)

    def report(self, levels):
        """Say in the host's log and on the node what was done in a run of these noise levels."""
        c = self.correction
        name, group = c.corrector.name or "corrector", c.group or c.corrector.config.groups[0]
        said = [self._corrected(levels), *self._left_alone()]
        log.info("RS-Corrector: %s, group %s: %s", name, group, "; ".join(said))
        if self.requests.unknown:
            log.warning("RS-Corrector: %s", said[-1])
        tell(self.node, "\n".join(said))

    def _corrected(self, levels):
        c = self.correction
        if not c.calls:
            return "nothing corrected in this run"
        inside = [i for i, sigma in enumerate(levels[:-1], 1) if c.end <= sigma <= c.start]
        steps = f"steps {inside[0]}-{inside[-1]} of {len(levels) - 1}" if inside else "between steps"
        size = 100 * float(c.size) / c.calls
        return f"strength {c.strength:g}, {steps}: changed by {size:.1f} % on average"

    def _left_alone(self):
        obeyed, count = int(self.requests.pictures.sum()), len(self.chosen)
        kept = int((self.chosen == KEEP).sum()) - obeyed
        if obeyed:
            asking = "the prompt asks" if obeyed == count else f"the prompts of {obeyed} of {count} pictures ask"
            words = ", ".join(f"'{thing}'" for thing in self.requests.things) or "what is corrected"
            yield f"obeyed: {asking} for {words}"
        if kept:
            yield f"{kept} of {count} pictures kept as they are"
        if self.requests.unknown:
            yield (
                "requests are not looked for: expected a prompt by the text encoder and layer that the corrector was "
                "made with, got another; use the same CLIP and CLIP skip, or make a corrector with yours"
            )


def hook(patched, begin, end=lambda step, levels: None):
    """Pass the denoised prediction of every model call through a step function.

    Both hooks see every guider: OUTER_SAMPLE once a run, PREDICT_NOISE once a model call, after all
    guidance. Hosts add parameters to them, so what is not needed is passed on as it came. Several hooks on one model
    all see the prediction as it was before any of them, and what they change adds up: their order changes nothing.

    Args:
        patched: a model clone.
        begin: function (guider, initial noise) -> step, called as a run starts; where no noise is added the latent
            stands for it. A step is (x, sigma, denoised, signal) -> denoised, of pictures, or of a clip's `frames`.
        end: function (step, noise levels of the run), called when it is done.

    Returns:
        The steps of the runs in progress, innermost last: a list that changes as runs come and go.
    """
    runs = []

    def outer_sample(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
        check_shape(noise)
        guider = executor.class_obj
        runs.append(begin(guider, noise if noise.any() else latent_image))
        try:
            drawn = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
            sampling = guider.model_patcher.get_model_object("model_sampling")
            end(runs[-1], noise_level(sampling, sigmas)[0].tolist())
            return drawn
        finally:
            runs.pop()

    def predict_noise(executor, x, sigma, *args, **kwargs):
        guider = executor.class_obj
        outermost = KEY not in guider.__dict__
        seen = guider.__dict__.setdefault(KEY, [])
        try:
            corrected = executor(x, sigma, *args, **kwargs)
            if not seen:  # the innermost of several: this is what the model itself predicted
                seen.append(corrected)
            (denoised,) = seen
            level, signal = noise_level(guider.inner_model.model_sampling, by_frame(sigma, x))
            own = clips(runs[-1](frames(x), level, frames(denoised), signal), x)
            return own if corrected is denoised else corrected + (own - denoised)
        finally:
            if outermost:
                del guider.__dict__[KEY]

    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, outer_sample)
    patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, predict_noise)
    return runs


def sigma_window(sampling, window):
    """(start, end) of a percent window as noise levels; an open side is open exactly."""
    start, end = window
    return (
        float("inf") if start <= 0 else float(sampling.percent_to_sigma(start)) * noise_scale(sampling),
        0.0 if end >= 1 else float(sampling.percent_to_sigma(end)) * noise_scale(sampling),
    )


def noise_level(sampling, sigma):
    """(sigma, signal) with x = signal * z + sigma * n: flow matching scales the signal, all others are VE."""
    if isinstance(sampling, comfy.model_sampling.CONST):
        return sigma * noise_scale(sampling), 1.0 - sigma
    return sigma, 1.0


def noise_scale(sampling):
    """Some flow models of newer hosts scale the noise itself."""
    return getattr(sampling, "noise_scale", 1.0)


def check_latents(model, config):
    """Refuse a model whose latents are not the corrector's."""
    check_served(model)
    latent = model.get_model_object("latent_format")
    if latent.latent_channels != config.latent_channels or type(latent).__name__ != config.latent_format:
        raise ValueError(
            f"expected a model of {config.latent_channels}-channel {config.latent_format} latents, the corrector's, "
            f"got {latent.latent_channels}-channel {type(latent).__name__}; use a corrector made for this kind of model"
        )


def fingerprint(model):
    """The checkpoint's name by its weights as they were before any LoRA; found once a loaded model."""
    if model.model not in _NAMED:
        originals = {key: backup.weight for key, backup in model.backup.items()}
        parameters = model.model.diffusion_model.named_parameters()
        found = (originals.get(f"diffusion_model.{name}", value) for name, value in parameters)
        _NAMED[model.model] = weights.fingerprint(found)
    return _NAMED[model.model]


def patches(model):
    """What LoRAs and the like change of a checkpoint: (weight, strengths) of each, empty without any."""
    return tuple(sorted((str(key), repr([(p[0], p[2]) for p in own])) for key, own in model.patches.items()))


def warn_if_other_base(model, config):
    """Log a warning where the corrector was made for another checkpoint than the one it is applied to."""
    expected = config.base.get("fingerprint")
    if not expected:
        return
    found = fingerprint(model)
    if found != expected:
        log.warning(
            "RS-Corrector: expected the checkpoint %s (fingerprint %s) that this corrector was made for, got another "
            "(%s); what was measured may not hold, make a corrector for this checkpoint",
            config.base.get("name", "?"),
            expected,
            found,
        )
