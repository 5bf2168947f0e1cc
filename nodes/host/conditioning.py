"""A conditioning of its own for every picture of a batch."""

import torch
from comfy.patcher_extension import WrappersMP

#: Key of conditionings that are for some rows of a batch only: their numbers.
ROWS = "rs_corrector_rows"


def encode(clip, text):
    """A text as a conditioning, as CLIP Text Encode makes it."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def told(said, encoded):
    """A conditioning as it is; of a text what it was encoded to, {text: conditioning}."""
    return encoded[said] if isinstance(said, str) else said


def batched(*wordings):
    """One conditioning for B pictures of every wording: rows of the same shapes side by side in one tensor.

    Rows whose shapes differ under any of the wordings are parts of their own under all of them, and only a model that
    `keep_apart` has patched gives every row its own.

    Args:
        wordings: B conditionings each.
    """
    parts = {}
    for row, told_here in enumerate(zip(*wordings)):
        parts.setdefault(tuple(map(_shape, told_here)), []).append(row)
    return [_side_by_side(conditionings, list(parts.values())) for conditionings in wordings]


def _side_by_side(conditionings, parts):
    if all(conditioning is conditionings[0] for conditioning in conditionings):
        return conditionings[0]
    joined = [[_join(entries) for entries in zip(*(conditionings[row] for row in rows))] for rows in parts]
    if len(parts) == 1:
        return joined[0]
    return [[tensor, more | {ROWS: rows}] for rows, part in zip(parts, joined) for tensor, more in part]


def keep_apart(patched):
    """Let a model clone evaluate every part of `batched` conditionings for its own rows only.

    What has no parts is the same for all rows.
    """

    def calc_cond_batch(executor, model, conds, x, timestep, *args, **kwargs):
        parts = {tuple(cond[ROWS]) for side in conds for cond in side or () if ROWS in cond}
        if not parts:
            return executor(model, conds, x, timestep, *args, **kwargs)
        found = [torch.empty_like(x) for _ in conds]
        for rows in parts:
            rows = list(rows)
            own = [side and [cond for cond in side if cond.get(ROWS, rows) == rows] for side in conds]
            for whole, part in zip(found, executor(model, own, x[rows], timestep[rows], *args, **kwargs)):
                whole[rows] = part
        return found

    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, ROWS, calc_cond_batch)


def _by_picture(value):
    return torch.is_tensor(value) and value.ndim > 1


def _shape(conditioning):
    """What conditionings must have in common to be joined."""
    return tuple(
        (tuple(tensor.shape), *sorted((k, tuple(v.shape) if _by_picture(v) else repr(v)) for k, v in more.items()))
        for tensor, more in conditioning
    )


def _join(entries):
    """Entries [tensor, extras] of several pictures, (1, ...) each -> one for all of them."""
    tensors, extras = zip(*entries)
    more = {k: torch.cat([e[k] for e in extras]) if _by_picture(v) else v for k, v in extras[0].items()}
    return [torch.cat(tensors), more]
