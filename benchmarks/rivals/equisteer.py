"""EquiSteer (arXiv 2607.01147, 2026): vectors added to what cross-attention answers, at no added evaluation.

For every step and layer and every wording c, v_c is the unit vector from the mean answer under the others to that under
c, and m_c how far an answer lies along it at most, halfway between the neutral wording's and its own, on average over
pictures. The answers h to a prompt become, with b the v made orthogonal one after another,

    h' = h - sum over c of <h, b_c> b_c + strength * m_+ v_+                  one preferred wording + a picture

A prompt that asks for the depiction itself is left alone: at the first step, one layer on the way down answers it with
more than m_- along v_-.
"""

from functools import cache

import torch

from rs_corrector.testbed import portraits

from . import LEARNING_SEED

STRENGTHS = (0.5, 1.0, 2.0)
GRID = [
    {"erase": erase, "renormalise": renormalise, "strength": s}
    for erase in (True, False)
    for renormalise in (True, False)
    for s in (0.5, 1.0, 2.0)
]
LEARNT, STEPS = 64, 20


def prepare(host, case, erase, renormalise):
    """erase: take out what lies along all wordings first; renormalise: keep the length of every answer."""
    vectors, lengths = steering(host, case)
    bases = {block: torch.linalg.qr(v.mT).Q for block, v in vectors.items()}  # (S, E, K + 1)
    gate = max(block for block in vectors if block[0] == "input")

    def at(strength):
        def draw(caption, count, seed, steps=STEPS, **sampling):
            leave = torch.zeros(count, dtype=torch.bool)
            chosen = torch.randint(len(lengths[gate][0]) - 1, (count,), generator=torch.Generator().manual_seed(seed))

            def steer(h, block, step):
                v, m, b = vectors[block][step], lengths[block][step], bases[block][step]
                if (block, step) == (gate, 0):
                    leave.copy_((h @ v[-1]).amax(1) > m[-1])
                new = (h - h @ b @ b.T if erase else h) + strength * (m[chosen, None] * v[chosen])[:, None]
                if renormalise:
                    new = new * (h.norm(dim=-1, keepdim=True) / new.norm(dim=-1, keepdim=True))
                return torch.where(leave[:, None, None], h, new)

            return host.sample(answering(host, steer, steps), caption, count, seed, steps=steps, **sampling)

        return draw

    return at


def answering(host, answer, steps):
    """The checkpoint with `answer(h, block, step)` in place of what its cross-attention answers to the prompt."""
    model, seen = host.model.clone(), []

    def patch(answers, where):
        level = where["sigmas"].max().item()
        if level not in seen:
            seen.append(level)
        step = round((len(seen) - 1) * (STEPS - 1) / max(steps - 1, 1))
        parts = answers.chunk(len(where["cond_or_uncond"]))
        sides = zip(parts, where["cond_or_uncond"])
        return torch.cat([answer(h, where["block"], step) if side == 0 else h for h, side in sides])

    model.set_model_attn2_output_patch(patch)
    return model


@cache
def steering(host, case):
    """v and m: {block: (S, K + 1, E)} and {block: (S, K + 1)}, every preferred wording and, last, the rejected one."""
    words = [*portraits.preferred(case.attribute), case.rejected]
    answers = [recorded(host, caption) for caption in (case.neutral, *words)]
    vectors, lengths = {}, {}
    for block in answers[0]:
        neutral, *own = (answer[block] for answer in answers)  # (S, N, P, E)
        means = torch.stack([h.mean((1, 2)) for h in own], 1)
        others = (means.sum(1, keepdim=True) - means) / (len(own) - 1)
        v = vectors[block] = torch.nn.functional.normalize(means - others, dim=-1)
        reach = [
            [torch.einsum("snpe,se->snp", h, v[:, c]).amax(2).mean(1) for h in (neutral, own[c])]
            for c in range(len(own))
        ]
        lengths[block] = torch.stack([(most + least) / 2 for least, most in reach], 1)
    return vectors, lengths


def recorded(host, caption):
    """{block: (S, N, P, E)}: what cross-attention answers to a caption, at every step and place of some pictures."""
    kept = {}

    def keep(h, block, step):
        kept.setdefault(block, []).append(h.clone())
        return h

    host.sample(answering(host, keep, STEPS), caption, LEARNT, LEARNING_SEED, steps=STEPS)
    return {block: torch.stack(steps) for block, steps in kept.items()}
