"""The checkpoint's own difference of two wordings, undistilled: two more evaluations a step (RSCorrectorPrompt)."""

from functools import partial

STRENGTHS = (0.5, 1.5, 2.0)
GRID = [
    {"start": start, "end": end, "strength": s}
    for start, end in ((0.0, 1.0), (0.15, 1.0), (0.0, 0.9))
    for s in (1.0, 1.5, 2.0, 3.0)
]


def prepare(host, case, start, end):
    words = dict(preferred=host.encode(case.preferred), rejected=host.encode(case.rejected))

    def at(strength):
        (model,) = host.run(
            "RSCorrectorPrompt", model=host.model, strength=strength, start_percent=start, end_percent=end, **words
        )
        return partial(host.sample, model)

    return at
