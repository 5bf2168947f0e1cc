"""What the exact world draws: portraits straight as latents, every latent pixel of one region.

A *layout* (position, glasses, hat, and in a scene scale and place) says which region each pixel belongs to; attributes
say which colour a region has. The shapes and colours are `portraits`', at any grid.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F

from .. import portraits as P

#: Smallest and largest latents that can be drawn, and the smallest that hold a scene.
SMALLEST, LARGEST, SMALLEST_SCENE = 8, 128, 32
GROUPS = (*P.GROUPS, "teal")
REGIONS = P.REGIONS
#: RGB of every region, (colours, 3).
PALETTES = P.PALETTES | {"shirt": torch.cat([P.PALETTES["shirt"], torch.tensor([[0.10, 0.62, 0.62]])])}
#: Which attribute a region's colour states.
STATES = {"shirt": "group", "skin": "skin", "hair": "hair", "background": "background"}
#: Standard deviation of every region's white texture, in latents.
TEXTURE = {"background": 0.15, "shirt": 0.25, "skin": 0.12, "hair": 0.45, "ink": 0.1, "mouth": 0.1, "hat": 0.15}
TEXTURE["object"] = 0.2
#: A distorted picture is mixed with a pale grey, and this much of a white texture is left.
WASH, PALE, SMEARED = 0.5, 0.85, 0.4

CHANNELS = 4
#: An isometry from RGB to them, the corners of a tetrahedron, and how far colours lie apart in latents.
FRAME = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]) / 2
CONTRAST = 4.0

#: Scales of a portrait, as shares of the picture, and the nine places that a smaller one has in it.
SCALES = (1, 3 / 4, 1 / 2, 1 / 4)
PLACES = ("northwest", "north", "northeast", "west", "centre", "east", "southwest", "south", "southeast")
#: What stands around a portrait in a scene; the first is nothing.
COMPANY = ("alone", "balls", "boxes", "trees")
OBJECT_COLOURS = torch.tensor([[0.85, 0.45, 0.15], [0.25, 0.25, 0.55], [0.95, 0.95, 0.95]])


def to_latent(rgb):
    """(..., 3) RGB in 0..1 -> (..., 4) latents."""
    return CONTRAST * (rgb - 0.5) @ FRAME.T


def to_rgb(latents):
    """(N, 4, H, W) latents -> (N, 3, H, W) RGB in 0..1."""
    return (torch.einsum("nchw,cd->ndhw", latents, FRAME) / CONTRAST + 0.5).clamp(0, 1)


def washed(rgb, distorted):
    """A colour as it is where the picture is distorted."""
    return rgb * (1 - WASH) + WASH * PALE if distorted else rgb


@cache
def portrait(size, glasses, hat):
    """(size, size) region of every pixel of one portrait in the middle."""
    masks = P.region_masks(glasses=glasses, hat=hat)[None]
    if size <= P.SIZE:
        return F.adaptive_avg_pool2d(masks, size)[0].argmax(0)
    return F.interpolate(masks, size=(size, size), mode="bilinear")[0].argmax(0)


def moved(regions, x, y):
    """A portrait moved by whole pixels; what comes in at an edge repeats that edge."""
    height, width = regions.shape
    rows = (torch.arange(height) - y).clamp(0, height - 1)
    columns = (torch.arange(width) - x).clamp(0, width - 1)
    return regions[rows[:, None], columns]


def offsets(size):
    """(x, y) moves of a portrait in latent pixels: up to a sixteenth of it sideways, a thirty-second up and down."""
    step = max(1, size // P.SIZE)
    across, along = (range(-(size // d // step) * step, size // d + 1, step) for d in (16, 32))
    return [(x, y) for x in across for y in along]


@dataclass(frozen=True)
class Layouts:
    """Every layout of a world.

    Attributes:
        table: {name: (L,)} x and y in latent pixels, glasses, hat, scale and place as indices.
        regions: (L, n, n) index into `REGIONS`.
        log_share: (L,) log probability of a layout's position, given its scale.
        free: (L, 4) whether the portrait leaves a corner of the picture to an object.
    """

    table: dict
    regions: torch.Tensor
    log_share: torch.Tensor
    free: torch.Tensor


def layouts(grid, scenes):
    """All `Layouts` of a grid; in a scene portraits of every scale at their places."""
    rows, regions, free = [], [], []
    background = REGIONS.index("background")
    for scale, share in enumerate(SCALES if scenes else SCALES[:1]):
        size = round(grid * share)
        places = range(len(PLACES)) if scale else [PLACES.index("centre")]
        moves = offsets(size)
        for place in places:
            top, left = ((grid - size) * i // 2 for i in divmod(place, 3))
            for x, y in moves:
                for glasses, hat in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    picture = torch.full((grid, grid), background)
                    picture[top : top + size, left : left + size] = moved(portrait(size, glasses, hat), x, y)
                    regions.append(picture)
                    rows.append((x, y, glasses, hat, scale, place, -math.log(len(moves))))
                    free.append([not _meet((top, left, size), (*corner, grid // 4)) for corner in corners(grid)])
    columns = list(zip(*rows))
    names = ("x", "y", "glasses", "hat", "scale", "place")
    table = {name: torch.tensor(column) for name, column in zip(names, columns)}
    return Layouts(table, torch.stack(regions), torch.tensor(columns[-1]), torch.tensor(free))


def corners(grid):
    """(top, left) of the four corners in which objects can stand, each a quarter of the picture wide."""
    far = grid - grid // 4
    return [(0, 0), (0, far), (far, 0), (far, far)]


def _meet(one, other):
    """Whether two squares, (top, left, size) each, overlap."""
    return all(one[i] < other[i] + other[2] and other[i] < one[i] + one[2] for i in (0, 1))


def object_masks(grid):
    """(4, 3, n, n) pixels of a ball, a box and a tree in every corner."""
    size = grid // 4
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    shapes = [u**2 + v**2 <= 0.7, (u.abs() <= 0.6) & (v.abs() <= 0.7), u.abs() <= (v + 1) / 2]
    masks = torch.zeros(4, len(shapes), grid, grid)
    for i, (top, left) in enumerate(corners(grid)):
        masks[i, :, top : top + size, left : left + size] = torch.stack(shapes).float()
    return masks


def corner_masks(grid):
    """(4, n, n) all pixels of every corner."""
    masks = torch.zeros(4, grid, grid)
    for i, (top, left) in enumerate(corners(grid)):
        masks[i, top : top + grid // 4, left : left + grid // 4] = 1
    return masks
