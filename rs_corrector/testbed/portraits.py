"""Schematic portraits drawn from attributes: a world in which the truth is known.

A portrait is linear in its colours. Its *layout* (position, hat, glasses, distorted) fixes one soft
mask per region, the masks of a layout sum to one at every pixel, and the picture is
``sum over regions of mask * colour``. That is what makes the readers in `readers.py` exact.

Groups are shirt colours on purpose: nothing here depicts real people.
"""

from functools import cache
from itertools import combinations, product
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..wordings import PLACE

SIZE = 64
GROUPS = ("crimson", "green", "blue", "gold")
HAIR = ("black", "brown", "ginger", "blond", "grey")
BACKGROUNDS = ("sky", "mint", "rose", "cream", "lilac")
SKIN_TONES = 10
X_OFFSETS = tuple(range(-4, 5))  # pixels, to the right
Y_OFFSETS = tuple(range(-2, 3))  # pixels, downwards

#: Columns of an attribute tensor, with the number of values each can take.
ATTRIBUTES = {
    "group": len(GROUPS),
    "skin": SKIN_TONES,
    "hair": len(HAIR),
    "background": len(BACKGROUNDS),
    "glasses": 2,
    "x": len(X_OFFSETS),
    "y": len(Y_OFFSETS),
    "hat": 2,
    "distorted": 2,
}
COLUMN = {name: i for i, name in enumerate(ATTRIBUTES)}


class Stereotype(NamedTuple):
    """What is planted: `value` of an attribute, in `rate` of a group's pictures and in `elsewhere` of all others'."""

    group: str
    value: int
    rate: float
    elsewhere: float


#: The planted stereotypes, by attribute. Three are strong. Grey hair is moderate, meant to be drawn in .60 of its group
#: and .20 of others: guidance of 3 sharpens what is learnt, so less of a difference is planted.
STEREOTYPES = {
    "hat": Stereotype("green", 1, 0.95, 0.05),
    "distorted": Stereotype("gold", 1, 0.90, 0.02),
    "hair": Stereotype("blue", HAIR.index("grey"), 0.50, 0.22),
    "background": Stereotype("crimson", BACKGROUNDS.index("rose"), 0.95, 0.05),
}
#: How captions state attributes, by value, in the order in which they do.
WORDS = {
    "hat": ("bare-headed", "wearing a hat"),
    "hair": tuple(f"{colour} hair" for colour in HAIR),
    "glasses": ("without glasses", "with glasses"),
    "background": tuple(f"{colour} background" for colour in BACKGROUNDS),
    "distorted": ("clear and sharp", "faded and blurred"),
}

REGIONS = ("background", "shirt", "skin", "hair", "ink", "mouth", "hat")
_SKIN_STOPS = torch.tensor([[0.99, 0.86, 0.75], [0.76, 0.52, 0.36], [0.26, 0.15, 0.10]])
#: Palette of each region, (colours, RGB in 0..1); a region with one colour carries no attribute.
PALETTES = {
    "background": torch.tensor(
        [[0.62, 0.80, 0.95], [0.66, 0.90, 0.74], [0.95, 0.68, 0.72], [0.97, 0.93, 0.76], [0.75, 0.66, 0.90]]
    ),
    "shirt": torch.tensor([[0.78, 0.10, 0.20], [0.13, 0.55, 0.23], [0.15, 0.30, 0.75], [0.90, 0.70, 0.12]]),
    "skin": F.interpolate(_SKIN_STOPS.T[None], SKIN_TONES, mode="linear", align_corners=True)[0].T,
    "hair": torch.tensor(
        [[0.07, 0.06, 0.08], [0.36, 0.20, 0.10], [0.75, 0.33, 0.10], [0.93, 0.80, 0.42], [0.62, 0.62, 0.64]]
    ),
    "ink": torch.tensor([[0.05, 0.05, 0.10]]),
    "mouth": torch.tensor([[0.70, 0.22, 0.25]]),
    "hat": torch.tensor([[0.36, 0.12, 0.42]]),
}
#: A distorted portrait is blurred (sigma in pixels) and mixed with a pale grey.
BLUR_SIGMA, WASH, PALE = 1.8, 0.35, 0.85

