"""The two textures, as log-partition functions of all pictures that can be drawn.

With x = signal * z + sigma * n a noisy picture, eta = signal x / sigma^2 and lam = signal^2 / sigma^2, Bayes' rule
makes the pictures z an exponential family whose log-partition function and posterior mean are

    A(eta, lam) = log E_z exp(eta . z - lam |z|^2 / 2)          D(x, sigma) = E[z | x] = grad_eta A

(Robbins 1956; Efron 2011: Tweedie's formula in the natural parameter, finite where the signal is 0.) Given layout and
colours z is Gaussian with mean mu and covariance S, and with F = (I + lam S)^-1

    A(eta, lam | mu) = mu . F eta - lam mu . F mu / 2 + eta . S F eta / 2 - log det(I + lam S) / 2

so A is a log of a sum over layouts and colours: of all of them, nothing is left out.
"""

import torch

from . import drawing


class White:
    """Independent pixels, every region with a deviation of its own: regions are independent given the layout.

    Args:
        layouts: `drawing.Layouts`.
        colours: {region: (2, K, 4)} clear and distorted, in latents.
        deviations: {region: (2,)} of the texture.
    """

    def __init__(self, layouts, colours, deviations):
        self.layouts, self.colours = layouts, colours
        self.deviations = {region: values.tolist() for region, values in deviations.items()}
        self.rows, parts = {}, []
        scenes = bool(layouts.free.any())
        grid = layouts.regions.shape[-1]
        corner = drawing.corner_masks(grid) * float(scenes)
        taken = torch.einsum("lj,jhw->lhw", layouts.free.float(), corner)  # pixels that corners answer for
        for index, region in enumerate(drawing.REGIONS):
            mask = (layouts.regions == index).float()
            if region == "background":
                mask = mask * (1 - taken)
            unique, self.rows[region] = mask.flatten(1).unique(dim=0, return_inverse=True)
            parts.append((region, unique))
        if scenes:
            objects = drawing.object_masks(grid)
            parts += [("corner", corner.flatten(1)), ("rest", (corner[:, None] - objects).flatten(0, 1).flatten(1))]
            parts.append(("object", objects.flatten(0, 1).flatten(1)))
        self.scenes, self.parts = scenes, [(name, len(m)) for name, m in parts]
        self.all_masks = torch.cat([m for _, m in parts])

    def __call__(self, eta, lam, prior):
        """A(eta, lam) under a prior, (B,); up to a constant in the hypotheses.

        Args:
            eta: (B, 4, n, n). lam: (B,).
            prior: {name: log probabilities}, as `World.prior` returns them.
        """
        least = min(map(min, self.deviations.values())) ** 2
        # What all hypotheses share is taken out, so that large numbers do not drown small differences.
        common = least / (1 + lam * least)
        first = eta.flatten(2) @ self.all_masks.T
        second = eta.square().sum(1).flatten(1) @ self.all_masks.T
        count = self.all_masks.sum(1)
        sums = {
            name: tuple(t[..., at : at + size] for t in (first, second, count))
            for (name, size), at in zip(self.parts, _starts(self.parts))
        }
        sides = [self._given(distorted, sums, lam, common, least, prior) for distorted in (0, 1)]
        return 0.5 * common * eta.square().sum((1, 2, 3)) + torch.logsumexp(torch.cat(sides, 1), 1)

    def _fit(self, name, palette, distorted, sums, lam, common, least):
        """(B, U, K): how well each mask of a part goes with each colour of a palette."""
        first, second, count = sums[name]
        colour, deviation = self.colours[palette][distorted], self.deviations[palette][distorted]
        lam, variance = lam[:, None, None], deviation**2
        shrink = 1 / (1 + lam * variance)
        match = torch.einsum("bcu,kc->buk", first, colour) - 0.5 * lam * count[:, None] * colour.square().sum(1)
        spread = 0.5 * (shrink * variance - common[:, None, None]) * second[..., None]
        volume = 0.5 * drawing.CHANNELS * count[:, None] * torch.log((1 + lam * least) * shrink)
        return shrink * match + spread + volume

    def _given(self, distorted, sums, lam, common, least, prior):
        """(B, L * G) log terms of all layouts and groups of clear, or of distorted, pictures; colours are summed."""
        arguments = (distorted, sums, lam, common, least)
        fit = {region: self._fit(region, region, *arguments) for region in drawing.REGIONS}
        by_group = {
            "shirt": fit["shirt"],
            "skin": torch.logsumexp(fit["skin"] + prior["skin"][:, None], 2, keepdim=True),
            "hair": torch.logsumexp(fit["hair"][:, :, None] + prior["hair"][:, None], 3),
        }
        by_group |= {region: fit[region] for region in ("ink", "mouth", "hat")}
        total = layout_prior(self.layouts, prior) + prior["distorted"][:, None, :, distorted]
        for region, message in by_group.items():
            total = total + message[:, self.rows[region]]
        background = fit["background"][:, self.rows["background"]]
        if not self.scenes:
            total = total + torch.logsumexp(background[:, :, None] + prior["background"][:, None], 3)
            return total.flatten(1)
        corners = self._corners(*arguments)
        ways = []
        for company, corner in enumerate(corners):  # (B, 4, K) each
            behind = background + torch.einsum("lj,bjk->blk", self.layouts.free.float(), corner)
            ways.append(
                prior["company"][:, None, None, company]
                + torch.logsumexp(behind[:, :, None] + prior["background"][:, None], 3)
            )
        total = total + torch.logsumexp(torch.stack(ways), 0)
        return total.flatten(1)

    def _corners(self, *arguments):
        """For every company, (B, 4, K): how a free corner goes with each background, with an object in half of them."""
        bare = self._fit("corner", "background", *arguments)
        rest = self._fit("rest", "background", *arguments)
        item = torch.logsumexp(self._fit("object", "object", *arguments), 2, keepdim=True)
        item = item - torch.tensor(float(len(drawing.OBJECT_COLOURS))).log()
        held = (rest + item).unflatten(1, (4, -1)) - torch.tensor(2.0).log()
        return [bare, *(torch.logaddexp(bare - torch.tensor(2.0).log(), held[:, :, i]) for i in range(held.shape[2]))]


