"""The exact world is exact: against enumeration, in its limits, in what it draws and in how it is read."""

import math
import time

import pytest
import torch

from rs_corrector.metrics import wilson
from rs_corrector.testbed import model, portraits
from rs_corrector.testbed.comparison import shows
from rs_corrector.testbed.exact import PLANTED, World, captions, drawing, stretched
from rs_corrector.testbed.exact.pictures import CORNERS, pink_spectrum

TOP = 58.4  # noise in which nothing is left of a picture of 8x8 latents


@pytest.fixture(scope="module")
def world():
    return World(8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def hypotheses(world, tables):
    """Every combination of attributes without objects that is possible, (N, A), and its log probability."""
    rows = torch.cartesian_prod(*(torch.arange(size) for size in world.sizes.values()))
    total = torch.zeros(len(rows))
    for name, table in tables.items():
        own = rows[:, world.column[name]]
        total += (table[rows[:, world.column["group"]], own] if table.ndim == 2 else table[own]).log()
    return rows[total > -torch.inf], total[total > -torch.inf]


def held(world, **values):
    """The population, with some attributes certain."""
    for name, value in values.items():
        world.tables[name] = torch.nn.functional.one_hot(torch.tensor(value), world.sizes[name]).float()
        if name in PLANTED:
            world.tables[name] = world.tables[name].expand(len(world.groups), -1)
    return world


def enumerated(world, x, sigma, signal, rows, log_prior):
    """E[z | x] of one noisy picture by adding up every hypothesis, in double precision."""
    mean, deviation = (t.double().flatten(2) for t in world.mean(rows))
    apart = x.double().flatten(1) - signal * mean
    if world.texture == "pink":
        transform = torch.fft.fft2(torch.eye(world.grid**2).view(-1, world.grid, world.grid), norm="ortho").flatten(1)
        covariance = (transform.T @ (pink_spectrum(world.grid).flatten()[:, None] * transform.conj())).real.double()
        total = signal**2 * covariance + sigma**2 * torch.eye(len(covariance), dtype=torch.double)
        solved = apart @ torch.linalg.inv(total)
        fit = -0.5 * (solved * apart).sum((1, 2))
        posterior = mean + signal * solved @ covariance
    else:
        total = signal**2 * deviation.square() + sigma**2
        fit = -0.5 * (apart.square() / total + total.log()).sum((1, 2))
        posterior = mean + signal * deviation.square() / total * apart
    weight = torch.softmax(fit + log_prior.double(), 0)
    return torch.einsum("n,ncp->cp", weight, posterior).view_as(x)


@pytest.mark.parametrize("grid, texture", [(8, "white"), (8, "pink"), (16, "white")])
@pytest.mark.parametrize("said", ["", portraits.neutral("green"), "a person, wearing a hat, grey hair"])
def test_the_denoiser_is_the_mean_over_everything_that_can_be_drawn(grid, texture, said):
    world = World(grid, texture)
    if grid > 8:  # portraits move there; fewer colours keep the enumeration small
        held(world, skin=3, background=1)
    level = captions.levels([said])
    tables = {
        name: captions.stated(table, name, level)[0].exp() if name not in ("x", "y", "skin") else table
        for name, table in world.tables.items()
    }
    rows, log_prior = hypotheses(world, tables)
    z = world.draw(world.population(1, generator(3)), generator(4))
    for sigma, signal in ((0.3, 1.0), (2.0, 1.0), (6.0, 1.0), (0.7, 0.3), (1.0, 0.0)):
        x = signal * z + sigma * torch.randn(z.shape, generator=generator(5))
        expected = enumerated(world, x[0], sigma, signal, rows, log_prior)
        found = world.denoise(x, torch.tensor([sigma]), level, signal)[0]
        assert (found - expected).abs().max() < 2e-3, (sigma, signal)


def test_captions_change_what_is_likely_and_nothing_else():
    level = captions.levels(["a portrait of a person in a blue shirt, black hair, with glasses"])
    world = World(8)
    prior = {name: table.exp() for name, table in world.prior(level).items()}
    assert prior["group"][0].tolist() == [0, 0, 1, 0, 0]
    torch.testing.assert_close(prior["hair"][0, :, 0], torch.ones(5))
    torch.testing.assert_close(prior["glasses"][0, :, 1], torch.ones(5))
    torch.testing.assert_close(prior["hat"][0], world.tables["hat"])
    half = world.prior(level / 2)["hair"].exp()[0]
    torch.testing.assert_close(half, (world.tables["hair"] + prior["hair"][0]) / 2)


def test_objects_of_a_scene_are_added_up_too():
    """All but background, company and objects is held fixed, so that what is left can be enumerated."""
    world = World(32, scenes=True)
    known = {"group": 1, "skin": 3, "hair": 2, "glasses": 0, "hat": 1, "distorted": 0, "scale": 3, "place": 4}
    held(world, **known)
    (layout,) = (
        torch.stack([world.layouts.table[n] == known[n] for n in ("glasses", "hat", "scale", "place")]).all(0).nonzero()
    )
    assert world.layouts.free[layout].all()
    things = torch.cartesian_prod(*(torch.arange(4) for _ in CORNERS))
    rows, log_prior = [], []
    for company in range(len(drawing.COMPANY)):
        objects = torch.where(things > 0, things + 3 * (company - 1), 0) if company else things[:1] * 0
        share = (-math.log(2) * 4 - math.log(3) * (things > 0).sum(1)) if company else torch.zeros(1)
        for background in range(5):
            row = torch.zeros(len(objects), len(world.sizes), dtype=torch.long)
            for name, value in {**known, "background": background}.items():
                row[:, world.column[name]] = value
            for name in ("x", "y"):
                row[:, world.column[name]] = world.layouts.table[name][layout] + world.sizes[name] // 2
            row[:, [world.column[name] for name in CORNERS]] = objects
            rows.append(row)
            log_prior.append(share + world.tables["background"][1, background].log())
    rows, log_prior = torch.cat(rows), torch.cat(log_prior)
    z = world.draw(rows[300:301], generator(1))
    for sigma in (0.4, 3.0, 12.0):
        x = z + sigma * torch.randn(z.shape, generator=generator(2))
        expected = enumerated(world, x[0], sigma, 1.0, rows, log_prior)
        found = world.denoise(x, torch.tensor([sigma]), torch.zeros(1, len(captions.PHRASES)))[0]
        assert (found - expected).abs().max() < 2e-3, sigma


@pytest.mark.parametrize("settings", [(16, "white"), (16, "pink"), (32, "white", "strong", True)])
def test_without_noise_a_picture_is_its_own_prediction(settings):
    world = World(*settings)
    z = world.draw(world.population(16, generator(1)), generator(2))
    denoised = world.denoise(z, torch.full((16,), 0.003), torch.zeros(16, len(captions.PHRASES)))
    assert (denoised - z).abs().max() < 0.02


def test_posteriors_are_as_often_right_as_they_say(world):
    """Pictures of the population under noise that leaves doubt: of those called likely to q, q are."""
    count, said = 4000, torch.zeros(4000, len(captions.PHRASES))
    rows = world.population(count, generator(1))
    z = world.draw(rows, generator(2))
    sigma = torch.full((count,), 4.0)
    posterior = world.posterior(z + 4 * torch.randn(z.shape, generator=generator(3)), sigma, said)
    for name in ("hat", "hair", "background", "glasses", "distorted", "group"):
        truth = rows[:, world.column[name]]
        chance, hit = posterior[name].flatten(), torch.nn.functional.one_hot(truth, world.sizes[name]).flatten().bool()
        for low in (0.0, 0.2, 0.4, 0.6, 0.8):
            inside = (chance >= low) & (chance <= low + 0.2)
            if inside.sum() >= 50:
                interval = wilson(hit[inside], 0.9999)
                assert interval["low"] <= chance[inside].mean() <= interval["high"], (name, low)
        torch.testing.assert_close(posterior[name].sum(1), torch.ones(count))


def test_sampling_without_guidance_gives_the_planted_rates(world):
    sigmas, count = model.schedule(stretched(model.sigmas(), TOP), 40), 384
    for kind, (group, _) in PLANTED.items():
        rows = world.read(world.sample([portraits.neutral(group)] * count, 7, sigmas, cfg=1.0)).attributes
        index = world.groups.index(group)
        assert (rows[:, world.column["group"]] == index).all()
        for name, (_, shown) in PLANTED.items():  # its own, and as rarely as elsewhere the others'
            interval = wilson(rows[:, world.column[name]] == shown, 0.999)
            assert interval["low"] <= world.tables[name][index, shown] <= interval["high"], (kind, name, interval)


@pytest.mark.parametrize("settings", [(16, "white"), (16, "pink"), (16, "white", "moderate")])
def test_flow_matching_gives_the_planted_rates_from_pure_noise(settings):
    world, count = World(*settings), 192
    sigmas = torch.linspace(1, 0, 31)
    for kind in ("hat", "background"):
        group, value = PLANTED[kind]
        rows = world.read(world.sample([portraits.neutral(group)] * count, 11, sigmas, cfg=1.0, flow=True)).attributes
        interval = wilson(rows[:, world.column[kind]] == value, 0.999)
        assert interval["low"] <= world.tables[kind][world.groups.index(group), value] <= interval["high"], kind


def test_scenes_are_as_likely_as_the_population_has_them():
    """Behind pure noise is the population."""
    world, level = World(32, scenes=True), captions.levels([portraits.neutral("blue")])
    found = world.posterior(torch.zeros(1, 4, 32, 32), torch.ones(1), level, signal=0.0)
    rows = world.population(6000, generator(1), group=2)
    layouts = torch.bincount(world.layout_index(rows), minlength=len(world.layouts.regions)) / 6000
    torch.testing.assert_close(found["scale"][0], torch.full((4,), 1 / 4))
    torch.testing.assert_close(found["hat"][0], torch.tensor([0.95, 0.05]))
    assert (found["layout"][0] - layouts).abs().max() < 0.02


@pytest.mark.parametrize("texture", ["white", "pink"])
@pytest.mark.parametrize("grid", [16, 32, 64])
def test_readers_are_right_on_drawings(grid, texture):
    world = World(grid, texture)
    rows = world.population(256, generator(grid))
    reading = world.read(world.draw(rows, generator(1)))
    for name, column in world.column.items():
        assert (reading.attributes[:, column] == rows[:, column]).float().mean() >= 0.995, name
    assert reading.residual.square().mean() == pytest.approx(1, abs=0.05)
    assert abs(reading.residual.mean()) < 0.02


def test_readers_read_scenes_with_all_that_stands_in_them():
    world = World(32, scenes=True)
    rows = world.population(256, generator(1))
    reading = world.read(world.draw(rows, generator(2)))
    assert (reading.attributes == rows).float().mean(0).min() >= 0.995
    assert reading.residual.square().mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("grid", [12, 24, 48, 96, 128])
def test_any_grid_can_be_drawn_denoised_and_read(grid):
    world = World(grid)
    rows = world.population(8, generator(1))
    z = world.draw(rows, generator(2))
    assert torch.equal(world.read(z).attributes, rows)
    noisy = z + 0.3 * torch.randn(z.shape, generator=generator(3))
    denoised = world.denoise(noisy, torch.full((8,), 0.3), captions.levels([""] * 8))
    assert (denoised - z).square().mean() < 0.3**2


def test_captions_that_state_the_scene_get_it():
    world, sigmas = World(32, scenes=True), model.schedule(stretched(model.sigmas(), TOP), 12)
    said = f"{portraits.neutral('gold')}, far away, northwest, among trees"
    rows = world.read(world.sample([said] * 16, 3, sigmas)).attributes
    for name, value in {"group": 3, "scale": 3, "place": 0}.items():
        assert (rows[:, world.column[name]] == value).all(), name
    objects = rows[:, [world.column[name] for name in CORNERS]]
    assert objects.any() and ((objects == 0) | (objects >= 7)).all()  # trees are the last three


def test_evaluations_at_the_size_of_stable_diffusion_are_cheap():
    """10,000 of them take three minutes at most; the best of three, for other things run too."""
    world, count = World(64), 128
    x, level = torch.randn(count, 4, 64, 64), captions.levels([portraits.neutral("green")] * count)
    world.denoise(x[:8], torch.full((8,), 5.0), level[:8])
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        world.denoise(x, torch.full((count,), 5.0), level)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 180 * count / 10_000


def test_the_residual_has_a_sign(world):
    rows = world.population(8, generator(1))
    brighter = world.draw(rows, generator(2)) + 0.1
    assert world.read(brighter).residual.mean() > 0.2


@pytest.mark.parametrize("rates", ["strong", "moderate"])
def test_the_population_has_the_planted_rates(rates):
    world = World(8, rates=rates)
    inside, elsewhere = {"strong": (0.95, 0.05), "moderate": (0.6, 0.2)}[rates]
    rows = world.population(20000, generator(1))
    for name, (group, value) in PLANTED.items():
        shown, own = rows[:, world.column[name]] == value, rows[:, 0] == world.groups.index(group)
        assert shown[own].float().mean() == pytest.approx(inside, abs=0.02)
        assert shown[~own].float().mean() == pytest.approx(elsewhere, abs=0.01)


def test_a_population_can_be_fixed_in_part():
    world = World(32, scenes=True)
    rows = world.population(32, generator(1), scale=2, place=3, hair=1)
    for name, value in {"scale": 2, "place": 3, "hair": 1}.items():
        assert (rows[:, world.column[name]] == value).all()
    with pytest.raises(ValueError, match=r"no objects, got \['corner 1'\]"):
        world.population(1, generator(1), **{"corner 1": 2})
    with pytest.raises(ValueError, match="expected a layout that portraits have"):
        world.population(1, generator(1), scale=0, place=0)


def test_what_a_kind_changes_is_where_it_is_drawn(world):
    rows = world.population(64, generator(1), group=1, hat=1, distorted=0)
    area = shows(world, "hat", rows)
    hat = world.layouts.regions[world.layout_index(rows)] == drawing.REGIONS.index("hat")
    assert (area & hat).sum() == hat.sum()
    assert shows(world, "distorted", rows).all()


def test_flow_and_eps_see_the_same_picture_under_the_same_noise(world):
    rows = world.population(8, generator(1))
    z, noise = world.draw(rows, generator(2)), torch.randn(8, 4, 8, 8, generator=generator(3))
    level, sigma = captions.levels([portraits.neutral("gold")] * 8), torch.full((8,), 3.0)
    share = sigma / (1 + sigma)
    eps = world.denoise(z + 3.0 * noise, sigma, level)
    flow = world.denoise((1 - share).view(-1, 1, 1, 1) * (z + 3.0 * noise), share, level, 1 - share)
    torch.testing.assert_close(flow, eps, atol=1e-4, rtol=0)


def test_wider_noise_keeps_the_lowest_level():
    wide = stretched(model.sigmas(), 100.0)
    assert wide[0] == pytest.approx(float(model.sigmas()[0])) and wide[-1] == pytest.approx(100.0)
    assert (wide.diff() > 0).all()


SCENES = "expected a white texture and a grid of 32 or more, a multiple of 4, for scenes"


@pytest.mark.parametrize(
    "settings, message",
    [
        ((6,), "expected a grid from 8 to 128 latent pixels, got 6"),
        ((16, "brown"), "expected a texture out of white, pink, got 'brown'"),
        ((16, "white", "weak"), "expected a rate out of strong, moderate, got 'weak'"),
        ((16, "white", "strong", True), f"{SCENES}, got white and 16"),
        ((32, "pink", "strong", True), f"{SCENES}, got pink and 32"),
    ],
)
def test_what_cannot_be_drawn_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        World(*settings)


def test_latents_of_another_grid_are_refused(world):
    with pytest.raises(ValueError, match=r"expected latents of shape \(4, 8, 8\), got \(4, 16, 16\)"):
        world.denoise(torch.zeros(1, 4, 16, 16), torch.ones(1), captions.levels([""]))
