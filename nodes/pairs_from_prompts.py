"""RS Pairs from Prompts: draw both depictions and use their latents as the two sides."""

import torch
from comfy_api.latest import io

from ..rs_corrector.corrector import PREFERRED, REJECTED
from ..rs_corrector.pairs import SIDES
from ..rs_corrector.request import mark
from . import host
from .sampling_inputs import begun_with, counted, drawing, merged, opened, output, wordings


class RSCorrectorPairsFromPrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorPairsFromPrompts",
            display_name="RS Pairs from Prompts",
            category="RS-Corrector/make",
            description=(
                "Draws images under the preferred and the rejected wording and keeps their latents. "
                "The corrector made of them can also score latents. 'RS Pairs from Words' keeps more of the picture."
            ),
            search_aliases=["rs corrector", "preference pairs", "make corrector"],
            inputs=drawing(
                [
                    io.Conditioning.Input("neutral", tooltip="Describe the group and nothing else."),
                    *wordings(),
                    io.Conditioning.Input("negative", tooltip="Use your usual negative prompt."),
                ],
                count=counted(),
            ),
            outputs=[output()],
        )

    @classmethod
    def execute(cls, model, neutral, preferred, rejected, negative, group, name, count, batch_size, width, height,
                steps, cfg, sampler_name, scheduler, seed, merge_with=None):  # fmt: skip
        group = group.strip()
        settings = (steps, cfg, sampler_name, scheduler)
        words = (neutral, preferred, rejected, negative)
        writer = opened(SIDES, model, name)
        seed = begun_with(writer, group, seed)
        begun = host.digest(words, width, height, *settings, *host.patches(model))
        facts = writer.resume(group, begun, {"seed": seed}, {})
        spared = [host.tokens_of(neutral), host.tokens_of(preferred)]
        request = mark(spared, spared, host.tokens_of(rejected))
        sides = {PREFERRED: preferred, REJECTED: rejected}
        while (done := writer.pairs.count(group) // len(sides)) < count:
            size = host.latent_size(model, min(batch_size, count - done), height, width)
            drawn = [host.draw(model, side, negative, size, seed + done, *settings) for side in sides.values()]
            side = torch.tensor(list(sides)).repeat_interleave(size[0])
            writer.append(group, facts, request, latents=torch.cat(drawn), side=side)
        return merged(writer.pairs, merge_with)
