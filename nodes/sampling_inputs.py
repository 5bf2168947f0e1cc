"""What the nodes that make pairs have in common: their inputs, the set they write, what they return."""

import logging

from comfy_api.latest import io

from ..rs_corrector.pairs import Pairs, Writer
from . import host
from .types import RSPairs

log = logging.getLogger("RS-Corrector")


def wordings():
    return [
        io.Conditioning.Input("preferred", tooltip="Describe the group as you want it depicted."),
        io.Conditioning.Input("rejected", tooltip="Describe the stereotype, in otherwise the same words."),
    ]


def where(again="Runs add to it."):
    """Where a set is kept.

    Args:
        again: what another run does to it.
    """
    return [
        io.String.Input(
            "group", default="", tooltip="Name the perceived group; Apply RS Corrector asks for this name."
        ),
        io.String.Input("name", default="my_pairs", tooltip=f"Name the folder in output/rs_corrector_pairs. {again}"),
    ]


def counted():
    return io.Int.Input("count", default=64, min=8, max=100000, tooltip="Draw this many images for each wording.")


def sampling(count):
    return [
        count,
        io.Int.Input(
            "batch_size", default=8, min=1, max=256, tooltip="Draw this many at once. Lower it if memory runs out."
        ),
        io.Int.Input("width", default=512, min=64, max=8192, step=8, tooltip="Set the image width in pixels."),
        io.Int.Input("height", default=512, min=64, max=8192, step=8, tooltip="Set the image height in pixels."),
        io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Use your usual steps."),
        io.Float.Input("cfg", default=7.0, min=0.0, max=100.0, step=0.1, tooltip="Use your usual CFG."),
        io.Combo.Input("sampler_name", options=host.samplers(), default="euler", tooltip="Use your usual sampler."),
        io.Combo.Input("scheduler", options=host.schedulers(), default="normal", tooltip="Use your usual scheduler."),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**63 - 1,
            control_after_generate=True,
            tooltip="Keep it fixed to add to a set; for other images change the name as well.",
        ),
    ]


def merge():
    return RSPairs.Input("merge_with", optional=True, tooltip="Connect pairs of other groups to train them together.")


def output():
    return RSPairs.Output(display_name="pairs", tooltip="Connect to Train RS Corrector.")


def drawing(said, *more, count):
    """All inputs of a node that draws pairs: what is said of the pictures, how many they are, and perhaps more."""
    return [
        io.Model.Input("model", tooltip="Connect the checkpoint that the corrector is for."),
        *said,
        *where(),
        *sampling(count),
        merge(),
        *more,
    ]


def opened(kind, model, name):
    """The writer of a set in ComfyUI's output directory, made for the model's latents."""
    return Writer(host.pairs_folder(name), Pairs(kind, *host.describe(model)))


def begun_with(writer, group, seed):
    """The seed of a set: the one that it was begun with, where the widget has moved on by itself since."""
    begun = writer.pairs.source.get(group, {}).get("seed", seed)
    if begun != seed:
        log.info(
            "RS-Corrector: the set goes on with seed %d, with which it was begun; name another for %d", begun, seed
        )
    return begun


def merged(pairs, others):
    """A node's output: its pairs, with those of other groups where some are connected."""
    return io.NodeOutput(pairs if others is None else others.merge(pairs))
