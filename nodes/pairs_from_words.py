"""RS Pairs from Words: what the checkpoint would have drawn instead. The default way to make a corrector."""

from comfy_api.latest import io

from ..rs_corrector.distillation import CANDIDATES, RECIPE, SETTLE_SIGMA, closest_elsewhere, trajectories
from ..rs_corrector.pairs import RECORDS
from . import host
from .sampling_inputs import drawing, merged, opened, output

PART, WHOLE = "where the wordings differ", "the whole picture"


class RSCorrectorPairsFromWords(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorPairsFromWords",
            display_name="RS Pairs from Words",
            category="RS-Corrector/make",
            description=(
                "Lets your checkpoint draw the neutral prompt, redraws each image under the preferred wording only "
                "where the two wordings differ, and records the corrections that lead from one to the other. No data "
                "set is needed. Each image is drawn about eight times; a run that is cut off goes on where it stopped."
            ),
            search_aliases=["rs corrector", "record", "distill", "words", "make corrector"],
            inputs=[
                *drawing(),
                io.Combo.Input(
                    "redraw",
                    options=[PART, WHOLE],
                    default=PART,
                    optional=True,
                    tooltip="Redraw a part for what people wear, hold or look like. Redraw the whole picture where "
                    "the stereotype is in its light, its sharpness or its style.",
                ),
            ],
            outputs=[output()],
        )

    @classmethod
    def execute(cls, model, neutral, preferred, rejected, negative, group, name, count, batch_size, width, height,
                steps, cfg, sampler_name, scheduler, seed, merge_with=None, redraw=PART):  # fmt: skip
        group = group.strip()
        settings = (steps, cfg, sampler_name, scheduler)
        words = (neutral, preferred, rejected, negative)
        writer = opened(RECORDS, model, name)
        facts = writer.resume(group, host.digest(words, width, height, seed, redraw, *settings, *RECIPE), {"images": 0})
        request = host.mark_request(neutral, preferred, rejected)
        while (done := facts["images"]) < count:
            size = host.latent_size(model, min(batch_size, count - done), height, width)
            own = seed + (1 + CANDIDATES) * done
            drawn = host.draw(model, neutral, negative, size, own, *settings)
            asked = (model, preferred, negative, size)
            if redraw == WHOLE:
                goal = host.draw(*asked, own, *settings)
            else:
                mask = host.redraw_mask(model, preferred, rejected, drawn)
                redrawn = []
                for again in range(own + 1, own + 1 + CANDIDATES):
                    inside = host.draw(*asked, again, *settings, latents=drawn, mask=mask)
                    redrawn.append(host.draw(*asked, again, *settings, latents=inside, below=SETTLE_SIGMA))
                goal = closest_elsewhere(redrawn, drawn, mask)
            led, led_model = host.recorded(model, goal, own)
            host.draw(led_model, neutral, negative, size, own, *settings)
            spared, spared_model = host.recorded(model, None, own)
            host.draw(spared_model, preferred, negative, size, own, *settings)
            facts["images"] += size[0]
            writer.append(group, dict(facts), request, **trajectories(led, spared))
        return merged(writer.pairs, merge_with)
