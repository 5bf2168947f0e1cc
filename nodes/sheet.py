"""Pictures on one sheet: the first of a recording, as drawn, where they are redrawn, and their counterparts."""

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from ..rs_corrector.files import replacing
from ..rs_corrector.pictures import to_pixels
from .plot import as_image

SHOWN, TILE = 8, 160
RED = torch.tensor([0.8, 0.1, 0.1])


class Sheet:
    """A PNG beside the records, so that a run that is taken up again still has it.

    Args:
        file: its path.
        see: function ((N, C, H, W) latents) -> (N, h, w, 3) RGB in 0..1.
        begun: whether there are pictures on it already; a sheet that is left of a run without any is not gone on with.
    """

    def __init__(self, file, see, begun):
        self.file, self.see = file, see
        if not begun:
            file.unlink(missing_ok=True)
        self.columns = list(self.picture()[0].split(TILE, 1)) if file.is_file() else []

    def add(self, batch):
        """Put a `method.Batch`'s pictures that show the rejected depiction on it, while there is room."""
        rows = batch.shown.nonzero().flatten()[: SHOWN - len(self.columns)]
        if not len(rows):
            return
        drawn, goal = self.see(batch.drawn[rows]), self.see(batch.goal[rows])
        for before, area, after, dropped in zip(drawn, batch.area[rows], goal, batch.dropped[rows]):
            after = _tile(after)
            if dropped:  # a frame says that it is not used
                after[:6], after[-6:], after[:, :6], after[:, -6:] = RED, RED, RED, RED
            mask = _tile(area.movedim(0, -1).expand(-1, -1, 3).float())
            self.columns.append(torch.cat([_tile(before), mask, after]))
        pixels = to_pixels(torch.cat(self.columns, 1).movedim(-1, 0))
        with replacing(self.file) as temporary:
            Image.fromarray(pixels).save(temporary, "png")

    def picture(self):
        """As an IMAGE socket carries it, (1, H, W, 3); grey where no picture showed anything."""
        if not self.file.is_file():
            return torch.full((1, 3 * TILE, TILE, 3), 0.5)
        return as_image(Image.open(self.file).convert("RGB"))


def under(picture, rows):
    """A PIL picture with named rows of others below it, {name: (N, h, w, 3) RGB in 0..1}, four as wide as it is."""
    if not rows:
        return picture
    side, gap, line = picture.width // max(4, *map(len, rows.values())), 4, 16
    sheet = Image.new("RGB", (picture.width, picture.height + len(rows) * (side + line)), "white")
    sheet.paste(picture, (0, 0))
    for i, (name, row) in enumerate(rows.items()):
        top = picture.height + i * (side + line)
        ImageDraw.Draw(sheet).text((gap, top + 2), name, fill="black", font=ImageFont.load_default())
        for column, each in enumerate(row):
            tile = Image.fromarray(to_pixels(_tile(each, side - gap).movedim(-1, 0)))
            sheet.paste(tile, (column * side + gap // 2, top + line))
    return sheet


def _tile(picture, side=TILE):
    """(h, w, 3) -> (side, side, 3), whole, on white."""
    scale = side / max(picture.shape[:2])
    size = [max(1, round(length * scale)) for length in picture.shape[:2]]
    rows = F.interpolate(picture.float().cpu().movedim(-1, 0)[None], size=size, mode="nearest-exact")[0].movedim(0, -1)
    tile = torch.ones(side, side, 3)
    tile[: size[0], : size[1]] = rows.clamp(0, 1)
    return tile
