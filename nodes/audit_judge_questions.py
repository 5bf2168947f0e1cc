"""RS Judge: Questions, a vision-language model that you bring, asked in yes-or-no questions."""

from comfy_api.latest import io

from . import host
from .types import RSAuditPlan, RSJudge


class RSCorrectorJudgeQuestions(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorJudgeQuestions",
            display_name="RS Judge: Questions",
            category="RS-Corrector/audit",
            description=(
                "Asks a vision-language model whether a picture shows what the plan's words say, yes or no; where it "
                "gives neither, nothing is judged. Such models have stereotypes of their own: use a second judge."
            ),
            search_aliases=["rs corrector", "audit", "judge", "vqa", "vision-language"],
            inputs=[
                RSAuditPlan.Input("plan", tooltip="Connect RS Audit Plan."),
                io.Combo.Input(
                    "folder",
                    options=host.judge_folders(),
                    tooltip="Choose the folder of a transformers model, models/rs_judges.",
                ),
            ],
            outputs=[RSJudge.Output(display_name="judge", tooltip="Connect to RS Audit Report.")],
        )

    @classmethod
    def execute(cls, plan, folder):
        from ..rs_corrector.audit.questions import QuestionJudge

        return io.NodeOutput(QuestionJudge(plan, host.judge_folder(folder), host.training_device()))
