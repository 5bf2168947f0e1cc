"""The one small network of every corrector: a U-Net over latents, conditioned on noise and label."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Norm(nn.LayerNorm):
    """Over the channels of every pixel by itself: what is drawn elsewhere in a picture changes nothing here."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Two convolutions beside a residual path; noise and label scale and shift between them."""

    def __init__(self, width):
        super().__init__()
        self.norm = Norm(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x, film):
        """(B, width, H, W), scale and shift as (B, 2, width, 1, 1) -> (B, width, H, W)."""
        scale, shift = film.unbind(1)
        return x + self.conv2(F.silu(torch.addcmul(shift, self.conv1(self.norm(x)), scale)))


class Network(nn.Module):
    """F(x, film): (B, C, H, W), (B, 2, levels, width) -> (B, C, H, W), any H and W.

    What has to be seen of a picture is coarser than what has to be drawn, so a convolution a level is enough on the way
    down, and the blocks come on the way up.

    Args:
        channels: of the latent.
        width: channels inside, the same at every resolution; a multiple of 8.
        levels: resolutions, each half the one before.
        labels: number of labels.
    """

    def __init__(self, channels, width, levels, labels):
        super().__init__()
        embedding, half = 4 * width, width // 2
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(100.0), half)), persistent=False)
        self.embed_noise = nn.Sequential(nn.Linear(2 * half, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.embed_label = nn.Embedding(labels, embedding)
        self.to_film = nn.Linear(embedding, 2 * levels * width)
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(levels - 1))
        self.up = nn.ModuleList(Block(width) for _ in range(levels))
        self.norm = Norm(width)
        self.head = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def film(self, c_noise, label):
        """Every block's scale and shift for a noise level and a label: (B,), (B,) int64 -> (B, 2, levels, width)."""
        angles = c_noise[:, None] * self.frequencies
        embedding = F.silu(self.embed_noise(torch.cat([angles.sin(), angles.cos()], 1)) + self.embed_label(label))
        scale, shift = self.to_film(embedding).unflatten(1, (2, len(self.up), -1)).unbind(1)
        return torch.stack([1 + scale, shift], 1)

    def forward(self, x, film):
        skips = [self.stem(x.contiguous(memory_format=torch.channels_last))]
        for conv in self.down:
            skips.append(conv(F.silu(skips[-1])))
        h = skips.pop()
        for block, own in zip(self.up, film[..., None, None].unbind(2)):
            h = block(h, own)
            if skips:
                skip = skips.pop()
                h = skip + F.interpolate(h, size=skip.shape[-2:], mode="nearest")
        return self.head(self.norm(h))
