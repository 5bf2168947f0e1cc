"""No correction: the checkpoint as it is."""

GRID = [{"strength": 1.0}]
STRENGTHS = (1.0,)


def prepare(host, case):
    def at(strength):
        def draw(caption, count, seed, **sampling):
            return host.sample(host.model, caption, count, seed, **sampling)

        return draw

    return at
