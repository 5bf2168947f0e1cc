"""RS Judge: CLIP, zero-shot with the host's own models."""

from comfy_api.latest import io

from . import host
from .types import RSAuditPlan, RSJudge


class RSCorrectorJudgeCLIP(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorJudgeCLIP",
            display_name="RS Judge: CLIP",
            category="RS-Corrector/audit",
            description=(
                "Tells attributes and groups by which of the plan's wordings is nearest to a picture. CLIP has "
                "stereotypes of its own: look how often it sees what prompts ask for, and use a second judge."
            ),
            search_aliases=["rs corrector", "audit", "judge", "zero-shot", "clip"],
            inputs=[
                RSAuditPlan.Input("plan", tooltip="Connect RS Audit Plan."),
                io.ClipVision.Input("clip_vision", tooltip="Connect Load CLIP Vision."),
                io.Clip.Input("clip", tooltip="Connect Load CLIP with the text encoder of the same CLIP."),
            ],
            outputs=[RSJudge.Output(display_name="judge", tooltip="Connect to RS Audit Report.")],
        )

    @classmethod
    def execute(cls, plan, clip_vision, clip):
        return io.NodeOutput(host.clip_judge(plan, clip_vision, clip))
