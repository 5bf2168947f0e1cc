"""The method from words to records: measure, redraw, lead.

    level            where the picture takes over from the words                            `counterparts.measure`
    z+               the picture as it should have been, in part or as a whole     `counterparts.redrawn`, `bridged`
    area (z+ - D)    the correction of a prediction D, recorded while a run is led there    `Recorder`
    c(D, sigma)      a small network that learns it, by D alone and for runs that are led   `distillation.distil`
    D' = D + s w c   the correction in use, of pictures that are read, and then led to the end  `correction.Correction`

Pictures of the preferred wording, and of everybody else, need nothing, and that is recorded too.
"""

from dataclasses import dataclass, replace

import torch

from . import bridge, counterparts
from .correction import HIGHEST, weight
from .corrector import expand, noise_to_signal
from .counterparts import NEUTRAL, PREFERRED, grown
from .wordings import OTHERS

#: The choice of a run that needs nothing, whichever preferred wording is chosen.
ANY = -1
#: Between these multiples of the decision level a correction acts; below, the checkpoint finishes by itself.
RELEASE, ONSET = WINDOW = 0.01, 0.5
#: The correction's area has so many latent pixels more all round than what was redrawn; a VAE spreads things as far.
MARGIN = 3
#: Pictures are drawn at the usual guidance scale times something between these.
GUIDANCE = (0.5, 1.5)
#: What records depend on beside words and sampling: sets made otherwise are not continued.
RECIPE = repr(
    [WINDOW, MARGIN, GUIDANCE]
    + [v for m in (counterparts, bridge) for _, v in sorted(vars(m).items()) if isinstance(v, (int, float, tuple))]
)


#: Runs that are recorded of each picture: the one that is led, one of the preferred wording, one of somebody else.
RUNS = 3


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


def record(checkpoint, batch, cfg, measured=None, whole=None):
    """Record one batch: (`Batch`, `counterparts.Measured`).

    Args:
        checkpoint: a `counterparts.Checkpoint`.
        batch: range of the pictures' numbers.
        cfg: the usual guidance scale; at 1 there is no guidance.
        measured: what an earlier batch returned; None measures it on this one.
        whole: whether to redraw the whole picture; None decides by what the wordings leave in place.
    """
    generator = torch.Generator().manual_seed(batch.start)
    low, high = GUIDANCE
    scale = (cfg * (low + (high - low) * torch.rand(len(batch), generator=generator))).clamp_min(1) if cfg > 1 else None
    chosen = torch.tensor([checkpoint.wordings.choice(number) for number in batch])
    spared = Recorder(choice=chosen)  # it shows what is chosen, and not what might have been
    preferred = checkpoint.sample(PREFERRED, batch, cfg=scale, hook=spared)
    measured = measured or counterparts.measure(checkpoint, preferred, batch, generator)
    level = measured.level

    usual = counterparts.SHOWN * measured.evidence

    def read(z):
        """Whether pictures read as rejected, and whether as preferred."""
        against, towards = counterparts.evidence(checkpoint, z, batch, level, generator)
        return against < usual, towards > usual

    failed, _ = read(preferred)
    drawn = checkpoint.sample(NEUTRAL, batch, cfg=scale)
    shown, _ = read(drawn)
    if measured.in_place > counterparts.IN_PLACE if whole is None else whole:
        if measured.scale is None:
            measured = replace(measured, **bridge.statistics(checkpoint, preferred, drawn, batch))
        goal, reads_preferred = bridge.bridged(checkpoint, drawn, batch, measured, shown, lambda z: read(z)[1])
        area = torch.ones_like(drawn[:, :1])
    else:
        mask = counterparts.edit_mask(checkpoint, drawn, batch, level, generator)
        goal, area = counterparts.redrawn(checkpoint, drawn, batch, mask, level, scale, generator), grown(mask, MARGIN)
        _, reads_preferred = read(goal)
    area = area * expand(shown)
    goal = torch.where(area > 0, goal, drawn)
    dropped = shown & ~reads_preferred

    led = Recorder(goal, area, (RELEASE * level, ONSET * level), generator, torch.where(shown, chosen, ANY))
    checkpoint.sample(NEUTRAL, batch, cfg=scale, hook=led)
    everybody = Recorder()
    others = checkpoint.sample(OTHERS, batch, cfg=scale, hook=everybody)
    runs = [(led, ~dropped), (spared, ~failed), (everybody, ~read(others)[0])]
    rows = [recorder.rows(flags) for recorder, flags in runs]
    rows = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    return Batch(drawn, goal, area, shown, dropped, rows), measured


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

    def rows(self, kept):
        """What `pairs` keeps of the pictures with these flags, {name: (runs, ...)}."""
        denoised, level = (torch.stack(values, 1) for values in zip(*self.steps))
        goal = denoised[:, -1] if self.goal is None else self.goal.float().cpu()
        area = torch.zeros_like(goal[:, :1]) if self.area is None else self.area.float().cpu()
        choice = torch.full((len(goal),), ANY) if self.choice is None else self.choice
        rows = {"denoised": denoised, "level": level, "goal": goal, "area": area, "choice": choice}
        return {name: values[kept] for name, values in rows.items()}
