"""Apply RS Corrector: correct every sampling step of a model."""

from comfy_api.latest import io

from . import host
from .types import RSCorrector


class RSCorrectorApply(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorApply",
            display_name="Apply RS Corrector",
            category="RS-Corrector",
            description=(
                "Patches a model so that, at every step of sampling, the latent is nudged towards the preferred "
                "depiction of one perceived group. The checkpoint stays unchanged. Put it between the model and "
                "the sampler, before or after LoRA and other patches; use one per group."
            ),
            search_aliases=["rs corrector", "stereotype", "bias", "fairness", "depiction"],
            inputs=[
                io.Model.Input("model", tooltip="Connect the model to correct."),
                RSCorrector.Input("corrector", tooltip="Connect Load RS Corrector."),
                io.String.Input(
                    "group",
                    default="",
                    tooltip="Name the perceived group to correct, as the corrector calls it. "
                    "Leave empty if it knows only one.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=5.0,
                    step=0.05,
                    tooltip="1 is the full correction, 0 is off. Lower it to keep more of the original picture; "
                    "raise it if the stereotype is still there.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Start correcting at this share of the sampling schedule. 0 is the beginning.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Stop correcting at this share of the sampling schedule. 1 is the end.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="Connect to a sampler or guider.")],
        )

    @classmethod
    def execute(cls, model, corrector, group, strength, start_percent, end_percent):
        if start_percent >= end_percent:
            raise ValueError(
                f"expected start_percent below end_percent, got {start_percent} and {end_percent}; lower the start "
                "or raise the end"
            )
        corrector.model.group_index(group)
        host.warn_if_other_base(model, corrector.model.config)
        return io.NodeOutput(host.apply(model, corrector, group, strength, (start_percent, end_percent)))
