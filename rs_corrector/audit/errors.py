"""A judge's errors, and rates that are corrected for them.

Of a judge that sees an attribute in a share s of pictures that show it, and does not see it in a share t of those that
do not, a rate p is one of (p + t - 1) / (s + t - 1) (Rogan and Gladen 1978; of generated pictures: CLEAM, Teo et al.
2023). s and t are shares of known pictures themselves, and the interval carries that (Lang and Reiczigel 2014). A
judge is taken to err alike in all groups.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.optimize import nnls
from scipy.stats import norm
from statsmodels.stats.inter_rater import cohens_kappa

from ..pictures import from_picture
from .plan import stated
from .run import PROVENANCE, AuditError
from .table import both_judged

Z = 1.96  # of a 95 % interval
#: Below this s + t - 1 a judge tells too little of an attribute to correct anything by it.
LEAST = 0.1
#: Of labelled pictures, beneath an attribute's own.
FOLDERS = ("not shown", "shown")


@dataclass(frozen=True)
class Errors:
    """What is known of a judge and one attribute: counts of (right, all), and where they come from."""

    shown: tuple
    not_shown: tuple
    source: str

    def seen(self, rate):
        """The rate that the judge sees of pictures that show it at this rate."""
        (hits, of), (rejections, others) = self.shown, self.not_shown
        return rate * hits / of + (1 - rate) * (1 - rejections / others)

    def true(self, rate):
        """The rate at which pictures show it of which the judge sees this rate."""
        least, most = self.seen(0.0), self.seen(1.0)
        return float(np.clip((rate - least) / (most - least), 0, 1))

    @property
    def tells(self):
        """Whether the judge tells enough of the attribute to correct anything by it."""
        counted = self.shown[1] > 0 and self.not_shown[1] > 0
        return counted and min(sum(self._smoothed) - 1, self.seen(1.0) - self.seen(0.0)) >= LEAST

    @property
    def _smoothed(self):
        """s and t, with one more picture judged right and one more judged wrong."""
        return [(right + 1) / (of + 2) for right, of in (self.shown, self.not_shown)]

    def corrected(self, rate, count):
        """{"value", "low", "high"} of a share of so many pictures; None where the judge tells too little."""
        if count == 0 or not self.tells:
            return None
        middle, error = self._estimate(rate, count)
        low, high = np.clip((middle - Z * error, middle + Z * error), 0, 1)
        return {"value": self.true(rate), "low": float(low), "high": float(high)}

    def p(self, rate, count, reference):
        """p of pictures showing it at a reference rate; None where the judge tells too little."""
        if count == 0 or not self.tells:
            return None
        middle, error = self._estimate(rate, count)
        return float(2 * norm.sf(abs(middle - reference) / error))

    def _estimate(self, rate, count):
        """(middle, standard error) of the interval of Lang and Reiczigel."""
        (s, t), (_, of), (_, others) = self._smoothed, self.shown, self.not_shown
        p = (count * rate + Z**2 / 2) / (count + Z**2)
        tells = s + t - 1
        middle = (p + t - 1) / tells
        of_s, of_t = s * (1 - s) / (of + 2), t * (1 - t) / (others + 2)
        variance = p * (1 - p) / (count + Z**2) + middle**2 * of_s + (1 - middle) ** 2 * of_t
        return middle + 2 * Z**2 * (middle * of_s - (1 - middle) * of_t), variance**0.5 / tells


def by_prompts(judged, asked):
    """{attribute: `Errors`} by uncorrected pictures under prompts that state it or its absence, taken as obeyed.

    Args:
        asked: {prompt: attribute, or "not " and an attribute}. Only attributes that are stated both ways are told.
    """
    counts = {}
    for prompt, words in asked.items():
        attribute, wanted = stated(words)
        seen = judged.shows[attribute][(judged.prompt == prompt) & ~judged.corrected]
        seen = seen[~np.isnan(seen)]
        right, of = counts.setdefault(attribute, {}).get(wanted, (0, 0))
        counts[attribute][wanted] = right + int(np.sum((seen == 1) == wanted)), of + len(seen)
    source = "prompts that state it, taken as obeyed"
    return {
        name: Errors(both[True], both[False], source)
        for name, both in counts.items()
        if len(both) == 2 and both[True][1] and both[False][1]
    }


def true_shares(confusion, seen, draws=500):
    """Who appears, of who was seen by a judge that mistakes some groups for others.

    Args:
        confusion: (groups, groups) counts: asked for, and seen.
        seen: (groups,) counts of pictures whose group is to be told.

    Returns:
        (groups, 3): shares with 95 % intervals, by drawing both counts anew; None where a group was never judged.
    """
    if not seen.sum() or not confusion.sum(1).all():
        return None
    generator = np.random.default_rng(0)

    def solved(confused, counts):
        shares, _ = nnls((confused / confused.sum(1, keepdims=True)).T, counts / counts.sum())
        return shares / shares.sum() if shares.sum() else np.full(len(shares), np.nan)

    again = []
    for _ in range(draws):
        rows = [
            generator.multinomial(n, (row + 0.5) / (row + 0.5).sum()) for n, row in zip(confusion.sum(1), confusion)
        ]
        again.append(solved(np.array(rows), generator.multinomial(seen.sum(), seen / seen.sum())))
    found = np.stack([solved(confusion, seen), *np.nanpercentile(again, (2.5, 97.5), axis=0)], 1)
    return None if np.isnan(found).any() else found


def by_labels(folder, judge, attributes):
    """{attribute: `Errors`} by generated pictures that somebody labelled: folder/ATTRIBUTE/shown and /not shown.

    Raises:
        AuditError: no such folders for any attribute, a side without pictures, or a picture that does not say that it
            was generated.
    """
    found = {}
    for attribute in attributes:
        counts = []
        for side, name in enumerate(FOLDERS):
            files = sorted((folder / attribute / name).glob("*.png"))
            seen = [judge(generated(file)[None])["shows"].get(attribute, [np.nan])[0] for file in files]
            seen = np.array([float(one) for one in seen if not np.isnan(float(one))])
            counts.append((int(np.sum(seen == side)), len(seen)))
        if any(of for _, of in counts):
            if not all(of for _, of in counts):
                raise AuditError(
                    f"expected pictures that show {attribute!r} and pictures that do not in {folder / attribute}, got "
                    f"{counts[1][1]} and {counts[0][1]} that the judge can tell; put some into each folder"
                )
            found[attribute] = Errors(counts[1], counts[0], f"{counts[0][1] + counts[1][1]} labelled pictures")
    if not found:
        raise AuditError(
            f"expected folders ATTRIBUTE/shown and ATTRIBUTE/not shown with PNG files in {folder}, got none of "
            f"{', '.join(attributes)}; name them as the plan names attributes"
        )
    return found


def generated(file):
    """A picture as (3, H, W) RGB in 0..1, if it says that a diffusion model drew it."""
    with Image.open(file) as picture:
        if not {PROVENANCE, "prompt", "parameters"} & picture.info.keys():
            raise AuditError(
                f"expected a generated picture, with its prompt in the file, got {file} without; audits judge "
                "generated pictures only, never photographs of people: remove it"
            )
        return from_picture(picture)


def kappa(one, other):
    """Agreement of two judges beyond chance (Cohen 1960), of pictures that both judged; None where there is none."""
    a, b = both_judged(one, other)
    if len(a) == 0 or (a.all() and b.all()) or not (a.any() or b.any()):
        return None
    table = np.array([[np.sum((a == i) & (b == j)) for j in (False, True)] for i in (False, True)])
    return float(cohens_kappa(table, return_results=False))
