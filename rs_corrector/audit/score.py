"""How preferred an audit's pictures are to a corrector that was made from marked pairs, by noise level."""

from ..corrector import noise_levels

LEVELS = 16


class ScoreJudge:
    """Another judge's view, with the score of a preference between two depictions.

    Args:
        judge: sees groups and attributes.
        corrector: a `Corrector` of kind "denoiser_pair"; only such a pair has a score.
        encode: function (N, 3, H, W) RGB in 0..1 -> (N, C, h, w) latents in model space, where the corrector is.
        group: of the corrector's, whose preference it is.
        name: of the corrector, for the report.

    Raises:
        ValueError: a corrector without a score, or without that group.
    """

    def __init__(self, judge, corrector, encode, group, name):
        c = corrector.config
        corrector.group_index(group)
        corrector.need_pair("a score")
        self.judge, self.corrector, self.encode, self.group = judge, corrector, encode, group
        self.levels = noise_levels(c.sigma_min, c.sigma_max, LEVELS).tolist()
        self.groups = judge.groups
        self.name = f"{judge.name}, score by {name}"

    def __call__(self, images):
        parts = self.corrector.score_by_level(self.encode(images), self.group, LEVELS).cpu().numpy()
        return self.judge(images) | {"scores": dict(zip(self.levels, parts))}
