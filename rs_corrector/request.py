"""Does a prompt ask for the rejected depiction itself? Then it is to be obeyed.

A rejected wording gives itself away by the token that is least like any token of the neutral and the preferred
wording. A prompt asks for it where one of its own tokens is clearly more like that one than those are. Padding says
nothing: there a wording's tokens are like one another.
Embeddings are compared by their cosine, around the mean of the neutral wording. Nothing is evaluated for it: the
sampler has the prompt's embeddings at hand.
"""

import torch
import torch.nn.functional as F

#: How far from the likeness of other tokens to its own likeness (1) a request begins: a token changes with what is
#: said before it, and in requests of other words was found at .78 of the way and beyond, other tokens below .18.
BEGINS = 0.3
#: Tokens of one wording that are as like as this to another of them are its padding.
PADDING = 0.9


def mark(neutral, preferred, rejected):
    """What gives a rejected wording away: (2, E), the centre and the token's direction, scaled by the threshold.

    Args:
        neutral, preferred, rejected: (T, E) token embeddings of the three wordings; T may differ.

    Returns:
        For `asks`; None where the rejected wording has no token of its own.
    """
    centre = neutral.float().mean(0)
    known, own = (F.normalize(tokens.float() - centre, dim=1) for tokens in (torch.cat([neutral, preferred]), rejected))
    padding = (own @ own.T).fill_diagonal_(-1).amax(1) > PADDING
    likeness, where = (own @ known.T).amax(1).masked_fill(padding, torch.inf).min(0)
    if likeness > 0.99:
        return None
    return torch.stack([centre, own[where] / torch.lerp(likeness.clamp_min(0), torch.ones_like(likeness), BEGINS)])


def asks(tokens, request):
    """Whether prompts, (R, T, E) token embeddings, ask for what `mark` returned as (2, E): (R,) flags."""
    centre, direction = request.to(tokens.device, torch.float32)
    return (F.normalize(tokens.float() - centre, dim=-1) @ direction).amax(-1) > 1
