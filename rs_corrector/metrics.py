"""Rates with intervals."""

from statsmodels.stats.proportion import proportion_confint


def wilson(flags, confidence=0.95):
    """Share of true flags with its Wilson score interval, as {value, low, high}."""
    successes, count = int(flags.sum()), len(flags)
    low, high = proportion_confint(successes, count, alpha=1 - confidence, method="wilson")
    return {"value": successes / count, "low": float(low), "high": float(high)}