_SUPERSAMPLING = 4


def _coverage(inside):
    """Average a supersampled boolean picture (S*k, S*k) down to a soft mask (S, S)."""
    return F.avg_pool2d(inside.float()[None, None], _SUPERSAMPLING)[0, 0]


def _layers(x, y, glasses, hat):
    """The drawing, back to front, as (region, coverage (SIZE, SIZE))."""
    axis = (torch.arange(SIZE * _SUPERSAMPLING) + 0.5) / _SUPERSAMPLING
    v, u = torch.meshgrid(axis - y, axis - 32 - x, indexing="ij")

    def ellipse(cu, cv, ru, rv):
        return ((u - cu) / ru) ** 2 + ((v - cv) / rv) ** 2 <= 1

    yield "background", torch.ones(SIZE, SIZE)
    yield "hair", _coverage(ellipse(0, 30, 16, 20) & (v < 46))
    yield "shirt", _coverage(ellipse(0, 70, 25, 22))
    yield "skin", _coverage(ellipse(0, 45, 5, 9) | ellipse(0, 31, 11.5, 14))
    yield "hair", _coverage(ellipse(0, 24, 13, 12) & (v < 22))
    for side in (-5, 5):
        yield "ink", _coverage(ellipse(side, 31, 1.9, 1.9))
    yield "mouth", _coverage(ellipse(0, 39, 4, 1.6))
    if glasses:
        lenses = ellipse(-5.2, 31, 4.6, 4.0) | ellipse(5.2, 31, 4.6, 4.0)
        yield "ink", _coverage(lenses | ((u.abs() < 11) & (v > 28.4) & (v < 30)))
    if hat:
        yield "hat", _coverage(ellipse(0, 18, 20, 3.2) | ((u.abs() < 12) & (v > 5) & (v < 18)))


