"""Judges by the host's own CLIP: zero-shot, and a head of aesthetics on its image embeddings."""

import torch
import torch.nn.functional as F

from ...rs_corrector.audit.run import AuditError
from ...rs_corrector.audit.zero_shot import ZeroShotJudge


def clip_judge(plan, vision, clip):
    """A `ZeroShotJudge` by the host's CLIP_VISION, and its CLIP of the same model with its text projection."""

    def embed_texts(texts):
        pooled = [clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)[1] for text in texts]
        return torch.cat(pooled)

    return ZeroShotJudge(plan, embed_texts, lambda images: embedded(vision, images), "CLIP")


class AestheticJudge:
    """Another judge's view, with the quality of pictures from an aesthetic head on CLIP image embeddings.

    Args:
        judge: sees groups and attributes.
        vision: the host's CLIP_VISION that the head was trained on.
        head: (E,) weights and bias, as `load_head` reads them.
        name: of the predictor, for the report: an aesthetic score is always somebody's taste.
    """

    def __init__(self, judge, vision, head, name):
        self.judge, self.vision, (self.weight, self.bias) = judge, vision, head
        self.groups = judge.groups
        self.name = f"{judge.name}, quality by {name}"

    def __call__(self, images):
        embeddings = embedded(self.vision, images)
        if embeddings.shape[1] != len(self.weight):
            raise AuditError(
                f"expected an aesthetic head for embeddings of {embeddings.shape[1]} numbers, got one for "
                f"{len(self.weight)}; load the vision model that it was trained on"
            )
        return self.judge(images) | {"quality": (embeddings @ self.weight + self.bias).numpy()}


def embedded(vision, images):
    """(N, 3, H, W) RGB in 0..1 -> (N, E) normalised image embeddings."""
    return F.normalize(vision.encode_image(images.movedim(1, -1))["image_embeds"].float().cpu(), dim=1)


def load_head(path):
    """(weight (E,), bias) of a linear head: safetensors with `weight` (1, E) and `bias` (1), or layers in a row.

    Heads of several linear layers without activations between them, as LAION's predictor has, are one linear map.

    Raises:
        AuditError: no such tensors, or they do not fit together.
    """
    from safetensors.torch import load_file

    state = load_file(path)
    names = sorted(
        (k for k in state if k.endswith("weight")), key=lambda k: [int(p) for p in k.split(".") if p.isdigit()]
    )
    if not names or state[names[-1]].shape[0] != 1:
        raise AuditError(
            f"expected linear layers down to one number in {path}, got {sorted(state) or 'nothing'}; convert the head "
            "to safetensors with tensors named weight and bias"
        )
    matrix, offset = torch.eye(state[names[0]].shape[1]), torch.zeros(state[names[0]].shape[1])
    for name in names:
        weight, bias = state[name].float(), state.get(name.removesuffix("weight") + "bias")
        if weight.shape[1] != matrix.shape[0]:
            raise AuditError(
                f"expected layers that follow on each other in {path}, got {tuple(weight.shape)} at {name}"
            )
        matrix, offset = weight @ matrix, weight @ offset + (0 if bias is None else bias.float())
    return matrix[0], offset[0]
