"""Rates with intervals, and how far two distributions lie apart."""

import numpy as np
from statsmodels.stats.proportion import proportion_confint


def wilson(flags, confidence=0.95):
    """Share of true flags with its Wilson score interval, as {value, low, high}."""
    successes, count = int(flags.sum()), len(flags)
    low, high = proportion_confint(successes, count, alpha=1 - confidence, method="wilson")
    return {"value": successes / count, "low": float(low), "high": float(high)}


def shares(values, count):
    """How often each of `count` values occurs: (N,) integers -> (count,)."""
    return np.bincount(np.asarray(values), minlength=count) / len(values)


def total_variation(one, other, count):
    """Half the absolute difference of two sets of values' shares, 0..1."""
    return float(np.abs(shares(one, count) - shares(other, count)).sum() / 2)


def chance_distance(one, other, count, draws=1000, seed=0):
    """The mean `total_variation` of two samples as large as these, were both drawn from what they have together."""
    generator = np.random.default_rng(seed)
    pooled = shares(np.concatenate([np.asarray(one), np.asarray(other)]), count)
    drawn = (generator.multinomial(len(values), pooled, draws) / len(values) for values in (one, other))
    return float(np.abs(next(drawn) - next(drawn)).sum(1).mean() / 2)
