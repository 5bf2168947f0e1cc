"""The only place that touches ComfyUI's internals; everything else goes through `comfy_api.latest`."""

from dataclasses import fields

from comfy_api.latest import io

from .checkpoint import HostCheckpoint
from .clip_judge import AestheticJudge, clip_judge, load_head
from .conditioning import encode, told
from .correction import apply, check_latents, load, manage, patches, warn_if_other_base
from .folders import (
    audit_folder,
    contents,
    corrector_file,
    corrector_names,
    corrector_path,
    judge_folder,
    judge_folders,
    judge_names,
    judge_path,
    keep_latest,
    kept_training,
    note_weights,
    pairs_folder,
    register_folders,
    sorted_folder,
)
from .requests import mark_request, tokens_of
from .sampling import (
    Progress,
    check_sampling,
    decode,
    describe,
    digest,
    draw,
    encode_images,
    latent_bytes,
    latent_size,
    roughly_seen,
    samplers,
    schedulers,
    seen,
    to_model_space,
    training_device,
    versions,
)
from .teacher import teach
from .telling import TimeLeft, node_id
from .testbed import load_testbed

__all__ = [
    "AestheticJudge",
    "clip_judge",
    "HostCheckpoint",
    "Progress",
    "TimeLeft",
    "advanced",
    "apply",
    "audit_folder",
    "check_latents",
    "check_sampling",
    "contents",
    "corrector_file",
    "corrector_names",
    "corrector_path",
    "decode",
    "describe",
    "digest",
    "draw",
    "encode",
    "encode_images",
    "judge_folder",
    "judge_folders",
    "judge_names",
    "judge_path",
    "keep_latest",
    "kept_training",
    "latent_bytes",
    "latent_size",
    "load",
    "load_head",
    "load_testbed",
    "manage",
    "mark_request",
    "node_id",
    "note_weights",
    "pairs_folder",
    "patches",
    "register_folders",
    "roughly_seen",
    "samplers",
    "schedulers",
    "schema",
    "seen",
    "sorted_folder",
    "teach",
    "to_model_space",
    "told",
    "tokens_of",
    "training_device",
    "versions",
    "warn_if_other_base",
]


def schema(**keywords):
    """An `io.Schema` without the keywords that this host does not know yet."""
    known = {f.name for f in fields(io.Schema)}
    return io.Schema(**{name: value for name, value in keywords.items() if name in known})


def advanced(widget):
    """An input that editors which know how fold away; older hosts take no such keyword."""
    widget.extra_dict = (widget.extra_dict or {}) | {"advanced": True}
    return widget
