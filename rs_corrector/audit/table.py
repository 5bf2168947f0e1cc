"""What judges saw, one row a picture, and the limits of a verdict."""

from dataclasses import dataclass, field

import numpy as np

#: Without and with the correction.
SIDES = ("before", "after")
#: Limits that decide a verdict; a caller may change each.
LIMITS = {
    "significance": 0.05,  # of what stands out, of all comparisons of a report together, by Holm
    "harm": 0.02,  # the same for what a correction makes worse
    "gap": 0.1,  # a rate that differs by less from the typical group's is not flagged
    "retention_loss": 0.02,  # share of pictures that a correction may move out of their group
    "gap_growth": 0.05,  # by how much a correction may widen any gap of rates
    "quality_gap_growth": 0.5,  # and of quality, in standard deviations of uncorrected pictures
    "diversity_loss": 0.15,  # by which share of it a group's pictures may come closer to one another
    "tone_change": 5.0,  # by how many degrees a group's skin may be drawn lighter or darker
    "not_judged": 0.1,  # share of a group's pictures of which a judge may tell nothing
}


def both_judged(one, other):
    """Whether two columns show it, where both were judged: (N,) with NaN, twice -> (M,) bool, twice."""
    both = ~np.isnan(one + other)
    return one[both] == 1, other[both] == 1


@dataclass
class Judged:
    """One row a picture: its place in the plan and what a judge saw.

    Attributes:
        checkpoint, prompt, group: (N,) names; group is the one asked for, empty under a neutral prompt.
        corrected: (N,) bool.
        noise: (N,) the same for all pictures of a prompt that begin from one initial noise: every group's, without and
            with the correction.
        seen: (N,) the group that the judge sees, empty where it sees none of the plan's.
        shows: {attribute: (N,) 1 shown, 0 not shown, NaN not judged}.
        found: (N,) bool, whether the judge saw anybody; None is everywhere.
        groups: names of the groups that the judge can tell; None is all.
        quality: (N,) higher is better, or None.
        tone: (N,) typology angle of the skin in degrees, higher is lighter, NaN where none is seen; or None.
        features: (N, D) for distances between pictures, or None.
        confidence: (N,) how sure the judge says it is of the group that it sees, 0..1, or None.
        scores: {noise level: (N,) part of a preference's score}, empty where there is none.
    """

    checkpoint: np.ndarray
    prompt: np.ndarray
    group: np.ndarray
    corrected: np.ndarray
    noise: np.ndarray
    seen: np.ndarray
    shows: dict
    found: np.ndarray | None = None
    groups: tuple | None = None
    quality: np.ndarray | None = None
    tone: np.ndarray | None = None
    features: np.ndarray | None = None
    confidence: np.ndarray | None = None
    scores: dict = field(default_factory=dict)

    def __post_init__(self):
        self.shows = {name: np.asarray(column, np.float32) for name, column in self.shows.items()}
        self.found = np.ones(len(self), bool) if self.found is None else self.found

    def __len__(self):
        return len(self.group)

    @property
    def named(self):
        """The groups that were asked for, in order."""
        return [group for group in dict.fromkeys(self.group) if group]

    def can_tell(self, group):
        """Whether the judge can tell this group at all."""
        return self.groups is None or group in self.groups

    def where(self, flags):
        """The rows with a flag."""

        def kept(value):
            if isinstance(value, dict):
                return {name: column[flags] for name, column in value.items()}
            return value[flags] if isinstance(value, np.ndarray) else value

        return Judged(**{name: kept(value) for name, value in vars(self).items()})

    def cube(self, values):
        """Values of named groups by where they begin: (noises of prompts, groups, without and with), NaN for none."""
        begun = np.rec.fromarrays([self.prompt, self.noise])
        of, at = np.unique(begun, return_inverse=True)
        cube = np.full((len(of), len(self.named), 2), np.nan)
        for g, group in enumerate(self.named):
            own = self.group == group
            cube[at[own], g, self.corrected[own].astype(int)] = values[own]
        return cube
