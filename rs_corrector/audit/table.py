"""What judges saw, one row a picture, and the limits of a verdict."""

from dataclasses import dataclass, field

import numpy as np

#: Limits that decide a verdict; a caller may change each.
LIMITS = {
    "significance": 0.05,  # of all comparisons together, by Holm
    "gap": 0.1,  # a rate that differs by less from the typical group's is not flagged
    "retention_loss": 0.02,  # share of pictures that a correction may move out of their group
    "gap_growth": 0.05,  # by how much a correction may widen any gap of rates
    "quality_gap_growth": 0.5,  # and of quality, in standard deviations of uncorrected pictures
}


@dataclass
class Judged:
    """One row a picture: its place in the plan and what a judge saw.

    Attributes:
        checkpoint, prompt, group: (N,) names; group is the one asked for, empty under a neutral prompt.
        corrected: (N,) bool.
        pair: (N,) the same for the two pictures of one seed and prompt.
        seen: (N,) the group that the judge sees, empty where it finds none.
        shows: {attribute: (N,) bool}.
        quality: (N,) higher is better, or None.
        features: (N, D) for distances between pictures, or None.
        confidence: (N,) how sure the judge says it is of the group that it sees, 0..1, or None.
        scores: {noise level: (N,) part of a preference's score}, empty where there is none.
    """

    checkpoint: np.ndarray
    prompt: np.ndarray
    group: np.ndarray
    corrected: np.ndarray
    pair: np.ndarray
    seen: np.ndarray
    shows: dict
    quality: np.ndarray | None = None
    features: np.ndarray | None = None
    confidence: np.ndarray | None = None
    scores: dict = field(default_factory=dict)

    def __len__(self):
        return len(self.group)

    def where(self, flags):
        """The rows with a flag."""

        def kept(value):
            if isinstance(value, dict):
                return {name: column[flags] for name, column in value.items()}
            return value if value is None else value[flags]

        return Judged(**{name: kept(value) for name, value in vars(self).items()})
