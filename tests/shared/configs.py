"""What a small corrector says of itself."""

from rs_corrector.corrector import Config


def make_config(**changes):
    """A `Config` of a network that is quick to run, with changes."""
    basics = dict(kind="delta", groups=("someone",), latent_format="SD15", latent_channels=4, width=16, levels=2)
    return Config(**basics | dict(sigma_data=1.0, sigma_min=0.03, sigma_max=14.6) | changes)
