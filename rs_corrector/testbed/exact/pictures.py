"""What can be drawn and how often: attributes, the population, drawings."""

import torch

from . import drawing

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
#: In each corner of a scene stands nothing, or one of three things in one of three colours.
CORNERS = ("corner 1", "corner 2", "corner 3", "corner 4")
OBJECTS = (len(drawing.COMPANY) - 1) * len(drawing.OBJECT_COLOURS)


class Pictures:
    """Portraits at one grid, with five planted stereotypes, each of a group of its own.

    Args:
        grid: latents are (4, grid, grid).
        texture: "white", or "pink" for a spectrum of one over the frequency.
        rates: a name in `RATES`.
        scenes: portraits of four scales at nine places among objects, and not only such that fill the picture.

    Raises:
        ValueError: a grid, texture, rate or scene that cannot be drawn.

    Attributes:
        groups, sizes, column, planted, content, ordered: as `comparison` asks for them.
        tables: {attribute: probabilities (G, K) by group, or (K,)} where captions say nothing.
        layouts: `drawing.Layouts`.
        colours: {region: (2, K, 4)} latents, clear and distorted. deviations: {region: (2,)} of a white texture.
    """

    groups, planted, ordered = drawing.GROUPS, PLANTED, ("skin", "x", "y")

    def __init__(self, grid, texture="white", rates="strong", scenes=False):
        check(grid, texture, rates, scenes)
        self.grid, self.texture, self.scenes = grid, texture, scenes
        self.layouts = drawing.layouts(grid, scenes)
        palettes = drawing.PALETTES | {"object": drawing.OBJECT_COLOURS}
        if texture == "pink":
            palettes["skin"] = palettes["skin"][list(FEW_TONES)]
        self.sizes = {attribute: len(palettes[region]) for region, attribute in drawing.STATES.items()}
        self.sizes |= {name: 2 * int(self.layouts.table[name].max()) + 1 for name in ("x", "y")}
        self.sizes |= {"glasses": 2, "hat": 2, "distorted": 2}
        if scenes:
            self.sizes |= {"scale": len(drawing.SCALES), "place": len(drawing.PLACES)}
            self.sizes |= dict.fromkeys(CORNERS, 1 + OBJECTS)
        self.column = {name: i for i, name in enumerate(self.sizes)}
        content = [name for name, size in self.sizes.items() if name != "group" and size > 1]
        self.content = {name: int(name == "skin" and texture == "white") for name in content}
        self.colours = {
            region: torch.stack([drawing.to_latent(drawing.washed(rgb, distorted)) for distorted in (0, 1)])
            for region, rgb in palettes.items()
        }
        self.deviations = {
            region: torch.tensor([1.0, drawing.SMEARED]) * deviation for region, deviation in drawing.TEXTURE.items()
        }
        self.tables = self._population(*RATES[rates])

    def _population(self, inside, elsewhere):
        sizes = self.sizes | ({"company": len(drawing.COMPANY)} if self.scenes else {})
        tables = {name: torch.full((k,), 1 / k) for name, k in sizes.items() if name not in CORNERS}
        for name, (group, value) in self.planted.items():
            others = self.sizes[name] - 1
            rate = torch.full((len(self.groups),), elsewhere)
            rate[self.groups.index(group)] = inside
            tables[name] = ((1 - rate) / others)[:, None].repeat(1, others + 1)
            tables[name][:, value] = rate
        return tables

    def population(self, count, generator, **stated):
        """(N, A) attributes of pictures as the population has them; `stated` fixes some of them by value.

        Raises:
            ValueError: an attribute that cannot be fixed, or a place that the scale does not have.
        """
        if unknown := stated.keys() - (self.sizes.keys() - set(CORNERS)):
            raise ValueError(
                f"expected attributes of this world, but no objects, got {sorted(unknown)}; leave them out"
            )
        rows = torch.zeros(count, len(self.sizes), dtype=torch.long)

        def drawn(name):
            table = self.tables[name]
            chances = table[rows[:, self.column["group"]]] if table.ndim == 2 else table.expand(count, -1)
            return torch.multinomial(chances, 1, generator=generator)[:, 0]

        for name in self.column:  # the group comes first
            if name in self.tables:
                rows[:, self.column[name]] = stated.get(name, drawn(name))
        known = [name for name in ("glasses", "hat", "scale", "place", "x", "y") if name in self.column]
        named = [name for name in known if name in stated or name in ("glasses", "hat", "scale")]
        fits = torch.stack(
            [self.layouts.table[name] + self._middle(name) == rows[:, self.column[name], None] for name in named]
        ).all(0)
        if not fits.any(1).all():
            raise ValueError(f"expected a layout that portraits have, got {stated}; leave place, x or y out")
        layout = torch.multinomial(fits.float(), 1, generator=generator)[:, 0]
        for name in self.layouts.table.keys() & self.column.keys():
            rows[:, self.column[name]] = self.layouts.table[name][layout] + self._middle(name)
        if self.scenes:
            self._furnish(rows, drawn("company"), self.layouts.free[layout], generator)
        return rows

    def _furnish(self, rows, company, free, generator):
        """Objects of one kind in half of the free corners, each in a colour of its own."""
        stands = (torch.rand(free.shape, generator=generator) < 0.5) & free & (company > 0)[:, None]
        colours = torch.randint(len(drawing.OBJECT_COLOURS), free.shape, generator=generator)
        things = 1 + (company[:, None] - 1) * len(drawing.OBJECT_COLOURS) + colours
        rows[:, [self.column[name] for name in CORNERS]] = things * stands

    def _middle(self, name):
        """What is added to a layout's move, in latent pixels, for a value that counts from 0."""
        return self.sizes[name] // 2 if name in ("x", "y") else 0

    def layout_index(self, attributes):
        """(N, A) -> (N,) index into `layouts`."""
        names = [name for name in self.layouts.table if name in self.column]
        known = torch.stack([self.layouts.table[name] + self._middle(name) for name in names], 1)
        same = (attributes[:, None, [self.column[name] for name in names]] == known).all(2)
        if not same.any(1).all():
            raise ValueError("expected attributes that can be drawn, got a position that portraits do not have")
        return same.float().argmax(1)

    def mean(self, attributes):
        """Pictures without their texture, (N, 4, n, n), and that texture's deviation, (N, 1, n, n)."""
        regions = self.layouts.regions[self.layout_index(attributes)].flatten(1)
        distorted = attributes[:, self.column["distorted"]]
        palette, deviation = [], []
        for region in drawing.REGIONS:
            states = drawing.STATES.get(region)
            value = attributes[:, self.column[states]] if states else torch.zeros_like(distorted)
            palette.append(self.colours[region][distorted, value])
            deviation.append(self.deviations[region][distorted])
        colours = torch.stack(palette, 1).gather(1, regions[..., None].expand(-1, -1, drawing.CHANNELS))
        mean = colours.mT.unflatten(2, (self.grid, self.grid)).contiguous()
        spread = torch.stack(deviation, 1).gather(1, regions).view(-1, 1, self.grid, self.grid)
        for corner, name in enumerate(CORNERS if self.scenes else ()):
            self._place(mean, spread, attributes[:, self.column[name]], corner, distorted)
        return mean, torch.full_like(spread, PINK) if self.texture == "pink" else spread

    def _place(self, mean, spread, thing, corner, distorted):
        """Draw an object into one corner of every picture that has one there."""
        thing_or_first, colours = thing.clamp_min(1) - 1, len(drawing.OBJECT_COLOURS)
        kind, colour = thing_or_first // colours, thing_or_first % colours
        here = drawing.object_masks(self.grid)[corner][kind].bool() & (thing > 0)[:, None, None]
        mean.copy_(torch.where(here[:, None], self.colours["object"][distorted, colour][..., None, None], mean))
        spread.copy_(torch.where(here[:, None], self.deviations["object"][distorted].view(-1, 1, 1, 1), spread))

    def draw(self, attributes, generator):
        """Pictures with their texture: (N, A) -> (N, 4, n, n) latents."""
        mean, deviation = self.mean(attributes)
        noise = torch.randn(mean.shape, generator=generator)
        if self.texture == "white":
            return mean + deviation * noise
        amplitude = pink_spectrum(self.grid).sqrt()
        return mean + torch.fft.ifft2(torch.fft.fft2(noise, norm="ortho") * amplitude, norm="ortho").real

    def drawing(self, attributes):
        """The first of `mean`, as `comparison` asks for it."""
        return self.mean(attributes)[0]


