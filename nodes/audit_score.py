"""RS Judge: Score, what a corrector from marked pairs prefers in the pictures."""

from comfy_api.latest import io

from . import host
from .types import RSCorrector, RSJudge


class RSCorrectorJudgeScore(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorJudgeScore",
            display_name="RS Judge: Score",
            category="RS-Corrector/audit",
            description=(
                "Adds a corrector's own preference to another judge: the report draws how preferred each group's "
                "pictures are at every noise level. Needs a corrector made from sorted images or prompts."
            ),
            search_aliases=["rs corrector", "audit", "judge", "score", "preference"],
            inputs=[
                RSJudge.Input("judge", tooltip="Connect the judge of groups and attributes."),
                io.Model.Input("model", tooltip="Connect the checkpoint that the corrector is for."),
                io.Vae.Input("vae", tooltip="Connect the checkpoint's VAE."),
                RSCorrector.Input("corrector", tooltip="Connect Load RS Corrector or Train RS Corrector."),
                io.String.Input("group", default="", tooltip="Name the perceived group, or leave empty if only one."),
            ],
            outputs=[RSJudge.Output(display_name="judge", tooltip="Connect to RS Audit Report.")],
        )

    @classmethod
    def execute(cls, judge, model, vae, corrector, group):
        from ..rs_corrector.audit.score import ScoreJudge

        host.check_latents(model, corrector.model.config)

        def encode(images):
            z = host.encode_images(model, vae, images.movedim(1, -1))
            host.load(corrector)  # the VAE may have taken its place on the device
            return z.to(corrector.load_device)

        return io.NodeOutput(ScoreJudge(judge, corrector.model, encode, group, "the corrector"))
