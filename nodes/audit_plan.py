"""RS Audit Plan: which groups, prompts and attributes to look at, as text."""

from comfy_api.latest import io

from ..rs_corrector.audit.plan import EXAMPLE, parse
from . import host
from .types import RSAuditPlan


class RSCorrectorAuditPlan(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorAuditPlan",
            display_name="RS Audit Plan",
            category="RS-Corrector/audit",
            description=(
                "Says what an audit draws and looks for: perceived groups in your words, prompts that name the "
                "group, and attributes, each in two wordings: shown and not shown. The text here is for the testbed "
                "model; edit it for your own checkpoint."
            ),
            search_aliases=["rs corrector", "audit", "bias", "fairness", "evaluate"],
            inputs=[
                io.String.Input(
                    "plan", default=EXAMPLE, multiline=True, tooltip="Edit the lines, a name and words in each."
                ),
                io.String.Input(
                    "checkpoints",
                    default="model",
                    tooltip="Name the checkpoints to compare, with commas between them; one Run Audit for each.",
                ),
            ],
            outputs=[RSAuditPlan.Output(display_name="plan", tooltip="Connect to Run RS Audit and to a judge.")],
        )

    @classmethod
    def execute(cls, plan, checkpoints):
        return io.NodeOutput(parse(plan, tuple(name.strip() for name in checkpoints.split(","))))
