"""Load RS Corrector: corrector weights from the models folder."""

from comfy_api.latest import io

from ..rs_corrector import weights
from . import host
from .types import RSCorrector


class RSCorrectorLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorLoader",
            display_name="Load RS Corrector",
            category="RS-Corrector",
            description=(
                "Loads corrector weights: a small network that knows which depiction of a perceived group is "
                "preferred. Files live in models/rs_correctors; 'testbed' comes with the pack and serves the "
                "testbed model only."
            ),
            search_aliases=["rs corrector", "stereotype", "bias", "fairness", "depiction"],
            inputs=[
                io.Combo.Input(
                    "corrector_name",
                    options=host.corrector_names(),
                    tooltip="Choose a file from models/rs_correctors. It has to be made for the checkpoint you use.",
                ),
                host.advanced(
                    io.Boolean.Input(
                        "compile",
                        default=False,
                        optional=True,
                        tooltip="Turn it on for many pictures on a fast GPU: the first step of every new size takes a "
                        "minute, all others start far fewer kernels. Needs what torch.compile needs.",
                    )
                ),
            ],
            outputs=[RSCorrector.Output(display_name="corrector", tooltip="Connect to Apply RS Corrector.")],
        )

    @classmethod
    def validate_inputs(cls, corrector_name):
        """The host's own check would say that a name is not in its list; `execute` says where to get the file."""
        return True

    @classmethod
    def fingerprint_inputs(cls, corrector_name, compile=False):
        """Asked for every prompt, also where nothing is loaded anew: so every picture says which weights it had."""
        return None if corrector_name is None else host.note_weights(corrector_name)  # None where it is linked

    @classmethod
    def execute(cls, corrector_name, compile=False):
        corrector = weights.load(host.corrector_path(corrector_name))
        if compile:
            corrector.network.compile(mode="reduce-overhead")  # with CUDA graphs, where there is CUDA
        return io.NodeOutput(host.manage(corrector))
