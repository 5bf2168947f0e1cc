"""An exactly known world at any latent grid: closed-form denoiser, exact readers, nothing learnt."""

from .pictures import PLANTED, RATES, TEXTURES
from .world import Reading, World, stretched

__all__ = ["PLANTED", "RATES", "TEXTURES", "Reading", "World", "stretched"]
