"""The nodes, in ComfyUI's V3 form."""

from comfy_api.latest import ComfyExtension

from . import host
from .apply import RSCorrectorApply
from .loader import RSCorrectorLoader
from .pairs_from_prompts import RSCorrectorPairsFromPrompts
from .pairs_from_sorted import RSCorrectorPairsFromSorted
from .pairs_from_words import RSCorrectorPairsFromWords
from .prompt import RSCorrectorPrompt
from .save import RSCorrectorSave
from .score import RSCorrectorScore
from .testbed import RSCorrectorTestbed
from .train import RSCorrectorTrain


class RSCorrectorExtension(ComfyExtension):
    async def get_node_list(self):
        host.register_folder()
        return [
            RSCorrectorLoader,
            RSCorrectorApply,
            RSCorrectorPrompt,
            RSCorrectorScore,
            RSCorrectorTestbed,
            RSCorrectorPairsFromWords,
            RSCorrectorPairsFromPrompts,
            RSCorrectorPairsFromSorted,
            RSCorrectorTrain,
            RSCorrectorSave,
        ]


def comfy_entrypoint():
    return RSCorrectorExtension()
