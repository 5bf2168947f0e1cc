"""Correctors for any family of models."""

from pathlib import Path

import torch
from configs import make_config

from rs_corrector import weights
from rs_corrector.corrector import Corrector


def corrector_for(family, **changes):
    """An untrained corrector for a family's latents, its head not zero."""
    torch.manual_seed(0)
    latents = dict(latent_format=family.latent_format, latent_channels=family.channels)
    config = make_config(**latents | dict(sigma_min=0.02, sigma_max=80.0, windows=[(0.0, 1.0)]) | changes)
    with torch.inference_mode(False):
        corrector = Corrector(config)
        for parameter in corrector.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return corrector.eval().requires_grad_(False)


def loaded_corrector(host, corrector):
    import folder_paths

    folder = Path(folder_paths.models_dir) / "rs_correctors"
    folder.mkdir(exist_ok=True)
    weights.save(corrector, folder / "family.safetensors")
    return host.run("RSCorrectorLoader", corrector_name="family.safetensors")[0]
