"""The only place that touches ComfyUI's internals; everything else goes through `comfy_api.latest`."""

from dataclasses import fields

from comfy_api.latest import io

from .correction import apply, manage, warn_if_other_base
from .folders import corrector_names, corrector_path, register_folder
from .testbed import load_testbed

__all__ = [
    "apply",
    "corrector_names",
    "corrector_path",
    "load_testbed",
    "manage",
    "register_folder",
    "schema",
    "warn_if_other_base",
]


def schema(**keywords):
    """An `io.Schema` without the keywords that this host does not know yet."""
    known = {f.name for f in fields(io.Schema)}
    return io.Schema(**{name: value for name, value in keywords.items() if name in known})
