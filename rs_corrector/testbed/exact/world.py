"""A world whose every probability is known: what can be drawn, the exact denoiser, exact readers."""

import math
from typing import NamedTuple

import torch
from torch import nn

from ..sampling import euler
from . import captions, drawing
from .texture import CHANNELS, Spectral, White

TEXTURES = ("white", "pink")
#: Rate of a planted stereotype in its group, and elsewhere.
RATES = {"strong": (0.95, 0.05), "moderate": (0.60, 0.20)}
#: What is planted: attribute -> (group, value).
PLANTED = {
    "hat": ("green", 1),
    "distorted": ("gold", 1),
    "hair": ("blue", 4),
    "background": ("crimson", 2),
    "glasses": ("teal", 1),
}
#: Skin tones where colourings are enumerated.
FEW_TONES = (0, 4, 9)
#: Standard deviation of a pink texture, whose amplitude falls as one over the frequency.
PINK = 0.3
#: Noise level at which clean pictures are read.
READING_SIGMA = 0.05
CHUNK = {"white": 64, "pink": 16}
#: What stands in each corner of a scene: nothing, or one of three things in one of three colours.
CORNERS = ("corner 1", "corner 2", "corner 3", "corner 4")
KINDS_OF_OBJECT = len(drawing.COMPANY) - 1
OBJECTS = KINDS_OF_OBJECT * len(drawing.OBJECT_COLOURS)
_FREE = ("group", "skin", "hair", "background")


class Reading(NamedTuple):
    """What the likeliest picture behind latents is.

    Attributes:
        attributes: (N, A) int64 in the order of `World.attributes`.
        residual: (N, 4, n, n) signed distance to that picture without its texture, in deviations of the texture.
    """

    attributes: torch.Tensor
    residual: torch.Tensor


