"""A corrector from words alone: the checkpoint's own teacher difference, recorded and distilled.

Along the model's own trajectories for a neutral prompt the teacher is ``D(x, c+) - D(x, c-)`` for a preferred
and a rejected wording. It is recorded at the very states that a corrected run visits, since the teacher is
itself applied at random strength meanwhile, and a small network learns it: one kind of file, `delta`.
"""

import torch

from .corrector import Corrector, expand
from .training import fit

TEACHER_STRENGTHS = (0.0, 4.0)
#: Noise levels (lowest, highest, how many; VE) at which words tell depictions apart; calibration scores there.
SCORED = (0.3, 10.0, 8)


class Recorder:
    """Applies the teacher at random strength during one batch's sampling and keeps what it said.

    Args:
        teacher: function (x, sigma) -> D+ - D-.
        generator: of the strengths, one an image, uniform in TEACHER_STRENGTHS.
    """

    def __init__(self, teacher, generator):
        self.teacher, self.generator, self.strength, self.steps = teacher, generator, None, []

    def __call__(self, x, sigma, denoised, signal=1.0):
        """A step's correction, as `Correction` is."""
        if self.strength is None:
            low, high = TEACHER_STRENGTHS
            self.strength = torch.rand(len(x), generator=self.generator) * (high - low) + low
        delta = self.teacher(x, sigma)
        kept = {"x": x, "sigma": sigma, "signal": torch.as_tensor(signal).expand(len(x)), "delta": delta}
        self.steps.append({name: value.detach().float().cpu() for name, value in kept.items()})
        return denoised + expand(self.strength.to(x)) * delta

    def records(self):
        """{name: (images * steps, ...)}, every image's trajectory in one piece."""
        stacked = {name: torch.stack([step[name] for step in self.steps], 1) for name in self.steps[0]}
        return {name: value.flatten(0, 1) for name, value in stacked.items()}


def full_strength(strengths, scores, target):
    """The teacher strength at which images are as preferred as those that were asked to be.

    No reader of attributes is involved: scores are the checkpoint's own (`corrector.likelihood_ratio` of its two
    wordings), of the very images that were recorded, each with a strength of its own.

    Args:
        strengths, scores: (N,) of recorded images.
        target: mean score of images drawn under the preferred wording.

    Returns:
        The first strength whose running mean score reaches the target, or else that of the highest mean.
    """
    order = strengths.argsort()
    window = max(len(order) // 8, 1)
    mean = scores[order].unfold(0, window, 1).mean(1)
    at = strengths[order].unfold(0, window, 1).mean(1)
    reached = (mean >= target).nonzero()
    return at[reached[0, 0] if len(reached) else mean.argmax()].item()


def distil(records, config, *, batch, seed, device="cpu", held_out=None, **fitting):
    """Regress the recorded difference; every record counts alike, by its relative error.

    Args:
        records: {group: {"x", "sigma", "signal", "delta"}}, tensors or anything that an index tensor indexes.
        config: a `Config` of kind "delta".
        held_out: the same, for validation.
        fitting: for `training.fit`: steps, lr, checkpoint and so on.

    Returns:
        A `Corrector` with gain 1 (see `least_squares_gain` and `full_strength`), and the run's `History`.
    """
    torch.manual_seed(seed)
    corrector = Corrector(config).to(device)
    probe = torch.Generator().manual_seed(seed)
    floor = 1e-2 * draw(records, config.groups, 1024, probe, device)["delta"].square().mean()

    if floor == 0:
        raise ValueError("expected two wordings that differ, got no difference in any record; choose other words")

    def relative_error(rows):
        error = corrector.raw(rows["x"], rows["sigma"], rows["label"], rows["signal"]) - rows["delta"]
        return (error.square().mean((1, 2, 3)) / (rows["delta"].square().mean((1, 2, 3)) + floor)).mean()

    validate = None
    if held_out is not None:
        fixed = draw(held_out, config.groups, 512, probe, device)

        def validate():
            with torch.no_grad():
                return relative_error(fixed).item()

    history = fit(
        corrector,
        lambda generator: relative_error(draw(records, config.groups, batch, generator, device)),
        seed=seed,
        validate=validate,
        **fitting,
    )
    return corrector.eval().requires_grad_(False), history


def draw(records, groups, count, generator, device="cpu"):
    """A batch with every group equally often: the records' tensors, and the label of each."""
    share = -(-count // len(groups))
    picks = [torch.randint(len(records[g]["sigma"]), (share,), generator=generator) for g in groups]
    rows = {
        name: torch.cat([records[g][name][pick] for g, pick in zip(groups, picks)]).to(device)
        for name in ("x", "sigma", "signal", "delta")
    }
    return rows | {"label": torch.arange(len(groups), device=device).repeat_interleave(share)}


@torch.no_grad()
def least_squares_gain(corrector, group, records, count=1024):
    """The factor that best matches held-out records: regression shrinks, this undoes the shrinking.

    Kept within 0.5 to 4, so that a network that has learned nothing is not blown up.
    """
    index = corrector.group_index(group)
    device = next(corrector.parameters()).device
    rows = draw({group: records}, [group], count, torch.Generator().manual_seed(0), device)
    predicted = corrector.raw(rows["x"], rows["sigma"], rows["label"] + index, rows["signal"])
    gain = (predicted * rows["delta"]).sum() / predicted.square().sum().clamp_min(1e-12)
    return gain.clamp(0.5, 4.0).item()
