"""RS Corrector from Prompts (no training): the teacher itself, at every step."""

from comfy_api.latest import io

from . import host
from .sampling_inputs import wordings
from .window import check_window, strength_and_window


class RSCorrectorPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorPrompt",
            display_name="RS Corrector from Prompts (no training)",
            category="RS-Corrector",
            description=(
                "Shows what a corrector would do before one is trained: adds strength × (preferred - rejected) to each "
                "prediction. Cost: two extra evaluations of the checkpoint a step, so a step with CFG takes about "
                "twice as long. A trained corrector does it for well under one per cent."
            ),
            search_aliases=["rs corrector", "stereotype", "guidance", "teacher"],
            inputs=[
                io.Model.Input("model", tooltip="Connect the model to correct."),
                *wordings(),
                *strength_and_window(default=2.0, tooltip="About half the CFG is a start. 0 is off."),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="Connect to a sampler or guider.")],
        )

    @classmethod
    def execute(cls, model, preferred, rejected, strength, start_percent, end_percent):
        check_window(start_percent, end_percent)
        if strength == 0:
            return io.NodeOutput(model.clone())

        def act(x, sigma, denoised, signal, difference):
            return denoised + strength * difference

        return io.NodeOutput(host.teach(model, preferred, rejected, lambda: act, (start_percent, end_percent)))
