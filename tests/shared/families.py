"""Correctors and prompts for any family of models."""

from pathlib import Path

import torch

from rs_corrector import weights
from rs_corrector.corrector import Config, Corrector


def corrector_for(family, **changes):
    """An untrained corrector for a family's latents, its head not zero."""
    torch.manual_seed(0)
    basics = dict(
        kind="delta", groups=("someone",), latent_format=family.latent_format, latent_channels=family.channels
    )
    ranges = dict(sigma_data=1.0, sigma_min=0.02, sigma_max=80.0, width=16, levels=2, onset=1.0)
    with torch.inference_mode(False):
        corrector = Corrector(Config(**basics | ranges | changes))
        for parameter in corrector.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return corrector.eval().requires_grad_(False)


def loaded_corrector(host, corrector):
    import folder_paths

    folder = Path(folder_paths.models_dir) / "rs_correctors"
    folder.mkdir(exist_ok=True)
    weights.save(corrector, folder / "family.safetensors")
    return host.run("RSCorrectorLoader", corrector_name="family.safetensors")[0]


def conditioning(family, seed):
    generator, more = torch.Generator().manual_seed(seed), {}
    if family.pooled:
        more["pooled_output"] = torch.randn(1, family.pooled, generator=generator)
    return [[torch.randn(1, 77, family.context, generator=generator), more]]
