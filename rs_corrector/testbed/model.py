"""The testbed's latent diffusion model, in Stable Diffusion's own architecture, without a host.

One file holds the three networks in diffusers' naming (`unet.`, `vae.`, `text_model.`), in fp16.
Here diffusers and transformers run it; in ComfyUI the host's native classes run the same file
(`nodes/host/`). Both give the same denoised prediction, and a test holds them to it.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open

from ..choice import choices
from ..correction import Correction
from .sampling import euler

CHECKPOINT = Path(__file__).with_name("testbed_model.safetensors")
FORMAT = "rs-corrector-testbed"
#: Latents are scaled as in Stable Diffusion 1.5, so ComfyUI's SD15 latent format fits as it is.
SCALE_FACTOR = 0.18215

UNET = dict(channels=(64, 128), blocks=1, heads=4, context=128)
VAE = dict(channels=(32, 32, 64, 64), blocks=1)
TEXT = dict(width=128, hidden=256, layers=2, heads=2)
VOCABULARY, START, END, LENGTH = 49408, 49406, 49407, 77


def sigmas():
    """Noise levels of Stable Diffusion's schedule, (1000,): sqrt((1 - a) / a) for scaled-linear betas."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    return ((1 - kept) / kept).sqrt().float()


def build(vocabulary=VOCABULARY):
    """New networks as a ModuleDict with keys unet, vae, text. Needs the `demo` extra."""
    try:
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel
    except ImportError as error:
        raise ImportError(
            f"the embedded testbed expects diffusers and transformers, got: {error}; "
            "run `pip install 'rs-corrector[demo]'`, or use it inside ComfyUI, which needs neither"
        ) from error
    levels = len(UNET["channels"])
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=UNET["channels"],
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        layers_per_block=UNET["blocks"],
        cross_attention_dim=UNET["context"],
        attention_head_dim=UNET["heads"],  # diffusers' historical name for the number of heads
    )
    vae = AutoencoderKL(
        block_out_channels=VAE["channels"],
        down_block_types=("DownEncoderBlock2D",) * len(VAE["channels"]),
        up_block_types=("UpDecoderBlock2D",) * len(VAE["channels"]),
        layers_per_block=VAE["blocks"],
        latent_channels=4,
        norm_num_groups=32,
        scaling_factor=SCALE_FACTOR,
    )
    text = CLIPTextModel._from_config(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=TEXT["width"],
            intermediate_size=TEXT["hidden"],
            num_hidden_layers=TEXT["layers"],
            num_attention_heads=TEXT["heads"],
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
        ),
        attn_implementation="eager",
    )
    return torch.nn.ModuleDict({"unet": unet, "vae": vae, "text": text})


def tokenize(captions):
    """Captions -> (N, 77) CLIP token ids, padded with the end token as Stable Diffusion 1.5 pads."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenize.bpe = getattr(tokenize, "bpe", None) or SimpleTokenizer()
    rows = [[START, *tokenize.bpe.encode(caption)[: LENGTH - 2]] for caption in captions]
    return torch.tensor([row + [END] * (LENGTH - len(row)) for row in rows])


def read_checkpoint(path=CHECKPOINT):
    """The stored tensors in fp32, token rows expanded to CLIP's 49,408, and the header as a dict.

    Raises:
        FileNotFoundError, ValueError: the file is absent, or not a testbed model.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"expected the testbed model at {path}, got no such file; "
            "run `python -m rs_corrector.testbed.train --seed 0` to train it"
        )
    with safe_open(path, "pt") as file:
        header = json.loads((file.metadata() or {}).get("config", "{}"))
        if header.get("format") != FORMAT:
            raise ValueError(f"expected a file of format {FORMAT}, got {header.get('format')!r} in {path}; retrain it")
        state = {key: file.get_tensor(key) for key in file.keys()}
    tokens = state.pop("tokens")
    state = {key: value.float() for key, value in state.items()}
    key = "text_model.embeddings.token_embedding.weight"
    rows = torch.zeros(VOCABULARY, state[key].shape[1])
    rows[tokens] = state[key]
    state[key] = rows
    return state, header


