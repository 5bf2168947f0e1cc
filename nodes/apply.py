"""Apply RS Corrector: correct every sampling step of a model."""

from comfy_api.latest import io

from . import host
from .types import RSCorrector
from .window import check_window, strength_and_window


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
                *strength_and_window(
                    default=1.0,
                    tooltip="1 is the full correction, 0 is off. Lower it to keep more of the original picture; "
                    "raise it if the stereotype is still there.",
                ),
                io.Boolean.Input(
                    "obey_requests",
                    default=True,
                    optional=True,
                    tooltip="Keep it on to leave a picture alone whose prompt asks for the stereotyped attribute "
                    "itself. Works with correctors that were made from words.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Paint where the person is, to correct that part of the picture only. Soft edges are kept; "
                    "any size will do. For several people use one Apply and one mask each.",
                ),
                io.Float.Input(
                    "keep",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Leave this share of pictures as they are. To draw the group like others, take their rate "
                    "of the attribute over its own; the audit tells it.",
                ),
                io.Int.Input(
                    "choice_seed",
                    default=-1,
                    min=-1,
                    max=2**63 - 1,
                    optional=True,
                    tooltip="At -1 a picture's own noise decides whether it is kept and which depiction it gets. For a "
                    "hires fix, a detailer or a second sampler that goes on, connect the seed to both passes: they "
                    "decide alike, by the picture's place in its batch.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="Connect to a sampler or guider.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, corrector, group, strength, start_percent, end_percent, obey_requests=True,
                mask=None, keep=0.0, choice_seed=-1):  # fmt: skip
        check_window(start_percent, end_percent)
        corrector.model.group_index(group)
        host.warn_if_other_base(model, corrector.model.config)
        window = start_percent, end_percent
        if mask is not None:
            mask = mask.reshape(-1, 1, *mask.shape[-2:])
        node = host.node_id(cls)
        patched = host.apply(model, corrector, group, strength, window, obey_requests, mask, keep, choice_seed, node)
        return io.NodeOutput(patched)
