"""Sample and record with the host's own loop; latents come and go in model space."""

import hashlib
import math

import comfy.latent_formats
import comfy.model_management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch

from ...rs_corrector.audit.graph import unknown
from ...rs_corrector.audit.run import AuditError
from .correction import fingerprint, noise_scale
from .frames import check_served, frames, has_time, with_time
from .telling import TimeLeft

#: Pixels per latent of formats on hosts that do not say it themselves; all others there have 8.
_RATIOS = {"SC_Prior": 42, "SC_B": 4, "HunyuanImage21": 32, "ChromaRadiance": 1, "Wan22": 16, "LTXV": 32}


def samplers():
    return comfy.samplers.KSampler.SAMPLERS


def schedulers():
    return comfy.samplers.KSampler.SCHEDULERS


def draw(model, positive, negative, size, seed, steps, cfg, sampler, scheduler, latents=None, mask=None, levels=None,
         predicted=None):  # fmt: skip
    """Sample a batch as KSampler does, with its progress and previews: (N, C, H, W) in model space, on the CPU.

    Args:
        size: (N, height, width) in latent pixels.
        latents: (N, C, H, W) in model space to start from; None is empty.
        mask: (N, 1, H, W), drawn only where it is 1; None is everywhere.
        levels: (S + 1,) falling noise levels (VE) to go through, down to zero; None takes those of the scheduler.
        predicted: a list that gets every step's prediction, (N, C, H, W) in model space; None keeps none.
    """
    count, height, width = size
    latent_format = model.get_model_object("latent_format")
    latent = torch.zeros(count, latent_format.latent_channels, height, width)
    if latents is not None:
        latent = from_model_space(model, latents)
    sigmas = None
    if levels is not None:
        sigmas, steps = own_level(model.get_model_object("model_sampling"), levels), len(levels) - 1
    latent = comfy.sample.fix_empty_latent_channels(model, latent)
    noise = comfy.sample.prepare_noise(latent, seed)
    preview = latent_preview.prepare_callback(model, steps)

    def callback(step, denoised, x, total):
        preview(step, denoised, x, total)
        if predicted is not None:
            predicted.append(frames(denoised).float().cpu())

    conds = (positive, negative, latent)
    drawn = comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        sampler,
        scheduler,
        *conds,
        noise_mask=None if mask is None else with_time(model, mask),
        sigmas=sigmas,
        callback=callback,
        seed=seed,
    )
    return to_model_space(model, drawn)


def own_level(sampling, sigma):
    """Noise levels (VE) as the model itself counts them: the same, or s = sigma / (scale + sigma) for flow matching."""
    if isinstance(sampling, comfy.model_sampling.CONST):
        return sigma / (noise_scale(sampling) + sigma)
    return sigma


def ve_level(sampling, sigmas):
    """A model's own noise levels as VE has them, the highest of flow matching finite."""
    if isinstance(sampling, comfy.model_sampling.CONST):
        return noise_scale(sampling) * sigmas / (1 - sigmas).clamp_min(1e-3)
    return sigmas


def noise_range(sampling):
    """(lowest, highest) noise level (VE) of a model."""
    return tuple(ve_level(sampling, torch.tensor([float(sampling.sigma_min), float(sampling.sigma_max)])).tolist())


def to_model_space(model, latents):
    """Latents as sockets carry them -> as the model sees them, (N, C, H, W); every frame is a picture."""
    return frames(model.get_model_object("latent_format").process_in(with_time(model, latents))).float().cpu()


def from_model_space(model, latents):
    """(N, C, H, W) as the model sees them -> latents as sockets carry them."""
    return model.get_model_object("latent_format").process_out(with_time(model, latents))


def encode_images(model, vae, images):
    """(N, H, W, 3) RGB in 0..1 -> (N, C, h, w) in model space; one by one where several would be frames of a clip."""
    parts = images.split(1) if has_time(model) else [images]
    return torch.cat([to_model_space(model, vae.encode(part)) for part in parts])


def seen(model, vae, latents):
    """Latents in model space -> (N, H, W, 3) RGB in 0..1; without a VAE roughly, as previews show them."""
    if vae is not None:
        return decode(model, vae, latents).movedim(1, -1)
    return roughly_seen(model.get_model_object("latent_format"), latents)