class Spectral:
    """One stationary texture with a power spectrum over the whole picture; colourings are enumerated.

    Args:
        layouts, colours: as for `White`.
        spectrum: (n, n) variance of every Fourier coefficient of the orthonormal transform.
    """

    def __init__(self, layouts, colours, spectrum):
        self.layouts, self.colours = layouts, colours
        hot = torch.nn.functional.one_hot(layouts.regions, len(drawing.REGIONS)).permute(0, 3, 1, 2).float()
        self.all_masks = hot  # (L, R, n, n)
        self.spectrum = spectrum
        self._costs = {}

    def __call__(self, eta, lam, prior):
        """As `White.__call__`."""
        filters = 1 / (1 + lam[:, None, None] * self.spectrum)
        spectral = torch.fft.fft2(eta, norm="ortho")
        filtered = torch.fft.ifft2(spectral * filters[:, None], norm="ortho").real
        match = torch.einsum("bcp,lrp->blrc", filtered.flatten(2), self.all_masks.flatten(2))
        spread = 0.5 * (spectral.abs().square() * (self.spectrum * filters)[:, None]).sum((1, 2, 3))
        sides = [self._given(distorted, match, lam, prior) for distorted in (0, 1)]
        return spread + torch.logsumexp(torch.cat(sides, 1), 1)

    def _given(self, distorted, match, lam, prior):
        by = {
            region: torch.einsum("blc,kc->blk", match[:, :, i], self.colours[region][distorted])
            for i, region in enumerate(drawing.REGIONS)
        }
        base = layout_prior(self.layouts, prior) + prior["distorted"][:, None, :, distorted]
        base = base + (by["ink"] + by["mouth"] + by["hat"]) + by["shirt"]  # (B, L, G)
        grown = base[..., None, None, None] + (by["skin"] + prior["skin"][:, None])[:, :, None, :, None, None]
        grown = grown + (by["hair"][:, :, None] + prior["hair"][:, None])[:, :, :, None, :, None]
        grown = grown + (by["background"][:, :, None] + prior["background"][:, None])[:, :, :, None, None]
        levels, which = lam.unique(return_inverse=True)
        cost = torch.stack([self._cost(float(level), distorted) for level in levels])  # (levels, L, G, S, H, K)
        return (grown - cost[which]).flatten(1)

    def _cost(self, lam, distorted):
        """lam mu . F mu / 2 of every layout and colouring, (L, G, S, H, K): one noise level at a time, and kept."""
        key = (lam, distorted)
        if key not in self._costs:
            if len(self._costs) >= 128:
                self._costs.clear()
            spectral = torch.fft.fft2(self.all_masks, norm="ortho").flatten(2)
            weighed = spectral * (lam / (1 + lam * self.spectrum)).flatten()
            gram = torch.einsum("lrp,lqp->lrq", spectral.conj(), weighed).real
            table = self._colourings(distorted)
            pairs = torch.einsum("krc,kqc->krq", table, table)
            cost = 0.5 * gram.flatten(1) @ pairs.flatten(1).T
            self._costs[key] = cost.unflatten(1, [len(self.colours[r][distorted]) for r in drawing.STATES])
        return self._costs[key]

    def _colourings(self, distorted):
        """(colourings, R, 4), in the order of groups, skin, hair, backgrounds."""
        sizes = [len(self.colours[region][distorted]) for region in drawing.STATES]
        picks = dict(zip(drawing.STATES, torch.cartesian_prod(*(torch.arange(size) for size in sizes)).T))
        count = len(picks["shirt"])
        fixed = torch.zeros(count, dtype=torch.long)
        return torch.stack([self.colours[r][distorted][picks.get(r, fixed)] for r in drawing.REGIONS], 1)


def layout_prior(layouts, prior):
    """log p(group, layout), (B, L, G): `layout` itself, position, glasses, hat, scale, place."""
    table = layouts.table
    total = prior["group"][:, None] + (prior["layout"] + layouts.log_share)[..., None]
    for name in ("glasses", "hat"):
        if name in prior:
            total = total + prior[name][:, :, table[name]].mT
    if "scale" in prior:
        smaller = (table["scale"] > 0).float()
        total = total + (prior["scale"][:, table["scale"]] + smaller * prior["place"][:, table["place"]])[..., None]
    return total


def _starts(parts):
    """Where each part begins."""
    starts = [0]
    for _, size in parts:
        starts.append(starts[-1] + size)
    return starts