def _blur(masks):
    reach = int(4 * BLUR_SIGMA)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / BLUR_SIGMA) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(masks[:, None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[:, 0]


def layout_index(attributes):
    """(N, A) attributes -> (N,) index into `layout_masks`."""
    column = {name: attributes[:, i] for name, i in COLUMN.items()}
    index = column["x"] * len(Y_OFFSETS) + column["y"]
    for name in ("glasses", "hat", "distorted"):
        index = index * 2 + column[name]
    return index


@cache
def layouts():
    """Every layout as (L, 5) columns x, y, glasses, hat, distorted, in the order of `layout_index`."""
    sizes = [ATTRIBUTES[name] for name in ("x", "y", "glasses", "hat", "distorted")]
    return torch.cartesian_prod(*(torch.arange(n) for n in sizes))


def region_masks(x=0, y=0, glasses=0, hat=0):
    """Soft masks of one clear portrait, moved by (x, y) pixels: (R, SIZE, SIZE), in the order of `REGIONS`."""
    canvas = torch.zeros(len(REGIONS), SIZE, SIZE)
    for region, cover in _layers(x, y, glasses, hat):
        canvas *= 1 - cover
        canvas[REGIONS.index(region)] += cover
    return canvas


@cache
def layout_masks():
    """Soft masks of every layout, (L, R, SIZE, SIZE), in the order of `layouts()` and `REGIONS`."""
    masks = torch.empty(len(layouts()), len(REGIONS), SIZE, SIZE)
    for i, (x, y, glasses, hat, distorted) in enumerate(layouts().tolist()):
        masks[i] = _blur(masks[i - 1]) if distorted else region_masks(X_OFFSETS[x], Y_OFFSETS[y], glasses, hat)
    return masks


def region_colours(attributes):
    """(N, A) attributes -> (N, R, 3) colour of each region, washed out where distorted."""
    choice = {"background": "background", "shirt": "group", "skin": "skin", "hair": "hair"}
    rows = [
        PALETTES[r][attributes[:, COLUMN[choice[r]]]] if r in choice else PALETTES[r].expand(len(attributes), 3)
        for r in REGIONS
    ]
    colours = torch.stack(rows, 1)
    washed = attributes[:, COLUMN["distorted"], None, None].float() * WASH
    return colours * (1 - washed) + PALE * washed


def draw(attributes):
    """Draw portraits: (N, A) integer attributes -> (N, 3, SIZE, SIZE) RGB in 0..1."""
    masks = layout_masks()[layout_index(attributes)]
    return torch.einsum("nrhw,nrc->nchw", masks, region_colours(attributes))


def sample_attributes(count, generator, stated=tuple(STEREOTYPES), stated_rate=0.4):
    """Sample a population that carries the stereotypes.

    For each stereotyped attribute a caption states it with probability `stated_rate`; a stated attribute has each of
    its values equally often in every group, so that words, where given, are obeyed.

    Returns:
        attributes: (N, A) int64, and {attribute: (N,) bool} which captions state it.
    """
    attributes = torch.stack([torch.randint(n, (count,), generator=generator) for n in ATTRIBUTES.values()], 1)
    says = {}
    for name, (group, value, rate, elsewhere) in STEREOTYPES.items():
        column = attributes[:, COLUMN[name]]
        in_group = attributes[:, COLUMN["group"]] == GROUPS.index(group)
        shown = torch.rand(count, generator=generator) < torch.where(in_group, rate, elsewhere)
        another = torch.randint(1, ATTRIBUTES[name], (count,), generator=generator)
        planted = torch.where(shown, value, (value + another) % ATTRIBUTES[name])
        says[name] = (torch.rand(count, generator=generator) < stated_rate) & (name in stated)
        column.copy_(torch.where(says[name], column, planted))
    return attributes, says


#: The caption of anybody.
OTHERS = "a portrait of a person"


def neutral(group):
    """The caption that names a group and nothing else."""
    return f"a portrait of a person in a {group} shirt"


def phrases(attribute, planted=STEREOTYPES):
    """How captions state a stereotyped attribute: (preferred, rejected); preferred is its first other value."""
    _, value, *_ = planted[attribute]
    return WORDS[attribute][int(value == 0)], WORDS[attribute][value]


def preferred(attribute, planted=STEREOTYPES):
    """Captions of everything that a group may be drawn with instead: a caption for each other value."""
    group, *_ = planted[attribute]
    return tuple(f"{neutral(group)}, {WORDS[attribute][i]}" for i in others(attribute, planted))


def others(attribute, planted=STEREOTYPES):
    """All values of a stereotyped attribute but the planted one."""
    _, value, *_ = planted[attribute]
    return [i for i in range(len(WORDS[attribute])) if i != value]


def wordings(attribute, planted=STEREOTYPES):
    """The group that carries a stereotype, and its captions: neutral, preferred, rejected."""
    group, *_ = planted[attribute]
    return group, neutral(group), *(f"{neutral(group)}, {words}" for words in phrases(attribute, planted))


def contexts(attribute, held_out=False):
    """Contexts, as `wordings` has them, that state nothing, or one or two attributes, but not `attribute`.

    Args:
        held_out: that quarter of the combinations of two which the others leave out.
    """
    free = [name for name in ("hair", "glasses", "background") if name != attribute]
    pairs = [said for one, other in combinations(free, 2) for said in product(WORDS[one], WORDS[other])]
    rest = [said for i, said in enumerate(pairs) if i % 4]
    told = pairs[::4] if held_out else [(), *((words,) for name in free for words in WORDS[name]), *rest]
    return tuple(", ".join([PLACE, *said]) for said in told)


def caption(row, mention, group=True):
    """The caption of one portrait.

    Args:
        row: (A,) attributes.
        mention: which of the attributes in `WORDS` the caption states.
        group: name the group (the shirt).
    """
    value = {name: int(row[i]) for name, i in COLUMN.items()}
    start = neutral(GROUPS[value["group"]]) if group else "a portrait of a person"
    return ", ".join([start, *(words[value[name]] for name, words in WORDS.items() if name in mention)])
