"""Unified Concept Editing (Gandikota et al. 2024): keys and values of cross-attention edited in closed form.

For every W of to_k and to_v, with c the tokens of the group's neutral caption, c* what they are to mean, and p what is
to stay as it is (every other group's captions, the wordings themselves):

    W' = (W (sum c* c' + keep sum p p' + I ridge)) (sum c c' + keep sum p p' + I ridge)^-1

c is the caption's last word, moved along the two wordings' last words; or every token, moved to the preferred
caption's.
"""

from functools import cache, partial

import torch

from rs_corrector.testbed import portraits

from . import last_word

STRENGTHS = (0.5, 1.0, 3.0)
GRID = [
    {"word": word, "keep": keep, "strength": s}
    for word in (False, True)
    for keep in (0.1, 1.0)
    for s in (0.5, 1.0, 2.0)
]
RIDGE = 0.1


def prepare(host, case, word, keep):
    """word: edit the last word alone; keep: weight of what is to stay."""

    def tokens(caption):
        return host.encode(caption)[0][0][0]

    def last(caption):
        return tokens(caption)[last_word(host, caption)][None]

    if word:
        c, towards = last(case.neutral), last(case.preferred) - last(case.rejected)
    else:
        c, towards = tokens(case.neutral), tokens(case.preferred) - tokens(case.neutral)
    others = [portraits.neutral(group) for group in portraits.GROUPS if group != case.group]
    stays = [f"{o}{clause}" for o in others for clause in ("", f", {case.preferred_words}", f", {case.rejected_words}")]
    p = torch.cat([tokens(caption) for caption in [*stays, case.preferred, case.rejected]])
    kept = keep * p.T @ p / len(p) * len(c) + RIDGE * torch.eye(c.shape[1])
    inverse = torch.linalg.inv(c.T @ c + kept)

    def at(strength):
        move = ((c + strength * towards).T @ c + kept) @ inverse
        model = host.model.clone()
        model.add_patches({name: ("diff", (w @ move - w,)) for name, w in keys_and_values(host).items()}, 1.0)
        return partial(host.sample, model)

    return at


@cache
def keys_and_values(host):
    """The checkpoint's own weights; the host may have another model's patches in them at the time."""
    base, backup = host.model.model, host.model.backup
    return {
        name: (backup[name].weight if name in backup else weight).detach().float().cpu().clone()
        for name, weight in base.state_dict().items()
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    }
