"""A MODEL with its conditionings as the engine sees a checkpoint: something that samples and predicts."""

import sys

import comfy.model_management
import comfy.samplers
import torch

from ...rs_corrector.counterparts import noise_seed, split
from .conditioning import batched, keep_apart, told
from .correction import hook as hook_into
from .frames import frames, with_time
from .sampling import draw, noise_range, own_level, ve_level

#: Flow matching begins at nothing but noise; from this noise level (VE) on, as good as nothing is left of a picture.
NOISE_ALONE = 100.0
#: The lowest noise level that is looked at is no smaller a share of the highest.
LOWEST = 1e-3
#: Samplers that take as many steps as they like, where runs are to be as long as one another.
ADAPTIVE = ("dpm_adaptive",)


class HostCheckpoint:
    """A `rs_corrector.counterparts.Checkpoint` on the host's own loop.

    Args:
        model: the host's ModelPatcher.
        wordings: `rs_corrector.wordings.Wordings` of texts or conditionings.
        encoded: {text: conditioning} of every text that they say.
        negative: conditioning.
        size: (height, width) in latent pixels.
        seed: of the first picture's noise.
        steps, sampler, scheduler: as KSampler has them.

    Raises:
        ValueError: a sampler that chooses its number of steps itself.
    """

    def __init__(self, model, wordings, encoded, negative, size, seed, steps, sampler, scheduler):
        if sampler in ADAPTIVE:
            raise ValueError(
                f"expected a sampler that takes as many steps as it is told, got {sampler}; choose another one"
            )
        self.wordings, self.encoded, self.negative, self.size = wordings, encoded, negative, size
        self.seed, self.settings, self.evaluations = seed, (steps, sampler, scheduler), 0
        keep_apart(model := model.clone())
        self.at_once = sys.maxsize
        self.model, self.sampling = model, model.get_model_object("model_sampling")
        low, high = noise_range(self.sampling)
        self.top = min(high, NOISE_ALONE)
        self.bottom = max(low, LOWEST * self.top)
        self.levels = ve_level(self.sampling, comfy.samplers.calculate_sigmas(self.sampling, scheduler, steps))

    def _told(self, names, batch):
        """A conditioning of every named wording, with a row for each picture."""
        return batched(*([told(self.wordings.said(name, i), self.encoded) for i in batch] for name in names))

    def sample(self, wording, batch, *, again=0, cfg=None, hook=None, latents=None, mask=None, levels=None):
        model, rows = self.model.clone(), len(batch) * (1 if cfg is None else 2)
        if cfg is not None:
            _guide_each(model, cfg)

        def step(x, sigma, denoised, signal):
            self.evaluations += rows
            return denoised if hook is None else hook(x, sigma, denoised, signal)

        hook_into(model, lambda guider, noise: step)
        steps, sampler, scheduler = self.settings
        (positive,) = self._told([wording], batch)
        return draw(
            model, positive, self.negative, (len(batch), *self.size),
            noise_seed(self.seed, batch, again), steps, 1.0 if cfg is None else float(cfg.max()),
            sampler, scheduler, latents=latents, mask=mask, levels=levels,
        )  # fmt: skip

    def predict(self, x, sigma, wordings, batch):
        own = own_level(self.sampling, sigma)
        signal = 1.0 if own == sigma else 1 - own
        self.evaluations += len(x) * len(wordings)
        found = []
        for rows, some in zip(x.split(self.at_once), split(batch, self.at_once)):
            judge = _Judge(self.model, dict(zip(wordings, self._told(wordings, some))))
            found.append(judge.predict(with_time(self.model, signal * rows), own))
        return [torch.cat(parts) for parts in zip(*found)]


class _Judge(comfy.samplers.CFGGuider):
    """Evaluates a model under several wordings in one call, as memory allows."""

    def __init__(self, model, wordings):
        super().__init__(model)
        self.inner_set_conds(wordings)
        self.found = None

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        conds = list(self.conds.values())
        self.found = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options or {})
        return self.found[0]

    def predict(self, x, sigma):
        """(B, C, H, W) a wording, on the CPU; x and sigma as the model itself counts them."""

        def evaluate(denoise, latents, sigmas, extra_args, callback, disable):
            comfy.model_management.throw_exception_if_processing_interrupted()
            denoise(x.to(latents), latents.new_full((len(x),), sigma), **extra_args)
            return latents

        nothing = torch.zeros_like(x)
        loop = comfy.samplers.KSAMPLER(evaluate)
        self.sample(nothing, nothing, loop, torch.tensor([0.5, 0.0]), disable_pbar=True)
        found, self.found = [frames(d).float().cpu() for d in self.found], None
        return found


def _guide_each(model, cfg):
    """Give every picture of a batch a guidance scale of its own, (B,)."""
    own = model.model_options.get("sampler_cfg_function")

    def guide(args):
        scale = cfg.to(args["input"]).view(-1, *[1] * (args["input"].ndim - 1))
        if own is not None:
            return own(args | {"cond_scale": scale})
        return args["uncond"] + scale * (args["cond"] - args["uncond"])

    model.set_model_sampler_cfg_function(guide)
