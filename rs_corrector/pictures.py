"""Pictures between tensors, (3, H, W) RGB in 0..1, and what PIL and files hold."""

import io

import numpy
import torch
from PIL import Image


def to_pixels(image):
    """A tensor -> (H, W, 3) bytes."""
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def from_picture(picture):
    """A PIL picture -> a tensor."""
    return torch.from_numpy(numpy.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def from_png(data):
    """PNG bytes -> a tensor."""
    return from_picture(Image.open(io.BytesIO(data)))
