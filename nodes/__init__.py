"""The nodes, in ComfyUI's V3 form."""

from comfy_api.latest import ComfyExtension

from . import host
from .apply import RSCorrectorApply
from .audit_aesthetics import RSCorrectorJudgeAesthetics
from .audit_judge_clip import RSCorrectorJudgeCLIP
from .audit_judge_faces import RSCorrectorJudgeFaces
from .audit_judge_questions import RSCorrectorJudgeQuestions
from .audit_judge_testbed import RSCorrectorJudgeTestbed
from .audit_plan import RSCorrectorAuditPlan
from .audit_report import RSCorrectorAuditReport
from .audit_run import RSCorrectorAuditRun
from .audit_score import RSCorrectorJudgeScore
from .loader import RSCorrectorLoader
from .pairs_from_prompts import RSCorrectorPairsFromPrompts
from .pairs_from_sorted import RSCorrectorPairsFromSorted
from .pairs_from_words import RSCorrectorPairsFromWords
from .prompt import RSCorrectorPrompt
from .save import RSCorrectorSave
from .score import RSCorrectorScore
from .testbed import RSCorrectorTestbed
from .train import RSCorrectorTrain


class RSCorrectorExtension(ComfyExtension):
    async def get_node_list(self):
        host.register_folders()
        return [
            RSCorrectorLoader,
            RSCorrectorApply,
            RSCorrectorPrompt,
            RSCorrectorScore,
            RSCorrectorTestbed,
            RSCorrectorPairsFromWords,
            RSCorrectorPairsFromPrompts,
            RSCorrectorPairsFromSorted,
            RSCorrectorTrain,
            RSCorrectorSave,
            RSCorrectorAuditPlan,
            RSCorrectorAuditRun,
            RSCorrectorJudgeTestbed,
            RSCorrectorJudgeCLIP,
            RSCorrectorJudgeFaces,
            RSCorrectorJudgeQuestions,
            RSCorrectorJudgeAesthetics,
            RSCorrectorJudgeScore,
            RSCorrectorAuditReport,
        ]


def comfy_entrypoint():
    return RSCorrectorExtension()
