"""Save RS Corrector: into the models folder, with a model card beside it."""

from comfy_api.latest import io

from ..rs_corrector import card
from . import host
from .types import RSCorrector


class RSCorrectorSave(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorSave",
            display_name="Save RS Corrector",
            category="RS-Corrector/make",
            description=(
                "Saves a corrector as NAME.safetensors in models/rs_correctors, and NAME.md, its model card: say who "
                "marked the preference and how to contest it before you share the files."
            ),
            search_aliases=["rs corrector", "save corrector", "export"],
            is_output_node=True,
            inputs=[
                RSCorrector.Input("corrector", tooltip="Connect Train RS Corrector."),
                io.String.Input("name", default="my_corrector", tooltip="Name the file. One of that name is replaced."),
                io.String.Input(
                    "marked_by",
                    default="",
                    optional=True,
                    tooltip="Say whose preference this is, in your own words. It goes into the file and its card.",
                ),
                io.String.Input(
                    "contest",
                    default="",
                    optional=True,
                    tooltip="Say where somebody who is depicted can object. It goes into the file and its card.",
                ),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="Connect to Preview as Text: where it was saved.")],
        )

    @classmethod
    def execute(cls, corrector, name, marked_by="", contest=""):
        path = host.corrector_file(name)
        card.save(corrector.model, path, marked_by=marked_by, contest=contest)
        return io.NodeOutput(str(path))
