"""Small line plots as PIL pictures; ComfyUI ships Pillow and no plotting library."""

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont

SIZE, MARGIN = (512, 320), 40
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # colour-blind-safe (Okabe and Ito)


def as_image(picture):
    """A PIL picture as an IMAGE socket carries it, (1, H, W, 3) in 0..1."""
    return torch.from_numpy(numpy.array(picture)).float()[None] / 255


def lines(series, title):
    """Draw {name: [(x, y), ...]} on common axes."""
    sheet = Image.new("RGB", SIZE, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    points = [point for values in series.values() for point in values]
    if not points:
        return sheet
    (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*points))

    def place(x, y):
        across = (x - left) / ((right - left) or 1) * (SIZE[0] - 2 * MARGIN) + MARGIN
        return across, SIZE[1] - MARGIN - (y - low) / ((high - low) or 1) * (SIZE[1] - 2 * MARGIN)

    pen.rectangle([MARGIN, MARGIN, SIZE[0] - MARGIN, SIZE[1] - MARGIN], outline="#999999")
    pen.text((MARGIN, 8), title, fill="black", font=font)
    for y, anchor in ((low, SIZE[1] - MARGIN - 8), (high, MARGIN)):
        pen.text((2, anchor), f"{y:.3g}", fill="black", font=font)
    for x, anchor in ((left, MARGIN), (right, SIZE[0] - MARGIN - 24)):
        pen.text((anchor, SIZE[1] - MARGIN + 6), f"{x:.4g}", fill="black", font=font)
    for i, (name, values) in enumerate(series.items()):
        pen.line([place(*p) for p in values], fill=COLOURS[i % len(COLOURS)], width=2)
        pen.text((SIZE[0] - 150, MARGIN + 6 + 14 * i), name, fill=COLOURS[i % len(COLOURS)], font=font)
    return sheet


def curves(history, window=20):
    """Training and held-out loss of a `History` by step."""
    losses = history.losses
    smooth = [
        (i, sum(losses[max(i - window, 0) : i + 1]) / (i + 1 - max(i - window, 0)))
        for i in range(0, len(losses), max(len(losses) // 200, 1))
    ]
    return lines({"training": smooth, "held out": history.validation}, "loss by step")
