"""Latents with a time axis, (B, C, T, H, W), as the engine sees them: every frame a picture, (B * T, C, H, W).

Image models of video's latent format have one frame. What belongs to a picture of the batch belongs to all its frames.
"""

#: Latents of so many dimensions beside batch and channels can be corrected: pictures, and pictures in time.
SERVED = (2, 3)
#: Formats in which sound is packed together with pictures.
WITH_SOUND = ("LTXAV", "MiniMaxH3AV")


def check_served(model):
    """Refuse models of other latents, such as audio."""
    name = type(model.get_model_object("latent_format")).__name__
    if _dimensions(model) not in SERVED or name in WITH_SOUND:
        raise ValueError(
            f"expected a model of images or of video alone, got one of {name} latents; use one that draws pictures: "
            "correctors do not serve audio, nor video with its sound"
        )


def check_shape(latents):
    """Refuse latents of another form while they are drawn: sound and pictures packed into one."""
    if getattr(latents, "is_nested", False) or latents.ndim not in (2 + number for number in SERVED):
        raise ValueError(
            "expected latents of pictures alone, got pictures packed together with sound; take the corrector out"
        )


def has_time(model):
    return _dimensions(model) == 3


def with_time(model, latents):
    """Pictures with the time axis that a model's latents have, one frame each; others as they are."""
    return latents.unsqueeze(2) if has_time(model) and latents.ndim == 4 else latents


def frames(latents):
    """(B, C, T, H, W) -> (B * T, C, H, W), a clip's frames one after another; pictures as they are."""
    return latents.movedim(2, 1).flatten(0, 1) if latents.ndim == 5 else latents


def first_frame(latents):
    """(B, C, T, H, W) -> (B, C, H, W); pictures as they are."""
    return latents[:, :, 0] if latents.ndim == 5 else latents


def clips(pictures, like):
    """What `frames` made of latents shaped like these, in that shape again."""
    return pictures.unflatten(0, (len(like), -1)).movedim(1, 2) if like.ndim == 5 else pictures


def by_frame(rows, latents):
    """(B, ...) of a batch's pictures -> (B * T, ...) of their frames."""
    return rows.repeat_interleave(latents.shape[2], 0) if latents.ndim == 5 else rows


def _dimensions(model):
    return getattr(model.get_model_object("latent_format"), "latent_dimensions", 2)
