"""RS Judge: Faces, a FairFace-type classifier whose weights you bring."""

from comfy_api.latest import io

from . import host
from .types import RSAuditPlan, RSJudge


class RSCorrectorJudgeFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorJudgeFaces",
            display_name="RS Judge: Faces",
            category="RS-Corrector/audit",
            description=(
                "Labels the largest face of a picture with a FairFace-type classifier. Name the plan's groups and "
                "attributes as its labels are: Female, Male, 20-29, East Asian and so on. The labels say how faces "
                "look to a classifier, not who anyone is. Needs the package uniface."
            ),
            search_aliases=["rs corrector", "audit", "judge", "fairface", "face"],
            inputs=[
                RSAuditPlan.Input("plan", tooltip="Connect RS Audit Plan."),
                io.Combo.Input(
                    "detector",
                    options=host.judge_names(".onnx"),
                    tooltip="Choose RetinaFace weights, models/rs_judges.",
                ),
                io.Combo.Input(
                    "classifier",
                    options=host.judge_names(".onnx"),
                    tooltip="Choose FairFace weights, models/rs_judges.",
                ),
            ],
            outputs=[RSJudge.Output(display_name="judge", tooltip="Connect to RS Audit Report.")],
        )

    @classmethod
    def execute(cls, plan, detector, classifier):
        from ..rs_corrector.audit.faces import FaceJudge

        return io.NodeOutput(FaceJudge(plan, host.judge_path(detector), host.judge_path(classifier)))
