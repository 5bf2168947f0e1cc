"""Unified Concept Editing (Gandikota et al. 2024): keys and values of cross-attention edited in closed form.

For every W of to_k and to_v, with c the tokens of the group's neutral caption, c* those of the preferred one, and
p what is to stay as it is (every other group's captions, the wordings themselves):

    W' = (W (sum c* c' + keep sum p p' + ridge I)) (sum c c' + keep sum p p' + ridge I)^-1
"""

import torch

from rs_corrector.testbed import portraits

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5)
GRID = [
    {"keep": keep, "ridge": ridge, "strength": s}
    for keep in (0.1, 1.0)
    for ridge in (0.1, 1.0)
    for s in (0.5, 1.0, 1.5)
]


def prepare(host, case, keep, ridge):
    def tokens(caption):
        return host.encode(caption)[0][0][0]

    c, goal = tokens(case.neutral), tokens(case.preferred)
    others = [portraits.neutral(group) for group in portraits.GROUPS if group != case.group]
    stays = [f"{o}{clause}" for o in others for clause in ("", f", {case.preferred_words}", f", {case.rejected_words}")]
    p = torch.cat([tokens(caption) for caption in [*stays, case.preferred, case.rejected]])
    weights = {
        name: weight
        for name, weight in host.model.model.state_dict().items()
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    }
    kept = keep * p.T @ p / len(p) * len(c) + ridge * torch.eye(c.shape[1])

    def draw(caption, count, seed, strength, **sampling):
        aim = torch.lerp(c, goal, strength)
        inverse = torch.linalg.inv(c.T @ c + kept)
        patches = {
            name: ("diff", (w.float() @ (aim.T @ c + kept) @ inverse - w.float(),)) for name, w in weights.items()
        }
        model = host.model.clone()
        model.add_patches(patches, 1.0)
        return host.sample(model, caption, count, seed, **sampling)

    return draw
