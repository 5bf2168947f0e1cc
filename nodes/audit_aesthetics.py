"""RS Judge: Aesthetics, the quality of pictures by a predictor that you bring."""

from comfy_api.latest import io

from . import host
from .types import RSJudge


class RSCorrectorJudgeAesthetics(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorJudgeAesthetics",
            display_name="RS Judge: Aesthetics",
            category="RS-Corrector/audit",
            description=(
                "Adds a predictor of aesthetics, a linear head on CLIP image embeddings, to another judge. The report "
                "compares groups and names the predictor: it is somebody's taste, to be compared and never optimised."
            ),
            search_aliases=["rs corrector", "audit", "judge", "aesthetic"],
            inputs=[
                RSJudge.Input("judge", tooltip="Connect the judge of groups and attributes."),
                io.ClipVision.Input("clip_vision", tooltip="Connect the CLIP vision model that the head was made for."),
                io.Combo.Input(
                    "head",
                    options=host.judge_names(".safetensors"),
                    tooltip="Choose a safetensors file of a linear head from models/rs_judges.",
                ),
            ],
            outputs=[RSJudge.Output(display_name="judge", tooltip="Connect to RS Audit Report.")],
        )

    @classmethod
    def execute(cls, judge, clip_vision, head):
        return io.NodeOutput(host.AestheticJudge(judge, clip_vision, host.load_head(host.judge_path(head)), head))