class World(nn.Module):
    """Portraits at one grid, with five planted stereotypes, each of a group of its own.

    A Module only to be moved as one; nothing in it is learnt.

    Args:
        grid: latents are (4, grid, grid).
        texture: "white", or "pink" for a spectrum of one over the frequency.
        rates: a name in `RATES`.
        scenes: portraits of three scales at nine places among objects, and not only such that fill the picture.

    Raises:
        ValueError: a grid, texture, rate or scene that it cannot draw.
    """

    def __init__(self, grid, texture="white", rates="strong", scenes=False):
        super().__init__()
        _need(grid, drawing.GRIDS, "grid")
        _need(texture, TEXTURES, "texture")
        _need(rates, tuple(RATES), "rates")
        smallest = drawing.SMALLEST * drawing.SCALES[-1]
        if scenes and (grid < smallest or texture != "white"):
            raise ValueError(
                f"expected a grid of {smallest} or more and a white texture for scenes, got {grid} and {texture}; "
                "take those, or portraits that fill the picture"
            )
        self.grid, self.texture, self.scenes = grid, texture, scenes
        self.layouts = drawing.layouts(grid, scenes)
        self.rates = RATES[rates]
        self.palettes = drawing.PALETTES | {"object": drawing.OBJECT_COLOURS}
        if texture == "pink":
            self.palettes["skin"] = self.palettes["skin"][list(FEW_TONES)]
        self.attributes = {
            **{name: len(self.palettes[region]) for region, name in sorted(drawing.STATES.items(), key=_by_name)},
            "glasses": 2,
            "x": int(self.layouts.table["x"].max()) * 2 + 1,
            "y": int(self.layouts.table["y"].max()) * 2 + 1,
            "hat": 2,
            "distorted": 2,
        }
        if scenes:
            self.attributes |= {"scale": len(drawing.SCALES), "place": len(drawing.PLACES)}
            self.attributes |= {name: 1 + OBJECTS for name in CORNERS}
        self.column = {name: i for i, name in enumerate(self.attributes)}
        self.colours = {
            region: torch.stack([drawing.to_latent(drawing.washed(rgb, distorted)) for distorted in (0, 1)])
            for region, rgb in self.palettes.items()
        }
        self.deviations = {
            region: torch.tensor([1.0, drawing.SMEARED]) * deviation
            for region, deviation in (drawing.TEXTURE | {"object": drawing.OBJECT_TEXTURE}).items()
        }
        self.density = (
            White(self.layouts, self.colours, self.deviations)
            if texture == "white"
            else Spectral(self.layouts, self.colours, pink_spectrum(grid))
        )
        self.tables = self._population()

    @property
    def groups(self):
        return drawing.GROUPS

    @property
    def planted(self):
        """{attribute: (group, value)}."""
        return PLANTED

    @property
    def sizes(self):
        return self.attributes

    @property
    def content(self):
        """What a correction should leave alone, with the difference that still counts as the same."""
        return {name: int(name == "skin" and self.texture == "white") for name in self.attributes if name != "group"}

    @property
    def ordered(self):
        return ("skin", "x", "y")

    def inspect(self, z):
        """`read`, as `comparison` asks for it."""
        return self.read(z)

    def shows(self, kind, attributes):
        """Where pictures with these attributes are drawn otherwise if they show a planted value: (N, n, n) flags."""
        value = self.planted[kind][1]
        with_it, without = attributes.clone(), attributes.clone()
        with_it[:, self.column[kind]] = value
        without[:, self.column[kind]] = torch.where(
            attributes[:, self.column[kind]] == value, int(value == 0), attributes[:, self.column[kind]]
        )
        return (self.mean(with_it)[0] != self.mean(without)[0]).any(1)

    def _population(self):
        """{attribute: probabilities (G, K) by group, or (K,)} where captions say nothing."""
        groups = len(self.groups)
        sizes = self.attributes | ({"company": len(drawing.COMPANY)} if self.scenes else {})
        tables = {name: torch.full((k,), 1 / k) for name, k in sizes.items() if name not in CORNERS}
        inside, elsewhere = self.rates
        for name, (group, value) in self.planted.items():
            others = self.attributes[name] - 1
            rate = torch.full((groups,), elsewhere)
            rate[self.groups.index(group)] = inside
            tables[name] = ((1 - rate) / others)[:, None].repeat(1, others + 1)
            tables[name][:, value] = rate
        return tables

    def prior(self, level):
        """Log probabilities of everything under captions of these levels, (B, V) as `captions.levels` returns them."""
        stated = ("group", "hair", "background", "hat", "glasses", "distorted", "scale", "place", "company")
        tables = {name: captions.stated(self.tables[name], name, level) for name in stated if name in self.tables}
        tables["skin"] = self.tables["skin"].log().expand(len(level), -1)
        tables["layout"] = torch.zeros(len(level), len(self.layouts.regions))
        return tables

    def denoise(self, x, sigma, level, signal=1.0):
        """The posterior mean E[z | x], exactly: the gradient of the log-partition function.

        Args:
            x: (B, 4, n, n) = signal * z + sigma * n.
            sigma: (B,). signal: a number or (B,); 0 gives the mean of what captions leave possible.
            level: (B, V), what captions state.
        """
        if x.shape[1:] != (CHANNELS, self.grid, self.grid):
            raise ValueError(f"expected latents of shape {(CHANNELS, self.grid, self.grid)}, got {tuple(x.shape[1:])}")
        signal = torch.as_tensor(signal, dtype=x.dtype).expand(len(x))
        rows = zip(*(t.split(CHUNK[self.texture]) for t in (x, sigma, signal, level)))
        return torch.cat([self._mean(*row) for row in rows])

    def _mean(self, x, sigma, signal, level):
        with torch.inference_mode(False), torch.enable_grad():  # ComfyUI runs whole prompts in inference mode
            eta = (x * (signal / sigma**2).view(-1, 1, 1, 1)).requires_grad_()
            partition = self.density(eta, (signal / sigma) ** 2, self.prior(level + 0))
            return torch.autograd.grad(partition.sum(), eta)[0]

    def posterior(self, x, sigma, level, signal=1.0):
        """{attribute: (B, K)} probabilities given noisy pictures: gradients by the log prior.

        Positions come as "layout", (B, L).
        """
        signal, found = torch.as_tensor(signal, dtype=x.dtype).expand(len(x)), []
        for one in zip(*(t.split(CHUNK[self.texture]) for t in (x, sigma, signal, level))):
            with torch.inference_mode(False), torch.enable_grad():
                picture, noise, share, said = one
                prior = {name: table.clone().requires_grad_() for name, table in self.prior(said + 0).items()}
                eta = picture * (share / noise**2).view(-1, 1, 1, 1)
                partition = self.density(eta, (share / noise) ** 2, prior)
                used = torch.autograd.grad(partition.sum(), list(prior.values()))
                found.append({n: g.sum(1) if n in PLANTED else g for n, g in zip(prior, used)})
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}

    @torch.no_grad()
    def read(self, z):
        """The `Reading` of (N, 4, n, n) clean latents, under a prior by which nothing is likelier than another."""
        kept, self.tables = self.tables, {n: torch.full_like(t, 1 / t.shape[-1]) for n, t in self.tables.items()}
        try:
            level = torch.zeros(len(z), len(captions.PHRASES))
            posterior = self.posterior(z, torch.full((len(z),), READING_SIGMA), level)
        finally:
            self.tables = kept
        layout = posterior["layout"].argmax(1)
        values = {name: posterior[name].argmax(1) for name in self.attributes if name in posterior}
        values |= {n: t[layout] + (self.attributes[n] // 2 if n in "xy" else 0) for n, t in self.layouts.table.items()}
        if self.scenes:
            values |= dict.fromkeys(CORNERS, torch.zeros_like(layout))
        attributes = torch.stack([values[name] for name in self.attributes], 1)
        if self.scenes:
            self._read_corners(z, attributes)
        mean, deviation = self.mean(attributes)
        return Reading(attributes, (z - mean) / deviation)

    def _read_corners(self, z, attributes):
        """Fill in what stands in free corners: what makes its corner likeliest, the rest of the picture known."""
        free = self.layouts.free[self.layout_index(attributes)]
        corners, columns = drawing.corner_masks(self.grid), [self.column[name] for name in CORNERS]
        costs = []
        for thing in range(1 + OBJECTS):
            attributes[:, columns] = thing * free.long()
            mean, deviation = self.mean(attributes)
            cost = ((z - mean) / deviation).square().sum(1) + 2 * CHANNELS * deviation[:, 0].log()
            costs.append(torch.einsum("nhw,jhw->nj", cost, corners))
        attributes[:, columns] = torch.stack(costs).argmin(0) * free

    def population(self, count, generator, **stated):
        """(N, A) attributes of pictures as the population has them; `stated` fixes some of them by value."""
        rows = torch.zeros(count, len(self.attributes), dtype=torch.long)
        groups = torch.randint(len(self.groups), (count,), generator=generator)
        rows[:, self.column["group"]] = groups = torch.full_like(groups, stated.get("group", -1)).where(
            torch.tensor("group" in stated), groups
        )
        for name, table in self.tables.items():
            if name in self.column and name not in ("group", "x", "y"):
                chances = table[groups] if table.ndim == 2 else table.expand(count, -1)
                rows[:, self.column[name]] = torch.multinomial(chances, 1, generator=generator)[:, 0]
        for name, value in stated.items():
            rows[:, self.column[name]] = value
        picks = torch.rand(count, generator=generator)
        company = torch.multinomial(self.tables["company"], count, True, generator=generator) if self.scenes else None
        for i in range(count):  # a position among those that the layout's scale has
            where = self._layouts_of(rows[i]).nonzero()[:, 0]
            layout = where[int(picks[i] * len(where))]
            for name in ("x", "y"):
                rows[i, self.column[name]] = self.layouts.table[name][layout] + self.attributes[name] // 2
            if self.scenes:
                rows[i, self.column["place"]] = self.layouts.table["place"][layout]
                self._furnish(rows[i], int(company[i]), self.layouts.free[layout], generator)
        return rows

    def _furnish(self, row, company, free, generator):
        """Objects of one kind in half of the free corners, each in a colour of its own."""
        stands = (torch.rand(4, generator=generator) < 0.5) & free
        colours = torch.randint(len(drawing.OBJECT_COLOURS), (4,), generator=generator)
        things = 1 + (company - 1) * len(drawing.OBJECT_COLOURS) + colours
        row[[self.column[name] for name in CORNERS]] = things * stands if company else torch.zeros(4, dtype=torch.long)

    def _layouts_of(self, row):
        """(L,) flags of the layouts that go with a picture's attributes, its position left open."""
        names = ("glasses", "hat", "scale") if self.scenes else ("glasses", "hat")
        fits = torch.stack([self.layouts.table[name] == row[self.column[name]] for name in names]).all(0)
        if self.scenes and row[self.column["scale"]]:
            fits &= self.layouts.table["place"] == row[self.column["place"]]
        return fits

    def layout_index(self, attributes):
        """(N, A) -> (N,) index into `layouts`."""
        names = [name for name in self.layouts.table if name in self.column]
        shift = {"x": self.attributes["x"] // 2, "y": self.attributes["y"] // 2}
        keys = torch.stack([self.layouts.table[name] + shift.get(name, 0) for name in names], 1)
        wanted = attributes[:, [self.column[name] for name in names]]
        same = (wanted[:, None] == keys).all(2)
        if not same.any(1).all():
            raise ValueError("expected attributes that this world can draw, got a position that it does not have")
        return same.float().argmax(1)

    def mean(self, attributes):
        """(N, 4, n, n) pictures without their texture, and their texture's deviation (N, 1, n, n)."""
        regions = self.layouts.regions[self.layout_index(attributes)]
        distorted = attributes[:, self.column["distorted"]]
        zero = torch.zeros_like(distorted)
        palette, deviation = [], []
        for region in drawing.REGIONS:
            name = drawing.STATES.get(region)
            choice = attributes[:, self.column[name]] if name else zero
            palette.append(self.colours[region][distorted, choice])
            deviation.append(self.deviations[region][distorted])
        index = regions.flatten(1)
        colours = torch.stack(palette, 1).gather(1, index[..., None].expand(-1, -1, CHANNELS))
        spread = torch.stack(deviation, 1).gather(1, index)
        if self.texture == "pink":
            spread = torch.full_like(spread, PINK)
        mean = colours.mT.unflatten(2, regions.shape[1:]).contiguous()
        spread = spread.view(-1, 1, *regions.shape[1:])
        for corner, name in enumerate(CORNERS if self.scenes else ()):
            self._place(mean, spread, attributes[:, self.column[name]], corner, distorted)
        return mean, spread

    def _place(self, mean, spread, thing, corner, distorted):
        """Draw an object into one corner of every picture that has one there."""
        count = len(drawing.OBJECT_COLOURS)
        kind, colour = (thing - 1).clamp_min(0) // count, (thing - 1).clamp_min(0) % count
        here = drawing.object_masks(self.grid)[corner][kind].bool() & (thing > 0)[:, None, None]
        picked = self.colours["object"][distorted, colour][:, :, None, None]
        mean.copy_(torch.where(here[:, None], picked, mean))
        deviation = self.deviations["object"][distorted].view(-1, 1, 1, 1)
        spread.copy_(torch.where(here[:, None], deviation, spread))

    def draw(self, attributes, generator):
        """Pictures with their texture: (N, A) -> (N, 4, n, n) latents."""
        mean, deviation = self.mean(attributes)
        noise = torch.randn(mean.shape, generator=generator)
        if self.texture == "pink":
            amplitude = pink_spectrum(self.grid).sqrt()
            return mean + torch.fft.ifft2(torch.fft.fft2(noise, norm="ortho") * amplitude, norm="ortho").real
        return mean + deviation * noise

    @torch.inference_mode()
    def sample(self, said, seed, sigmas, cfg=3.0, correct=None, latents=None, mask=None, flow=False):
        """Euler sampling: one caption a picture -> (N, 4, n, n) clean latents; arguments as `sampling.euler`'s."""
        level, nothing = captions.levels(said), torch.zeros(len(said), len(captions.PHRASES))

        def guided(x, sigma):
            signal = 1 - sigma if flow else 1.0
            positive = self.denoise(x, sigma, level, signal)
            if cfg == 1:
                return positive
            negative = self.denoise(x, sigma, nothing, signal)
            return negative + cfg * (positive - negative)

        shape = (len(said), CHANNELS, self.grid, self.grid)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return euler(guided, sigmas, noise, correct, latents, mask, flow)


def pink_spectrum(grid):
    """(n, n) variance of each Fourier coefficient: one over the squared frequency, `PINK` squared on average."""
    frequency = torch.fft.fftfreq(grid) * grid
    squared = frequency[:, None] ** 2 + frequency**2
    power = 1 / squared.clamp_min(1)
    return PINK**2 * power / power.mean()


def stretched(sigmas, top):
    """Noise levels whose lowest stays and whose highest becomes `top`, evenly in their logarithm."""
    low, high = math.log(float(sigmas[0])), math.log(float(sigmas[-1]))
    return (low + (sigmas.log() - low) * (math.log(top) - low) / (high - low)).exp()


def _need(value, known, what):
    if value not in known:
        raise ValueError(f"expected a {what} out of {', '.join(map(str, known))}, got {value!r}; take one of those")


def _by_name(item):
    return _FREE.index(item[1])
