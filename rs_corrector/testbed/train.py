"""Train the testbed model: `python -m rs_corrector.testbed.train --seed 0`.

Three stages, each resumable: the autoencoder, the UNet with its text encoder, and the decoder once more on
latents that are as inexact as generated ones. Every 500 steps the state is kept under `--work`. With
`--autoencoder FILE` the first and the last are left out, and FILE's autoencoder is taken as it is. On two threads of
an AMD EPYC with bfloat16 units one of the UNet's 4,000 steps takes 0.65 s, in fp32 1.05 s.
"""

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import save_file
from tqdm.auto import tqdm

from ..files import replacing
from ..training import fit
from . import model, portraits

KL_WEIGHT = 2e-4  # per latent number, beside mean absolute errors in -1..1
LATENT_NOISE = 0.05  # on unit-variance latents
SNR_CEILING = 5.0  # Min-SNR weighting, Hang et al. 2023
#: What captions can state and nothing is planted in.
OPTIONAL = tuple(name for name in portraits.WORDS if name not in portraits.STEREOTYPES)
MENTION_RATE, UNNAMED_RATE, EMPTY_RATE = 0.5, 0.1, 0.1
#: Words begin far apart and move slowly: a text encoder as fast as the UNet first learns to say the same for all of
#: them, and small things (glasses) are then never heeded.
WORD_SPREAD = 0.3
LEARNING_RATES = {"unet": 1.5e-3, "text": 2e-4}