def pink_spectrum(grid):
    """(n, n) variance of each Fourier coefficient: one over the squared frequency, `PINK` squared on average."""
    frequency = torch.fft.fftfreq(grid) * grid
    power = 1 / (frequency[:, None] ** 2 + frequency**2).clamp_min(1)
    return PINK**2 * power / power.mean()


def check(grid=drawing.SMALLEST, texture=TEXTURES[0], rates="strong", scenes=False):
    """Refuse what cannot be drawn.

    Raises:
        ValueError: says what can.
    """
    for value, known, what in ((texture, TEXTURES, "texture"), (rates, tuple(RATES), "rate")):
        if value not in known:
            raise ValueError(f"expected a {what} out of {', '.join(known)}, got {value!r}; take one of those")
    if not drawing.SMALLEST <= grid <= drawing.LARGEST:
        raise ValueError(
            f"expected a grid from {drawing.SMALLEST} to {drawing.LARGEST} latent pixels, got {grid}; take one of those"
        )
    if scenes and (grid < drawing.SMALLEST_SCENE or grid % 4 or texture != "white"):
        raise ValueError(
            f"expected a white texture and a grid of {drawing.SMALLEST_SCENE} or more, a multiple of 4, for scenes, "
            f"got {texture} and {grid}; take those, or no scenes"
        )
