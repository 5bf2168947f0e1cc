"""Run RS Audit: draw a plan with and without the corrector."""

from comfy_api.latest import io

from ..rs_corrector.audit import emergence as steps
from ..rs_corrector.audit import run
from . import host
from .types import RSAudit, RSAuditPlan


class RSCorrectorAuditRun(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorAuditRun",
            display_name="Run RS Audit",
            category="RS-Corrector/audit",
            description=(
                "Draws every prompt of a plan for every group, the same seeds without and with the corrector, and "
                "keeps the pictures in output/rs_corrector_audits. A run that is cut off goes on where it stopped."
            ),
            search_aliases=["rs corrector", "audit", "bias", "fairness", "evaluate"],
            inputs=[
                RSAuditPlan.Input("plan", tooltip="Connect RS Audit Plan."),
                io.Model.Input("model", tooltip="Connect the checkpoint as it is."),
                io.Model.Input("corrected_model", tooltip="Connect the same checkpoint after Apply RS Corrector."),
                io.Clip.Input("clip", tooltip="Connect the checkpoint's CLIP."),
                io.Vae.Input("vae", tooltip="Connect the checkpoint's VAE."),
                io.String.Input("name", default="my_audit", tooltip="Name the folder in output/rs_corrector_audits."),
                io.String.Input("checkpoint", default="model", tooltip="Name this checkpoint as the plan does."),
                RSAudit.Input(
                    "after", optional=True, tooltip="Connect the Run RS Audit of another checkpoint of the same plan."
                ),
                host.advanced(
                    io.Boolean.Input(
                        "emergence",
                        default=False,
                        optional=True,
                        tooltip="Turn on to see at which step attributes show; one batch more of every prompt and "
                        "group.",
                    )
                ),
            ],
            outputs=[RSAudit.Output(display_name="audit", tooltip="Connect to RS Audit Report.")],
        )

    @classmethod
    def execute(cls, plan, model, corrected_model, clip, vae, name, checkpoint, after=None, emergence=False):
        if checkpoint not in plan.checkpoints:
            raise run.AuditError(
                f"expected a checkpoint of the plan ({', '.join(plan.checkpoints)}), got {checkpoint!r}; name it there"
            )
        s, encoded = plan.sampling, {}
        host.check_sampling(model, **{key: s[key] for key in ("sampler", "scheduler", "width", "height")})
        folder = run.Folder(host.audit_folder(name), plan) if after is None else after
        todo = [unit for unit in plan.units() if unit.checkpoint == checkpoint]

        def encode(words):
            if words not in encoded:
                encoded[words] = clip.encode_from_tokens_scheduled(clip.tokenize(words))
            return encoded[words]

        def decode(latents):
            return host.decode(model, vae, latents)

        def sample(unit, see=None):
            predicted = [] if see else None
            size = host.latent_size(model, unit.size, s["height"], s["width"])
            sides = encode(unit.words), encode(s["negative"])
            chosen = corrected_model if unit.corrected else model
            sampling = s["steps"], s["cfg"], s["sampler"], s["scheduler"]
            drawn = host.draw(chosen, *sides, size, unit.seed, *sampling, predicted=predicted)
            if see:
                steps.show(see, predicted, decode)
            return decode(drawn)

        run.draw(folder, sample, todo, host.Progress(what=f"audit {name!r}"))
        if emergence:
            steps.draw(folder, sample, todo, host.Progress(what=f"steps of audit {name!r}"))
        return io.NodeOutput(folder)
