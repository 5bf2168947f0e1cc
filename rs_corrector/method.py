"""The method from words to records: measure, redraw, lead.

    level            where the picture takes over from the words                            `counterparts.measure`
    z+               the picture as it should have been, in part or as a whole     `counterparts.redrawn`, `bridged`
    area (z+ - D)    the correction of a prediction D, recorded while a run is led there    `Recorder`
    c(D, sigma)      a small network that learns it, by D alone and for runs that are led   `distillation.distil`
    D' = D + s w c   the correction in use, of pictures that are read, and then led to the end  `correction.Correction`

Pictures of the preferred wording, and of everybody else, need nothing, and that is recorded too, as much of them as of
those that are led.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch

from . import bridge, counterparts
from .correction import HIGHEST, weight
from .corrector import expand, noise_to_signal
from .counterparts import NEUTRAL, OTHERS, PREFERRED, REJECTED, evidence, evidence_towards, grown, spared

#: The choice of a run that needs nothing, whichever preferred wording is chosen.
ANY = -1
#: Between these multiples of the decision level a correction acts; below, the checkpoint finishes by itself.
RELEASE, ONSET = WINDOW = 0.01, 0.5
#: Predictions are recorded from this multiple on down; above, w is .06 at most.
RECORDED = 1.0
#: The correction's area has so many latent pixels more all round than what was redrawn; a VAE spreads things as far.
MARGIN = 3
#: Pictures are drawn at the usual guidance scale times something between these.
GUIDANCE = (0.5, 1.5)
#: What records depend on beside words and sampling: sets made otherwise are not continued.
RECIPE = repr(
    [WINDOW, RECORDED, MARGIN, GUIDANCE]
    + [v for m in (counterparts, bridge) for _, v in sorted(vars(m).items()) if isinstance(v, (int, float, tuple))]
)


#: Runs that are recorded of each picture: one that is led, one of somebody else, and half as many of what is preferred.
RUNS = 2.5


@dataclass(frozen=True)
class Batch:
    """What was made of a batch of pictures.

    Attributes:
        drawn, goal: (B, C, H, W) pictures of the neutral wording, and their counterparts.
        area: (B, 1, H, W), 1 where they may differ; nowhere in a picture that shows nothing rejected.
        shown: (B,) flags of pictures that show the rejected depiction; all others are their own counterparts.
        dropped: (B,) flags of those of them whose counterparts do not read as preferred, and are not recorded.
        rows: the records, {name: (runs, ...)} as `pairs` keeps them.
    """

    drawn: torch.Tensor
    goal: torch.Tensor
    area: torch.Tensor
    shown: torch.Tensor
    dropped: torch.Tensor
    rows: dict


def prefer(checkpoint, batches, cfg, measured=None, whole=None):
    """Record pictures of the preferred wording, which need nothing, and measure on them what is the same for all.

    Args:
        checkpoint: a `counterparts.Checkpoint`.
        batches: ranges of the pictures' numbers, one after another, each as many as are drawn at once.
        cfg: the usual guidance scale; at 1 there is no guidance.
        measured: what an earlier call returned.
        whole: whether whole pictures are going to be redrawn; None decides by what the wordings leave in place.

    Returns:
        `counterparts.Measured`, and records as `Batch` has them.
    """
    batch = range(batches[0].start, batches[-1].stop)
    generator = torch.Generator().manual_seed(batch.start)
    recorders = [Recorder(choice=_chosen(checkpoint, each)) for each in batches]  # what is shown, not what might be
    pictures = [_draw(checkpoint, PREFERRED, each, cfg, hook=hook) for each, hook in zip(batches, recorders)]
    z = torch.cat(pictures)
    level = measured.level if measured else counterparts.measure(checkpoint, z, batch, generator)
    against = evidence(checkpoint, z, batch, level, generator)
    if measured is None:
        usual, in_place = counterparts.usual(against), counterparts.in_place(checkpoint, z, batch, level, generator)
        measured = counterparts.Measured(level, usual, in_place)
        if _as_a_whole(measured, whole):
            rejected = torch.cat([_draw(checkpoint, REJECTED, each, cfg) for each in batches])
            measured = replace(measured, **bridge.statistics(checkpoint, z, rejected, batches))
    kept, levels = against >= measured.enough, counterparts.part(checkpoint, RECORDED * level)
    rows = [hook.rows(flags, levels) for hook, flags in zip(recorders, kept.split([len(each) for each in batches]))]
    return measured, _joined(rows)


def record(checkpoint, batch, cfg, measured, whole=None):
    """Record one batch of pictures with their counterparts, and as many of everybody else: a `Batch`.

    Args:
        checkpoint, cfg, whole: as for `prefer`.
        batch: range of the pictures' numbers.
        measured: what that returned.
    """
    generator = torch.Generator().manual_seed(batch.start)
    level = measured.level

    def read(by, z):
        """Flags of pictures that the rejected wording does not explain."""
        return by(checkpoint, z, batch, level, generator) > measured.enough

    drawn = _draw(checkpoint, NEUTRAL, batch, cfg)
    shown = ~read(evidence, drawn)
    if _as_a_whole(measured, whole):
        goal, good = bridge.bridged(checkpoint, drawn, batch, measured, shown, partial(read, evidence_towards))
        area = torch.ones_like(drawn[:, :1])
    else:
        mask = counterparts.edit_mask(checkpoint, drawn, batch, level, generator)
        goal = counterparts.redrawn(checkpoint, drawn, batch, mask, level, _scale(cfg, batch), generator)
        good, area = read(evidence_towards, goal), grown(mask, MARGIN)
    area = area * expand(shown)
    goal = torch.where(area > 0, goal, drawn)
    dropped = shown & ~good

    levels = counterparts.part(checkpoint, RECORDED * level)
    choice = torch.where(shown, _chosen(checkpoint, batch), ANY)
    led = Recorder(goal, area, (RELEASE * level, ONSET * level), generator, choice)
    _draw(checkpoint, NEUTRAL, batch, cfg, hook=led)
    everybody = Recorder()
    kept = spared(checkpoint, _draw(checkpoint, OTHERS, batch, cfg, hook=everybody), batch, measured, generator)
    return Batch(drawn, goal, area, shown, dropped, _joined([led.rows(~dropped, levels), everybody.rows(kept, levels)]))


def _scale(cfg, batch):
    """Guidance scales of pictures, (B,), the same in all their runs; None without guidance."""
    low, high = GUIDANCE
    share = torch.rand(len(batch), generator=torch.Generator().manual_seed(batch.start))
    return (cfg * (low + (high - low) * share)).clamp_min(1) if cfg > 1 else None


def _draw(checkpoint, wording, batch, cfg, **how):
    return checkpoint.sample(wording, batch, cfg=_scale(cfg, batch), **how)


def _chosen(checkpoint, batch):
    return torch.tensor([checkpoint.wordings.choice(number) for number in batch])


def _as_a_whole(measured, whole):
    return measured.in_place > counterparts.IN_PLACE if whole is None else whole


def _joined(rows):
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


class Recorder:
    """Keeps the predictions of one batch's run; leads it to its counterparts, where there are some.

    Args:
        goal, area: (B, C, H, W), (B, 1, H, W); None leads nowhere and keeps that nothing was needed.
        window: (release, onset), as in `correction.weight`.
        generator: of the share of the correction, one an image: half of them are 1, as in use, others uniform in 0..1.
        choice: (B,) which preferred wording each picture is recorded for; None is `ANY`.
    """

    def __init__(self, goal=None, area=None, window=(0.0, None), generator=None, choice=None):
        self.goal, self.area, self.window, self.generator, self.choice = goal, area, window, generator, choice
        self.share, self.steps = None, []

    def __call__(self, x, sigma, denoised, signal=1.0):
        """A step's correction, as `Correction` is."""
        self.steps.append(
            (denoised.detach().float().cpu(), noise_to_signal(sigma, signal).float().cpu().clamp_max(HIGHEST))
        )
        if self.goal is None:
            return denoised
        if self.share is None:
            self.share = (2 * torch.rand(len(x), generator=self.generator)).clamp_max(1)
        w = weight(sigma, signal, *self.window) * self.share.to(x)
        return denoised + expand(w) * self.area.to(denoised) * (self.goal.to(denoised) - denoised)

    def rows(self, kept, levels):
        """What `pairs` keeps of the pictures with these flags, {name: (runs, ...)}.

        Args:
            levels: (S + 1,) as `counterparts.part` returns them: S steps are kept, evenly from the first of these on.
        """
        denoised, level = (torch.stack(values, 1) for values in zip(*self.steps))
        count, steps = len(self.steps), len(levels) - 1
        inside = int((level[0] <= 1.001 * levels[0]).sum())
        places = torch.linspace(max(count - max(inside, steps), 0), count - 1, steps).round().long()
        goal = denoised[:, -1] if self.goal is None else self.goal.float().cpu()
        area = torch.zeros_like(goal[:, :1]) if self.area is None else self.area.float().cpu()
        choice = torch.full((len(goal),), ANY) if self.choice is None else self.choice
        rows = {
            "denoised": denoised[:, places],
            "level": level[:, places],
            "goal": goal,
            "area": area,
            "choice": choice,
        }
        return {name: values[kept] for name, values in rows.items()}
