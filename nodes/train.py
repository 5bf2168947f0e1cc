"""Train RS Corrector: from pairs to a corrector, in the graph."""

import torch
from comfy_api.latest import io

from ..rs_corrector import recipe
from . import host
from .plot import as_image, curves
from .sheet import under
from .types import RSCorrector, RSPairs


class RSCorrectorTrain(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorTrain",
            display_name="Train RS Corrector",
            category="RS-Corrector/make",
            description=(
                "Trains the small network of a corrector on a set of pairs. A tenth is held out; training stops early "
                "once that no longer improves. After an interruption it goes on where it was, if nothing was changed."
            ),
            search_aliases=["rs corrector", "train", "make corrector"],
            inputs=[
                RSPairs.Input("pairs", tooltip="Connect one of the RS Pairs nodes."),
                io.Int.Input(
                    "steps",
                    default=recipe.STEPS,
                    min=1,
                    max=1_000_000,
                    tooltip="Train longer if both curves still fall.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="Leave it at 0, and it follows from the images' size.",
                ),
                io.Int.Input(
                    "width",
                    default=recipe.WIDTH,
                    min=8,
                    max=512,
                    step=8,
                    tooltip="Widen the network for complex pictures.",
                ),
                io.Float.Input(
                    "learning_rate", default=recipe.RATE, min=1e-6, max=1.0, step=1e-6, tooltip="Rarely needs changing."
                ),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, tooltip="The same seed gives the same weights."),
            ],
            outputs=[
                RSCorrector.Output(display_name="corrector", tooltip="Connect to Apply or Save RS Corrector."),
                io.Image.Output(
                    display_name="loss",
                    tooltip="Connect to Preview Image: training and held-out loss by step. Below it, held-out pictures "
                    "before, after, and as they should be.",
                ),
                io.String.Output(display_name="report", tooltip="Connect to Preview as Text: what was trained."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, pairs, steps, batch_size, width, learning_rate, seed):
        pairs.shape()
        progress, left = host.Progress(steps), host.TimeLeft("training", host.node_id(cls), done=None)
        examples = {}
        checkpoint = host.kept_training(pairs, steps, batch_size, width, learning_rate, seed)

        def watch(step, history):
            seen = step % 100 == 99 and step + 1 < steps
            progress(step + 1, preview=under(curves(history), examples) if seen else None)
            if step % 50 == 49:
                left(step + 1, steps)

        def show(*rows):
            names = "held out, before", "after", "as it should be"
            examples.update(zip(names, (host.roughly_seen(pairs.latent_format, latents) for latents in rows)))

        # A prompt runs in inference mode, which forbids gradients: everything that learns is made and kept outside.
        with torch.inference_mode(False), torch.enable_grad():
            corrector, history = recipe.train(
                pairs,
                seed=seed,
                steps=steps,
                batch=batch_size or None,
                lr=learning_rate,
                width=width,
                device=host.training_device(),
                every=max(steps // 20, 1),
                checkpoint=checkpoint,
                watch=watch,
                show=show,
            )
            corrector = corrector.cpu()
        host.keep_latest(checkpoint)
        report = (
            f"kind {corrector.config.kind}, {len(pairs)} pairs, {len(history.losses)} of {steps} steps\n"
            f"held-out loss {min(v for _, v in history.validation):.4f}: {recipe.HELD_OUT_LOSS[corrector.config.kind]}"
        )
        return io.NodeOutput(host.manage(corrector), as_image(under(curves(history), examples)), report)
