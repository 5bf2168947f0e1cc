"""Which pictures of a run are obeyed: those whose prompts ask for what would be corrected."""

import comfy.samplers
import torch

from ...rs_corrector.corrector import in_turn, mask_over


def asked(prompts, corrector, group, window, mask, noise):
    """Which pictures' prompts ask for the rejected depiction, (B,) flags; see `request.py`.

    Prompts serve the pictures in turn, as the host tiles them. One for a part of the picture, or of the schedule,
    counts where that part and what is corrected overlap; negative ones are left aside.

    Args:
        prompts: {name: [conditioning]} of a guider.
        window: (start_percent, end_percent) of the schedule in which `group` is corrected.
        mask: (M, 1, H, W) where, for the pictures in turn; None is everywhere.
        noise: (B, C, H, W) of the run.
    """
    count, size = len(noise), noise.shape[2:]
    everywhere = torch.ones(1, *size, dtype=torch.bool)
    corrected = everywhere if mask is None else mask_over(mask, noise)[:, 0].cpu() > 0
    found = torch.zeros(count, dtype=torch.bool)
    for name, conds in prompts.items():
        if "negative" in name:
            continue
        conds = [cond for cond in conds if cond.get("prompt_type") != "negative" and during(cond, window)]
        comfy.samplers.resolve_areas_and_cond_masks_multidim(conds, size, "cpu")
        for cond in conds:
            if (tokens := cond.get("cross_attn")) is None:
                continue
            asking = in_turn(corrector.asked(tokens, group).cpu(), count)
            if asking.any():
                overlap = corrected & in_turn(part(cond, everywhere), count)
                found |= asking & overlap.flatten(1).any(1)
    return found


def during(cond, window):
    """Whether a conditioning is there while a correction acts."""
    start, end = window
    return cond.get("start_percent", 0.0) < end and cond.get("end_percent", 1.0) > start


def part(cond, everywhere):
    """The part of the picture that a resolved conditioning is for, (R, H, W) flags; `everywhere` is all of it."""
    height, width, top, left = cond.get("area", (*everywhere.shape[1:], 0, 0))
    inside = torch.zeros_like(everywhere)
    inside[:, top : top + height, left : left + width] = True
    return inside & (cond["mask"] > 0) if "mask" in cond else inside
