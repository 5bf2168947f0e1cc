"""The nodes, in ComfyUI's V3 form."""

from comfy_api.latest import ComfyExtension

from . import host
from .apply import RSCorrectorApply
from .loader import RSCorrectorLoader
from .testbed import RSCorrectorTestbed


class RSCorrectorExtension(ComfyExtension):
    async def on_load(self):
        host.register_folder()

    async def get_node_list(self):
        return [RSCorrectorLoader, RSCorrectorApply, RSCorrectorTestbed]


def comfy_entrypoint():
    return RSCorrectorExtension()
