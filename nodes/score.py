"""RS Corrector Score: how preferred latents are, and at which noise levels that shows."""

from comfy_api.latest import io

from ..rs_corrector.corrector import noise_levels
from . import host
from .plot import as_image, lines
from .types import RSCorrector


class RSCorrectorScore(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorScore",
            display_name="RS Corrector Score",
            category="RS-Corrector",
            description=(
                "Scores latents with a corrector made from sorted images or prompts: positive means closer to the "
                "preferred depiction. A corrector made from words knows the difference only and is refused."
            ),
            search_aliases=["rs corrector", "score", "classifier", "preference"],
            inputs=[
                io.Model.Input("model", tooltip="Connect the checkpoint that the corrector is for."),
                io.Latent.Input("latent", tooltip="Connect finished latents, from a sampler or VAE Encode."),
                RSCorrector.Input("corrector", tooltip="Connect Load RS Corrector or Train RS Corrector."),
                io.String.Input("group", default="", tooltip="Name the perceived group, or leave empty if only one."),
            ],
            outputs=[
                io.Float.Output(
                    display_name="scores",
                    is_output_list=True,
                    tooltip="Connect to Preview as Text: a score for each image, positive is preferred.",
                ),
                io.Image.Output(display_name="picture", tooltip="Connect to Preview Image: the score by noise level."),
            ],
        )

    @classmethod
    def execute(cls, model, latent, corrector, group):
        config = corrector.model.config
        host.check_latents(model, config)
        z = host.to_model_space(model, latent["samples"])
        parts = host.load(corrector).score_by_level(z.to(corrector.load_device), group).cpu()
        levels = noise_levels(config.sigma_min, config.sigma_max, len(parts)).log10().tolist()
        series = {
            name: list(zip(levels, values.tolist()))
            for name, values in (("mean", parts.mean(1)), ("lowest", parts.min(1)[0]), ("highest", parts.max(1)[0]))
        }
        picture = lines(series, "score by log10(sigma), positive is preferred")
        return io.NodeOutput(parts.sum(0).tolist(), as_image(picture))
