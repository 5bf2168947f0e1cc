"""RS Pairs from Words: what the checkpoint would have drawn instead. The default way to make a corrector."""

from comfy_api.latest import io

from ..rs_corrector.method import RECIPE, RUNS
from ..rs_corrector.pairs import RECORDS
from ..rs_corrector.recording import IMAGES, recorded, report
from . import host, typed
from .sampling_inputs import begun_with, drawing, merged, opened, output
from .sheet import Sheet

AUTO, PART, WHOLE = "decided by the wordings", "where the wordings differ", "the whole picture"


class RSCorrectorPairsFromWords(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorPairsFromWords",
            display_name="RS Pairs from Words",
            category="RS-Corrector/make",
            description=(
                "Lets your checkpoint draw people by the neutral wording in many scenes, redraws each image under a "
                "preferred wording only where the wordings differ, and records the corrections that lead from one to "
                "the other. No data set is needed. Each image takes about as long as nine; a run that is cut off "
                "goes on where it stopped."
            ),
            search_aliases=["rs corrector", "record", "distill", "words", "make corrector"],
            inputs=drawing(
                typed.inputs(),
                *typed.scenes(),
                host.advanced(
                    io.Combo.Input(
                        "redraw",
                        options=[AUTO, PART, WHOLE],
                        default=AUTO,
                        optional=True,
                        tooltip="Redraw a part for what people wear, hold or look like. Redraw the whole picture where "
                        "the stereotype is in its light, its sharpness or its style.",
                    )
                ),
                io.Combo.Input(
                    "effort",
                    options=list(IMAGES),
                    default="thorough",
                    optional=True,
                    tooltip="Take quick to see what your words do, thorough for a corrector to keep. A set that was "
                    "begun quickly goes on thoroughly.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="Connect the VAE to see the sheet sharply."),
                count=host.advanced(
                    io.Int.Input(
                        "count",
                        default=0,
                        min=0,
                        max=100000,
                        tooltip="Draw this many images; at 0 the effort says how many.",
                    )
                ),
            ),
            outputs=[
                output(),
                io.Image.Output(
                    display_name="sheet",
                    tooltip="Connect to Preview Image: first images, where they are redrawn, and their counterparts.",
                ),
                io.String.Output(
                    display_name="report", tooltip="Connect to Preview as Text: what was recorded, what was dropped."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, neutral, preferred, rejected, negative, others, group, name, count, batch_size, width,
                height, steps, cfg, sampler_name, scheduler, seed, merge_with=None, contexts="", shares="",
                redraw=AUTO, effort="thorough", clip=None, vae=None):  # fmt: skip
        group, count = group.strip(), count or IMAGES[effort]
        said = typed.parse(neutral, preferred, rejected, others, contexts, shares)
        writer = opened(RECORDS, model, name)
        seed = begun_with(writer, group, seed)
        known, negative = typed.encoded(clip, said, negative)
        _, *size = host.latent_size(model, 1, height, width)
        checkpoint = host.HostCheckpoint(model, said, known, negative, size, seed, steps, sampler_name, scheduler)
        done = writer.pairs.source.get(group, {}).get("images", 0)
        sheet = Sheet(writer.beside(group, "sheet.png"), lambda z: host.seen(model, vae, z), done)
        bare = [host.told(each, known) for each in said.bare()]
        request, things = host.mark_request(said, known, clip)
        settings = (width, height, redraw, steps, cfg, sampler_name, scheduler)
        writer.need(RUNS * host.latent_bytes(model, max(count - done, 0) * (steps + 1), height, width))
        batches = recorded(
            checkpoint,
            writer,
            group,
            count=count,
            batch_size=batch_size,
            cfg=cfg,
            begun=host.digest((*bare, negative), said.contexts, *settings, RECIPE, *host.patches(model)),
            whole={AUTO: None, PART: False, WHOLE: True}[redraw],
            request=request,
            facts={"seed": seed, "things": things},
        )
        left = host.TimeLeft(f"recording {group}", host.node_id(cls), done)
        for batch in batches:
            sheet.add(batch)
            done += len(batch.drawn)
            size = writer.pairs.bytes(group) / done
            left(done, count, f"the set will take {1e-6 * size * count:.0f} MB")
            writer.need(size * (count - done))  # some samplers evaluate the model several times a step
        out = merged(writer.pairs, merge_with)
        return io.NodeOutput(*out.result, sheet.picture(), report(writer.pairs.source[group]))