def part(state, prefix):
    """The entries of a state dict under `prefix`, with it removed."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


class Testbed:
    """The trained model on the embedded path: encode captions, denoise, sample, decode.

    Args:
        networks: from `build`; None loads the committed checkpoint.
    """

    __test__ = False  # not a pytest class

    def __init__(self, networks=None):
        if networks is None:
            state, _ = read_checkpoint()
            networks = build()
            networks["unet"].load_state_dict(part(state, "unet."))
            networks["vae"].load_state_dict(part(state, "vae."))
            load_text(networks["text"], part(state, "text_model."))
        self.networks = networks.eval().requires_grad_(False)
        self.table = sigmas()

    def encode_text(self, captions):
        """(N) captions -> (N, 77, 128) context."""
        return self.networks["text"](tokenize(captions)).last_hidden_state

    def denoise(self, x, sigma, context):
        """The model's own denoised prediction D(x, sigma, c) = x - sigma * eps.

        Args:
            x: (B, 4, H, W) latent plus noise, k-diffusion (VE) form.
            sigma: (B,) noise level.
            context: (B, 77, 128).
        """
        s = sigma.view(-1, 1, 1, 1)
        t = (self.table.log() - sigma.log()[:, None]).abs().argmin(1)
        eps = self.networks["unet"](x / (s**2 + 1).sqrt(), t, context).sample
        return x - s * eps

    def guided(self, x, sigma, positive, negative, cfg):
        """Classifier-free guidance, both passes in one batch."""
        cond, uncond = self.denoise(torch.cat([x, x]), sigma.repeat(2), torch.cat([positive, negative])).chunk(2)
        return uncond + cfg * (cond - uncond)

    @torch.inference_mode()
    def sample(self, captions, seed, steps=20, cfg=3.0, correct=None, latents=None, mask=None, size=8):
        """Euler sampling on the host's `normal` schedule.

        Args:
            captions: one per image.
            seed: of the batch's noise, drawn as ComfyUI draws it.
            correct: None, or a function (x, sigma, denoised) -> denoised.
            latents: (N, 4, size, size) to start from; None is empty.
            mask: (N, 1, size, size), drawn only where it is 1, as with the host's noise mask; None is everywhere.

        Returns:
            (N, 4, size, size) clean latents in model space.
        """
        positive = self.encode_text(captions)
        negative = self.encode_text([""]).expand_as(positive)
        ladder = schedule(self.table, steps)
        noise = initial_noise(len(captions), seed, size)

        def denoise(x, sigma):
            return self.guided(x, sigma, positive, negative, cfg)

        return euler(denoise, ladder, noise, correct, latents, mask)

    @torch.inference_mode()
    def encode(self, images):
        """(N, 3, H, W) RGB in 0..1 -> (N, 4, H/8, W/8) mean latents in model space."""
        return self.networks["vae"].encode(images * 2 - 1).latent_dist.mean * SCALE_FACTOR

    @torch.inference_mode()
    def decode(self, latents):
        """(N, 4, h, w) latents in model space -> (N, 3, 8h, 8w) RGB in 0..1."""
        return (self.networks["vae"].decode(latents / SCALE_FACTOR).sample / 2 + 0.5).clamp(0, 1)


def load_text(module, state):
    """Load text-encoder weights under either of transformers' namings (v5 dropped the `text_model.` prefix)."""
    prefixed = any(key.startswith("text_model.") for key in module.state_dict())
    module.load_state_dict({("text_model." if prefixed else "") + k: v for k, v in state.items()})


def initial_noise(count, seed, size=8):
    """The noise that a batch begins with, drawn as ComfyUI draws it: (N, 4, size, size)."""
    return torch.randn(count, 4, size, size, generator=torch.Generator().manual_seed(seed))


def choosing(corrector, group, count, seed, size=8):
    """The correction of one run of so many pictures, each of which chooses what it is to show by its initial noise."""
    noise = initial_noise(count, seed, size)
    return Correction(corrector, group, choice=choices(noise, corrector.config, corrector.group_index(group)))


def schedule(table, steps):
    """Sigmas of the host's `normal` scheduler, (steps + 1,): uniform in time, zero at the end."""
    times = torch.linspace(len(table) - 1, 0, steps)
    low = times.floor().long()
    high = times.ceil().long()
    log = torch.lerp(table.log()[low], table.log()[high], times - low)
    return torch.cat([log.exp(), torch.zeros(1)])
