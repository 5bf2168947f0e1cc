"""Load RS Testbed Model: the small model with planted stereotypes."""

from comfy_api.latest import io

from . import host


class RSCorrectorTestbed(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorTestbed",
            display_name="Load RS Testbed Model",
            category="RS-Corrector",
            description=(
                "Loads a small latent diffusion model of schematic 64x64 portraits with planted stereotypes: people in "
                "green shirts wear hats, in gold shirts are drawn faded and blurred, in blue shirts often have grey "
                "hair, in crimson shirts stand before a rose background. Every native node works on it. Try a "
                "corrector here in seconds, before making one for your own checkpoint. Prompt it with 'a portrait of a "
                "person in a green shirt'; gold, blue and crimson exist too."
            ),
            search_aliases=["rs corrector", "testbed", "stereotype", "demo model"],
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model", tooltip="Connect to Apply RS Corrector or a sampler."),
                io.Clip.Output(display_name="clip", tooltip="Connect to CLIP Text Encode."),
                io.Vae.Output(display_name="vae", tooltip="Connect to VAE Decode. Latents are 8x8 for 64x64 pixels."),
            ],
        )

    @classmethod
    def execute(cls):
        return io.NodeOutput(*host.load_testbed())
