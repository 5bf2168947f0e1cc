"""RS Audit Plan: which groups, prompts and attributes to look at, as text."""

from comfy_api.latest import io

from ..rs_corrector.audit.plan import parse
from . import host
from .types import RSAuditPlan

DEFAULT = """[groups]
green = a person in a green shirt
blue = a person in a blue shirt
gold = a person in a gold shirt
crimson = a person in a crimson shirt

[prompts]
plain = a portrait of {group}
glasses = a portrait of {group}, with glasses

[neutral]
anyone = a portrait of a person

[attributes]
hat = wearing a hat | bare-headed
faded = faded and blurred | clear and sharp
glasses = with glasses | without glasses

[asked]
glasses = glasses

[sampling]
images = 32
batch = 16
seed = 30000
width = 64
height = 64
steps = 20
cfg = 3
sampler = euler
scheduler = normal
"""


class RSCorrectorAuditPlan(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorAuditPlan",
            display_name="RS Audit Plan",
            category="RS-Corrector/audit",
            description=(
                "Says what an audit draws and looks for: perceived groups in your words, prompts with {group} in them, "
                "and attributes in two wordings, shown | not shown. The text here is for the testbed model; edit it "
                "for your own checkpoint."
            ),
            search_aliases=["rs corrector", "audit", "bias", "fairness", "evaluate"],
            inputs=[
                io.String.Input("plan", default=DEFAULT, multiline=True, tooltip="Edit the lines `name = words`."),
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