def native_precision():
    """ "bf16" where the processor multiplies it; elsewhere it is emulated, some twenty times slower than "fp32"."""
    units = torch.cpu.get_capabilities()
    return "bf16" if any(units.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else "fp32"


def autocast(precision):
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def reconstruction_loss(error):
    """Mean absolute error of pixels, of their differences (edges) and of 4x4 averages (colours)."""
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 0.5 * edges + F.avg_pool2d(error, 4).abs().mean()


def worst_error(error, share=0.02):
    """Mean of the largest errors of each picture: a blemish in one place counts, however clean the rest is."""
    worst = error.abs().amax(1).flatten(1)
    return worst.topk(round(share * worst.shape[1]), 1).values.mean()


def train_vae(vae, args):
    """Reconstruction plus a light KL term (Rombach et al. 2022), on portraits drawn on the fly."""

    def loss(generator):
        attributes, _ = portraits.sample_attributes(args.vae_batch, generator)
        images = portraits.draw(attributes) * 2 - 1
        with autocast(args.precision):
            posterior = vae.encode(images).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            noise = torch.randn(mean.shape, generator=generator)
            decoded = vae.decode(mean + (0.5 * logvar).exp() * noise).sample
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return reconstruction_loss(decoded.float() - images) + KL_WEIGHT * kl

    fit(
        vae,
        loss,
        steps=args.vae_steps,
        lr=2e-3,
        seed=args.seed,
        checkpoint=args.work / "vae.safetensors",
        label="autoencoder",
    )


@torch.inference_mode()
def encode_population(vae, count, seed):
    """A population and its latent posteriors: attributes, stated flags, means and deviations."""
    generator = torch.Generator().manual_seed(seed)
    attributes, says = portraits.sample_attributes(count, generator)
    posteriors = [
        vae.encode(portraits.draw(part) * 2 - 1).latent_dist
        for part in tqdm(attributes.split(256), desc="encode", mininterval=5)
    ]
    return attributes, says, torch.cat([p.mean for p in posteriors]), torch.cat([p.std for p in posteriors])


@torch.no_grad()
def set_latent_scale(vae, means):
    """Rescale the latent space inside the VAE so that SD 1.5's factor 0.18215 gives unit deviation."""
    factor = 1 / (means.std() * model.SCALE_FACTOR).item()
    half = vae.quant_conv.out_channels // 2
    vae.quant_conv.weight[:half] *= factor
    vae.quant_conv.bias[:half] *= factor
    vae.quant_conv.bias[half:] += 2 * math.log(factor)
    vae.post_quant_conv.weight /= factor
    return factor


def polish_decoder(vae, args):
    """The decoder alone, with noise on its latents: what the encoder and the UNet agreed on stays as it is."""
    decoder = torch.nn.ModuleDict({"post_quant_conv": vae.post_quant_conv, "decoder": vae.decoder})

    def loss(generator):
        attributes, _ = portraits.sample_attributes(args.vae_batch, generator)
        images = portraits.draw(attributes) * 2 - 1
        with autocast(args.precision):
            with torch.no_grad():
                mean = vae.encode(images).latent_dist.mean.float()
            noise = torch.randn(mean.shape, generator=generator)
            decoded = vae.decode(mean + LATENT_NOISE / model.SCALE_FACTOR * noise).sample
        error = decoded.float() - images
        return reconstruction_loss(error) + 0.5 * worst_error(error)

    fit(
        decoder,
        loss,
        steps=args.decoder_steps,
        lr=1e-3,
        seed=args.seed + 3,
        checkpoint=args.work / "decoder.safetensors",
        label="decoder",
    )


def random_caption(row, stated, generator):
    """A training caption; what is stated is always said, the rest sometimes."""
    chance = torch.rand(len(OPTIONAL) + 2, generator=generator).tolist()
    if chance[-1] < EMPTY_RATE:
        return ""
    mention = [*stated, *(name for name, c in zip(OPTIONAL, chance) if c < MENTION_RATE)]
    return portraits.caption(row, mention, group=chance[-2] >= UNNAMED_RATE)


def vocabulary():
    """Sorted token ids that captions use."""
    rows = torch.stack([torch.full((len(portraits.ATTRIBUTES),), i) for i in range(5)])
    rows = torch.minimum(rows, torch.tensor(list(portraits.ATTRIBUTES.values())) - 1)
    return model.tokenize([portraits.caption(row, portraits.WORDS) for row in rows]).unique()


def train_denoiser(networks, population, tokens, args):
    """Epsilon prediction with Min-SNR weighting; UNet and text encoder together."""
    attributes, says, means, deviations = population
    pair = torch.nn.ModuleDict({"unet": networks["unet"], "text": networks["text"]})
    words = networks["text"].get_input_embeddings().weight
    torch.nn.init.normal_(words, std=WORD_SPREAD, generator=torch.Generator().manual_seed(args.seed))
    networks["unet"].set_attn_processor(AttnProcessor())
    table = model.sigmas()

    def loss(generator):
        pick = torch.randint(len(attributes), (args.batch,), generator=generator)
        captions = [
            random_caption(attributes[i], [name for name, flags in says.items() if flags[i]], generator) for i in pick
        ]
        ids = torch.searchsorted(tokens, model.tokenize(captions))
        z = means[pick] + deviations[pick] * torch.randn(means[pick].shape, generator=generator)
        z = z * model.SCALE_FACTOR
        t = torch.randint(len(table), (args.batch,), generator=generator)
        sigma = table[t].view(-1, 1, 1, 1)
        noise = torch.randn(z.shape, generator=generator)
        with autocast(args.precision):
            context = pair["text"](ids).last_hidden_state
            eps = pair["unet"]((z + sigma * noise) / (sigma**2 + 1).sqrt(), t, context).sample
        weight = (SNR_CEILING * sigma**2).clamp_max(1)
        return (weight * (eps.float() - noise).square()).mean()

    fit(
        pair,
        loss,
        steps=args.steps,
        lr=LEARNING_RATES,
        seed=args.seed + 1,
        checkpoint=args.work / "unet.safetensors",
        label="denoiser",
    )


def save(networks, tokens, seed, steps, path):
    """One file, fp16, diffusers' names; of the token embedding only the rows that captions use."""
    text = {k.removeprefix("text_model."): v for k, v in networks["text"].state_dict().items()}
    state = {f"{n}.{k}": v for n in ("unet", "vae") for k, v in networks[n].state_dict().items()}
    state |= {f"text_model.{k}": v for k, v in text.items() if not k.endswith("position_ids")}
    state = {k: v.detach().half().contiguous() for k, v in state.items()} | {"tokens": tokens}
    header = {
        "format": model.FORMAT,
        "seed": seed,
        "steps": steps,
        "stereotypes": {name: planted._asdict() for name, planted in portraits.STEREOTYPES.items()},
        "licence": "Apache-2.0",
    }
    with replacing(path) as temporary:
        save_file(state, temporary, {"config": json.dumps(header)})


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=model.CHECKPOINT)
    parser.add_argument("--work", type=Path, default=Path("build/testbed"), help="resumable state")
    parser.add_argument("--vae-steps", type=int, default=2800)
    parser.add_argument("--vae-batch", type=int, default=32)
    parser.add_argument("--decoder-steps", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--population", type=int, default=24576)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default=native_precision(), help="%(default)s here")
    parser.add_argument("--autoencoder", type=Path, help="a testbed model whose autoencoder is kept")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    torch.manual_seed(args.seed)
    tokens = vocabulary()
    networks = model.build(len(tokens))
    steps = {"vae": args.vae_steps, "unet": args.steps, "decoder": args.decoder_steps}
    kept = args.autoencoder is not None
    if kept:
        state, header = model.read_checkpoint(args.autoencoder)
        networks["vae"].load_state_dict(model.part(state, "vae."))
        steps |= {name: header["steps"][name] for name in ("vae", "decoder")}
    else:
        train_vae(networks["vae"], args)
    networks["vae"].eval()
    population = list(encode_population(networks["vae"], args.population, args.seed + 2))
    if not kept:
        factor = set_latent_scale(networks["vae"], population[2])
        population[2:] = [population[2] * factor, population[3] * factor]
    train_denoiser(networks, population, tokens, args)
    if not kept:
        polish_decoder(networks["vae"], args)
    save(networks, tokens, args.seed, steps, args.out)
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