def roughly_seen(latent_format, latents):
    """Latents in model space -> (N, H, W, 3) RGB in 0..1, as previews show them.

    Args:
        latent_format: ComfyUI's, or the name of its class.
    """
    if isinstance(latent_format, str):
        latent_format = getattr(comfy.latent_formats, latent_format, comfy.latent_formats.LatentFormat)()
    if (reshape := getattr(latent_format, "latent_rgb_factors_reshape", None)) is not None:
        latents = reshape(latents)
    factors = latent_format.latent_rgb_factors
    if factors is None:
        factors = torch.eye(latents.shape[1], 3)
    rgb = latents.movedim(1, -1).float() @ torch.as_tensor(factors, dtype=torch.float32)
    bias = getattr(latent_format, "latent_rgb_factors_bias", None)
    return ((rgb + (0 if bias is None else torch.tensor(bias)) + 1) / 2).clamp(0, 1)


def decode(model, vae, latents):
    """Latents in model space -> (N, 3, H, W) RGB in 0..1."""
    return vae.decode(from_model_space(model, latents))[..., :3].flatten(0, -4).movedim(-1, 1)


def versions():
    """What to write down of this host, to repeat a measurement."""
    import comfyui_version

    return {"comfyui": comfyui_version.__version__, "device": str(comfy.model_management.get_torch_device())}


def check_sampling(model, sampler, scheduler, width, height):
    """Refuse what the host would silently do otherwise: names that it does not know, sizes that are no whole latent.

    Raises:
        AuditError: with what is there instead.
    """
    for what, name, known in (("sampler", sampler, samplers()), ("scheduler", scheduler, schedulers())):
        if wanted := unknown(name, known):
            raise AuditError(f"expected as {what} {wanted}, got {name!r}; correct the plan")
    for what, size in (("width", width), ("height", height)):
        if size % (ratio := pixels_a_latent(model)):
            raise AuditError(
                f"expected a {what} that is a multiple of {ratio}, as this checkpoint draws them, got {size}; take "
                f"{max(size - size % ratio, ratio)}"
            )


def pixels_a_latent(model):
    """How many pixels of an image, along a side, a latent pixel stands for."""
    latent = model.get_model_object("latent_format")
    return getattr(latent, "spacial_downscale_ratio", _RATIOS.get(type(latent).__name__, 8))


def latent_size(model, count, height, width):
    """(N, H, W) in latent pixels of a batch of images."""
    ratio = pixels_a_latent(model)
    return count, height // ratio, width // ratio


def latent_bytes(model, count, height, width):
    """What so many latents of images take in half precision."""
    channels = model.get_model_object("latent_format").latent_channels
    return 2 * channels * math.prod(latent_size(model, count, height, width))


def describe(model):
    """(latent format, base) of a checkpoint, as a set of pairs records them."""
    check_served(model)
    low, high = noise_range(model.get_model_object("model_sampling"))
    base = {
        "name": f"a checkpoint of type {type(model.model.model_config).__name__}",
        "fingerprint": fingerprint(model),
        "sigma_min": low,
        "sigma_max": high,
    }
    return type(model.get_model_object("latent_format")).__name__, base


def digest(conditionings, *settings):
    """A name for wordings and settings, so that a set is never continued with others.

    Of a conditioning all of it counts: token embeddings, pooled output, timestep range, guidance and so on.
    """
    name = hashlib.sha256(repr(settings).encode())
    for part in _parts(conditionings):
        name.update(part)
    return name.hexdigest()[:16]


def _parts(value):
    """What a conditioning consists of, as bytes; of objects that have no text of their own only what they are."""
    if torch.is_tensor(value):
        yield repr(tuple(value.shape)).encode() + value.detach().float().cpu().contiguous().numpy().tobytes()
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from _parts(value[key])
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _parts(each)
    else:
        plain = isinstance(value, (str, int, float, bool, type(None)))
        yield (repr(value) if plain else type(value).__qualname__).encode()


class Progress:
    """ComfyUI's progress bar for a long loop; raises where the user pressed interrupt.

    Args:
        total: steps, where that is known.
        what: goes on, for a `TimeLeft` in the log.
    """

    def __init__(self, total=1, what=""):
        self.bar, self.left = comfy.utils.ProgressBar(total), TimeLeft(what) if what else None

    def __call__(self, done, total=None, preview=None):
        """Report `done` steps, of `total` if that is known only now; `preview` is a PIL picture for the node."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.bar.update_absolute(done, total, preview=None if preview is None else ("JPEG", preview, 512))
        if self.left and total and done:
            self.left(done, total)


def training_device():
    """The host's device, with the models that it held moved away."""
    device = comfy.model_management.get_torch_device()
    if device.type != "cpu":
        comfy.model_management.unload_all_models()
    return device
