"""Which pictures of a run are obeyed: those whose prompts ask for what would be corrected."""

from dataclasses import dataclass, field

import comfy.samplers
import torch

from ...rs_corrector import request
from ...rs_corrector.correction import in_turn, mask_over
from .conditioning import encode
from .frames import first_frame


@dataclass
class Asked:
    """What the prompts of a run ask for.

    Attributes:
        pictures: (B,) flags of those whose prompts ask for the rejected depiction.
        things: by which words, as far as that is known.
        unknown: whether some prompts are of an encoder, or a layer of it, that requests cannot be told by.
    """

    pictures: torch.Tensor
    things: list = field(default_factory=list)
    unknown: bool = False


def asked(prompts, corrector, group, window, mask, noise):
    """Which pictures' prompts ask for the rejected depiction, `Asked`; see `request.py`.

    Prompts serve the pictures in turn, as the host tiles them. One for a part of the picture, or of the schedule,
    counts where that part and what is corrected overlap; negative ones are left aside.

    Args:
        prompts: {name: [conditioning]} of a guider.
        window: (start_percent, end_percent) of the schedule in which `group` is corrected.
        mask: (M, 1, H, W) where, for the pictures in turn; None is everywhere.
        noise: (B, C, H, W) of the run, or (B, C, T, H, W).
    """
    noise = first_frame(noise)
    count, size = len(noise), noise.shape[2:]
    everywhere = torch.ones(1, *size, dtype=torch.bool)
    corrected = everywhere if mask is None else mask_over(mask, noise)[:, 0].cpu() > 0
    found, names = Asked(torch.zeros(count, dtype=torch.bool)), corrector.things(group)
    for name, conds in prompts.items():
        if "negative" in name:
            continue
        conds = [cond for cond in conds if cond.get("prompt_type") != "negative" and during(cond, window)]
        conds = [_in_space(cond) for cond in conds]
        comfy.samplers.resolve_areas_and_cond_masks_multidim(conds, size, "cpu")
        for cond in conds:
            if (tokens := cond.get("cross_attn")) is None:
                continue
            if (by_thing := corrector.asked(tokens, group)) is None:
                found.unknown = True
            elif by_thing.any():
                overlap = (corrected & in_turn(part(cond, everywhere), count)).flatten(1).any(1)
                by_thing = in_turn(by_thing.cpu(), count) & overlap[:, None]
                found.pictures |= by_thing.any(1)
                found.things += [thing for thing, flag in zip(names, by_thing.any(0)) if flag]
    found.things = list(dict.fromkeys(found.things))
    return found


def mark_request(said, known, clip):
    """What gives a request for the rejected wording away, and what its things are called; see `request.py`.

    Args:
        said: `Wordings`, in texts or as conditionings.
        known: {text: conditioning} of what is encoded already.
        clip: encodes texts.
    """
    if isinstance(said.rejected, str):
        return request.marked(said, lambda text: tokens_of(known.get(text) or encode(clip, text)))
    *others, rejected = (tokens_of(each) for each in (said.neutral, *said.preferred, said.others, said.rejected))
    return request.mark(others, others, rejected), []


def tokens_of(conditioning):
    """(T, E) token embeddings of a conditioning."""
    return torch.cat([rows[0] for rows, _ in conditioning])


def during(cond, window):
    """Whether a conditioning is there while a correction acts."""
    start, end = window
    return cond.get("start_percent", 0.0) < end and cond.get("end_percent", 1.0) > start


def _in_space(cond):
    """A conditioning without the part of its area that is in time, ("percentage", t, h, w, z, y, x)."""
    kind, *area = cond.get("area") or (None,)
    return cond | {"area": (kind, *area[1:3], *area[4:])} if kind == "percentage" and len(area) == 6 else cond


def part(cond, everywhere):
    """The part of the picture that a resolved conditioning is for, (R, H, W) flags; `everywhere` is all of it."""
    height, width, top, left = cond.get("area", (*everywhere.shape[1:], 0, 0))
    inside = torch.zeros_like(everywhere)
    inside[:, top : top + height, left : left + width] = True
    return inside & (cond["mask"] > 0) if "mask" in cond else inside
