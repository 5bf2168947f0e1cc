"""The prompt's embedding projected off a direction: debias_vl (Chuang et al. 2023).

With z the normalised embedding of a caption (its end token), S the pairs of captions that differ in the wording only:

    P = P0 (I + weight/|S| sum (z_i - z_j)(z_i - z_j)')^-1,    P0 = I - V (V'V)^-1 V' or I

V spans the differences. As far as the strength says, every token of a prompt is replaced by its projection.
"""

import torch
import torch.nn.functional as F

from rs_corrector.testbed import portraits

from . import last_word

STRENGTHS = (1.0, 4.0, 16.0)
GRID = [
    *({"weight": 0.0, "project": True, "strength": s} for s in (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)),
    *({"weight": weight, "project": False, "strength": s} for weight in (50.0, 5000.0) for s in (1.0, 4.0)),
]


def prepare(host, case, weight, project):
    def embedded(caption):
        return F.normalize(host.encode(caption)[0][0][0, last_word(host, caption) + 1], dim=0)

    captions = [portraits.neutral(group) for group in portraits.GROUPS]
    preferred, rejected = (
        torch.stack([embedded(f"{caption}, {words}") for caption in captions])
        for words in (case.preferred_words, case.rejected_words)
    )
    difference = preferred - rejected
    identity = torch.eye(difference.shape[1])
    span = torch.linalg.svd(difference, full_matrices=False).Vh
    projection = identity - span.T @ span if project else identity
    projection = projection @ torch.linalg.inv(identity + weight / len(difference) * difference.T @ difference)

    def at(strength):
        def draw(caption, count, seed, **sampling):
            context, extra = host.encode(caption)[0]
            projected = torch.lerp(context, context @ projection.T, strength)
            return host.sample(host.model, [[projected, extra]], count, seed, **sampling)

        return draw

    return at
