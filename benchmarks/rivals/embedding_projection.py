"""The prompt's embedding projected off a direction: debias_vl (Chuang et al. 2023), calibrated.

P0 = I - V (V'V)^-1 V' takes out the span of the two wordings' differences V; calibration makes the embeddings of
positive pairs (i, j), the same caption with either wording, agree:
P = P0 (I + weight/|S| sum (z_i - z_j)(z_i - z_j)')^-1. Applied to every token, as far as the strength says.
"""

import torch

from rs_corrector.testbed import portraits

STRENGTHS = (0.5, 1.0, 1.5, 2.0, 3.0)
GRID = [
    {"weight": weight, "rank": rank, "strength": s}
    for weight in (0.0, 500.0)
    for rank in (1, 4)
    for s in (1.0, 2.0, 4.0)
]


def prepare(host, case, weight, rank):
    captions = [portraits.neutral(group) for group in portraits.GROUPS]
    embedded = [
        [host.encode(f"{caption}, {words}")[0][0][0] for caption in captions]
        for words in (case.preferred_words, case.rejected_words)
    ]
    difference = (torch.stack(embedded[0]) - torch.stack(embedded[1])).flatten(0, 1)
    span = torch.linalg.svd(difference, full_matrices=False).Vh[:rank]
    identity = torch.eye(difference.shape[1])
    projection = identity - span.T @ span
    calibration = identity + weight / len(difference) * difference.T @ difference
    projection = projection @ torch.linalg.inv(calibration)

    def draw(caption, count, seed, strength, **sampling):
        context, extra = host.encode(caption)[0]
        projected = torch.lerp(context, context @ projection, strength)
        return host.sample(host.model, [[projected, extra]], count, seed, **sampling)

    return draw
