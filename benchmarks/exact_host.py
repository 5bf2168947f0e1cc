"""The exact world as the host's native MODEL and CLIP: its samplers and the pack's nodes run on it unchanged."""

import io
from functools import partial

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import torch
from comfy.supported_models_base import ClipTarget

from rs_corrector.testbed.exact import captions, stretched

#: What a checkpoint predicts: the host's name, and whether its highest noise level grows with the grid.
PARAMETERISATIONS = {
    "eps": ("EPS", False),
    "eps_wide": ("EPS", True),
    "v": ("V_PREDICTION", False),
    "flow": ("FLUX", False),
}
#: Highest noise level over the grid, in latent pixels, from which on nothing of a picture is left in the noise.
ENOUGH = 7.3
WIDTH = 128  # of token embeddings


def load(host, world, parameterisation="eps"):
    """Native (MODEL, CLIP) of a `World`.

    Args:
        host: an `inprocess.Host`; flow matching takes the shift that its node gives for the resolution.
        parameterisation: a name in `PARAMETERISATIONS`.
    """
    with torch.inference_mode(False):  # what gradients are taken through is made outside
        vocabulary = _Vocabulary()
        clip, model = _clip(vocabulary), _model(world, vocabulary, *PARAMETERISATIONS[parameterisation])
    if parameterisation == "flow":
        size = 8 * world.grid
        (model,) = host.call("ModelSamplingFlux", model=model, max_shift=1.15, base_shift=0.5, width=size, height=size)
    return model, clip


class _Config(comfy.supported_models_base.BASE):
    latent_format = comfy.latent_formats.SD15
    unet_config = {"disable_unet_model_creation": True}
    memory_usage_factor = 1.0


class _Model(comfy.model_base.BaseModel):
    """The host's model around a network that is told the noise level itself and not a rounded time step."""

    def _apply_model(self, x, t, c_concat=None, c_crossattn=None, *args, **kwargs):
        sampling = self.model_sampling
        output = self.diffusion_model(sampling.calculate_input(t, x), t, c_crossattn, sampling)
        return sampling.calculate_denoised(t, output, x)


class _Network(torch.nn.Module):
    """What a network with this parameterisation would predict, were it perfect.

    The host's denoised prediction is affine in the network's output, so the output is found from the exact one:
    out = (D - D(0)) / (D(1) - D(0)).
    """

    dtype = torch.float32

    def __init__(self, world, vocabulary):
        super().__init__()
        self.vocabulary, self.world = vocabulary, on_device(world, comfy.model_management.get_torch_device())
        facts = [table.flatten() for table in world.tables.values()]
        facts += [colours.flatten() for colours in world.colours.values()]
        self.weight = torch.nn.Parameter(torch.cat([torch.tensor([float(world.grid)]), *facts]), requires_grad=False)

    def forward(self, scaled, sigma, context, sampling):
        one = torch.ones_like(scaled)
        x = scaled / sampling.calculate_input(sigma, one)
        flow = isinstance(sampling, comfy.model_sampling.CONST)
        level = self.vocabulary.levels(context.to(x))
        denoised = self.world.denoise(x, sigma, level, 1 - sigma if flow else 1.0)
        nothing = sampling.calculate_denoised(sigma, torch.zeros_like(x), x)
        return (denoised - nothing) / (sampling.calculate_denoised(sigma, one, x) - nothing)


def on_device(world, device):
    """A world whose tensors are on a device: itself, or a copy."""
    if device.type == "cpu":
        return world
    buffer = io.BytesIO()
    torch.save(world, buffer)
    buffer.seek(0)
    return torch.load(buffer, device, weights_only=False)


def _model(world, vocabulary, kind, wide):
    config = _Config({"disable_unet_model_creation": True})
    config.set_inference_dtype(torch.float32, None)
    management = comfy.model_management
    base = _Model(config, model_type=getattr(comfy.model_base.ModelType, kind), device=management.unet_offload_device())
    if wide:
        sampling = base.model_sampling
        sampling.set_sigmas(stretched(sampling.sigmas, ENOUGH * world.grid))
    base.diffusion_model = _Network(world, vocabulary)
    return comfy.model_patcher.ModelPatcher(
        base, load_device=management.get_torch_device(), offload_device=management.unet_offload_device()
    )


class _Vocabulary:
    """The words of phrases as tokens of Stable Diffusion 1.5, each with a direction of its own.

    A mixture of two conditionings is then a mixture of what they state; all other tokens lie in what directions are
    left.
    """

    def __init__(self):
        tokenizer = comfy.sd1_clip.SD1Tokenizer().clip_l.tokenizer
        self.phrases = [
            [token for word in captions.keys(words) for token in tokenizer(word)["input_ids"][1:-1]]
            for *_, words in captions.PHRASES
        ]
        known = sorted({token for tokens in self.phrases for token in tokens})
        self.known = {token: i for i, token in enumerate(known)}

    def levels(self, context):
        """What conditionings state of every phrase: (B, T, E) -> (B, V), as `captions.levels`."""
        said = context[..., : len(self.known)].amax(1).clamp(0, 1)
        said = torch.where(said < 1e-3, torch.zeros_like(said), said)
        return torch.stack([said[:, [self.known[t] for t in tokens]].amin(1) for tokens in self.phrases], 1)

    def embed(self, token):
        """(E,) of one token."""
        if token in self.known:
            return torch.nn.functional.one_hot(torch.tensor(self.known[token]), WIDTH).float()
        rest = torch.randn(WIDTH - len(self.known), generator=torch.Generator().manual_seed(token))
        return torch.cat([torch.zeros(len(self.known)), rest / rest.norm()])


class _Words(torch.nn.Module):
    """A text encoder for the host: one token, one direction."""

    dtypes = {torch.float32}

    def __init__(self, vocabulary, device="cpu", dtype=None, model_options=None):
        super().__init__()
        self.vocabulary = vocabulary
        self.weight = torch.nn.Parameter(torch.zeros(1), requires_grad=False)  # the host moves what has weights

    def encode_token_weights(self, token_weight_pairs):
        (pairs, *_) = token_weight_pairs["l"]
        rows = torch.stack([weight * self.vocabulary.embed(token) for token, weight in pairs])[None]
        return rows, torch.zeros(1, WIDTH)

    def set_clip_options(self, options):
        pass

    def reset_clip_options(self):
        pass

    def load_sd(self, state):
        return [], []


def _clip(vocabulary):
    target = ClipTarget(comfy.sd1_clip.SD1Tokenizer, partial(_Words, vocabulary))
    return comfy.sd.CLIP(target, model_options={"dtype": torch.float32})
