"""RS Judge: Testbed Readers, exact on the testbed's portraits."""

from comfy_api.latest import io

from . import host
from .types import RSAuditPlan, RSJudge


class RSCorrectorJudgeTestbed(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorJudgeTestbed",
            display_name="RS Judge: Testbed Readers",
            category="RS-Corrector/audit",
            description="Reads the attributes of the testbed model's portraits exactly. It knows no other pictures.",
            search_aliases=["rs corrector", "audit", "judge", "testbed"],
            inputs=[RSAuditPlan.Input("plan", tooltip="Connect RS Audit Plan.")],
            outputs=[RSJudge.Output(display_name="judge", tooltip="Connect to RS Audit Report.")],
        )

    @classmethod
    def execute(cls, plan):
        from ..rs_corrector.testbed.audit import ReaderJudge

        return io.NodeOutput(ReaderJudge(plan))
