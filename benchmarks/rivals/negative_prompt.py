"""A negative prompt: guidance away from the rejected words instead of from the empty caption.

D = D(n) + cfg (D(c) - D(n)), n between the empty caption and the rejected words (ConditioningAverage).
"""

from . import mixed

STRENGTHS = (0.5, 1.5, 3.0)
GRID = [{"whole": whole, "strength": s} for whole in (False, True) for s in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)]


def prepare(host, case, whole):
    """whole: the whole rejected caption and not its last clause alone."""
    words = case.rejected if whole else case.rejected_words

    def at(strength):
        negative = mixed(host.encode(""), host.encode(words), strength)

        def draw(caption, count, seed, **sampling):
            return host.sample(host.model, caption, count, seed, negative=negative, **sampling)

        return draw

    return at
