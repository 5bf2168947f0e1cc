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
    """Two convolutions with a residual path; noise and label scale and shift between them."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.outputs = outputs
        self.norm1 = Norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = Norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x, scale, shift):
        """x: (B, inputs, H, W); scale, shift: (B, outputs, 1, 1) -> (B, outputs, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(torch.addcmul(shift, self.norm2(h), scale)))
        return self.skip(x) + h


class Network(nn.Module):
    """F(x, c_noise, label): (B, C, H, W), (B,), (B,) int64 -> (B, C, H, W), any H and W.

    Args:
        channels: of the latent.
        width: channels at full resolution; twice that at every lower one. A multiple of 8.
        levels: resolutions, each half the one before.
        labels: number of labels.
    """

    def __init__(self, channels, width, levels, labels):
        super().__init__()
        embedding = 4 * width
        widths = [width] + [2 * width] * (levels - 1)
        half = width // 2
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(100.0), half)), persistent=False)
        self.embed_noise = nn.Sequential(nn.Linear(2 * half, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.embed_label = nn.Embedding(labels, embedding)
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(Block(w, w) for w in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:]))
        self.middle = Block(widths[-1], widths[-1])
        self.up = nn.ModuleList(Block(2 * w, w) for w in widths)
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(widths, widths[1:]))
        #: Every block's scale and shift in one product, in the order in which blocks run.
        self.film = nn.Linear(embedding, 2 * sum(block.outputs for block in self._blocks()))
        self.norm = Norm(width)
        self.head = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def _blocks(self):
        return [*self.down, self.middle, *reversed(self.up)]

    def forward(self, x, c_noise, label):
        angles = c_noise[:, None] * self.frequencies
        embedding = F.silu(self.embed_noise(torch.cat([angles.sin(), angles.cos()], 1)) + self.embed_label(label))
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, 1)
        outputs = [block.outputs for block in self._blocks()]
        films = zip((1 + scale).split(outputs, 1), shift.split(outputs, 1))
        h, skips = self.stem(x.contiguous(memory_format=torch.channels_last)), []
        for level, block in enumerate(self.down):
            if level:
                h = self.shrink[level - 1](h)
            h = block(h, *next(films))
            skips.append(h)
        h = self.middle(h, *next(films))
        for level in reversed(range(len(self.up))):
            skip = skips.pop()
            if level < len(self.grow):
                h = F.interpolate(self.grow[level](h), size=skip.shape[-2:], mode="nearest")
            h = self.up[level](torch.cat([h, skip], 1), *next(films))
        return self.head(F.silu(self.norm(h)))
