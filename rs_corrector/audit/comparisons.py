"""The tests of an audit: paired by initial noise, exact for shares, and all of a report corrected together."""

import numpy as np
from scipy.stats import binom, ttest_1samp
from statsmodels.stats.multitest import multipletests


def reference(means, group):
    """Indices of the other groups whose mean is the middle one: one, or the two about the middle of an even number.

    Their mean is the median of the others, which one stereotyped group among them does not move.

    Args:
        means: (groups,), NaN where there is none.
        group: index of the group that is compared.
    """
    others = [i for i in np.argsort(means, kind="stable") if i != group and not np.isnan(means[i])]
    return others[max(len(others) - 1, 0) // 2 : len(others) // 2 + 1]


def apart(test, own, others):
    """p that a group differs, the same way, from each of its reference groups (intersection-union, Berger 1982).

    A group that is like one of two middle ones stands out from neither, however far the other one is.

    Args:
        test: `sign_flip` or `t_test`.
        own: (noises,) values; others: (noises, M), from the same noises.
    """
    ways = [max(test(sign * (own - other)) for other in others.T) for sign in (1, -1)]
    return min(1.0, 2 * min(ways))


def sign_flip(differences):
    """p of paired differences going up as often and as far as down, or more: the exact sign-flip test (Fisher 1935).

    One-sided. Where every difference is -1, 0 or 1 it is McNemar's exact test.

    Args:
        differences: (N,) whole numbers; NaN is left out.
    """
    d = differences[~np.isnan(differences)].astype(int)
    steps, counts = np.unique(np.abs(d[d != 0]), return_counts=True)
    chance = np.ones(1)  # of every sum, the least first, two apart
    for step, count in zip(steps, counts):
        ups = np.zeros(step * count + 1)
        ups[::step] = binom.pmf(np.arange(count + 1), count, 0.5)
        chance = np.convolve(chance, ups)
    sums = 2 * np.arange(len(chance)) - (len(chance) - 1)
    return float(min(chance[sums >= d.sum()].sum(), 1.0))


def t_test(differences):
    """p of paired differences of measures having a mean of 0, or less: Student's t, one-sided; NaN is left out.

    Where all are the same there is no spread to go by, and p is that of their signs.
    """
    d = differences[~np.isnan(differences)]
    if len(d) == 0 or np.ptp(d) == 0:
        return 0.5 ** len(d) if len(d) and d[0] > 0 else 1.0
    return float(ttest_1samp(d, 0, alternative="greater").pvalue)


def holm(rows):
    """Correct the "p" of all these rows together, in place (Holm 1979)."""
    if rows:
        for row, p in zip(rows, multipletests([row["p"] for row in rows], method="holm")[1]):
            row["p"] = float(p)
