"""RS-Corrector's engine: stereotype mitigation in the latent space, during inference. Never imports ComfyUI."""

__version__ = "0.1.0"
