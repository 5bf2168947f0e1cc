"""The prompt rewritten: the preferred words are added to every caption, and may be weighed."""

from . import mixed

STRENGTHS = (0.5, 1.0, 1.5)
GRID = [{"negative": negative, "strength": s} for negative in (False, True) for s in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)]


def prepare(host, case, negative):
    """negative: the rejected words are the negative prompt as well."""
    against = case.rejected_words if negative else ""

    def at(strength):
        def draw(caption, count, seed, **sampling):
            positive = mixed(host.encode(caption), host.encode(f"{caption}, {case.preferred_words}"), strength)
            return host.sample(host.model, positive, count, seed, negative=against, **sampling)

        return draw

    return at
