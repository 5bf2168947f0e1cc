"""RS Pairs from Words: record what the checkpoint makes of two wordings. The default way to make a corrector."""

import torch
from comfy_api.latest import io

from ..rs_corrector.distillation import Recorder, full_strength
from ..rs_corrector.pairs import TEACHER, Pairs, Writer
from . import host
from .sampling_inputs import merge, output, sampling, where, wordings

CALIBRATION = 32  # images drawn under the preferred wording, to know what fully corrected means


class RSCorrectorPairsFromTeacher(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorPairsFromTeacher",
            display_name="RS Pairs from Words",
            category="RS-Corrector/make",
            description=(
                "Records, while your checkpoint draws the neutral prompt, the difference between its predictions for "
                "a preferred and a rejected wording. No data set is needed. Costs two extra evaluations a step and 16 "
                "an image, once; a run that is cut off goes on where it stopped."
            ),
            search_aliases=["rs corrector", "record", "distill", "teacher", "make corrector"],
            inputs=[
                io.Model.Input("model", tooltip="Connect the checkpoint that the corrector is for."),
                io.Conditioning.Input("neutral", tooltip="Describe the group and nothing else."),
                *wordings(),
                io.Conditioning.Input("negative", tooltip="Use the negative prompt you usually sample with."),
                *where(),
                *sampling(),
                merge(),
            ],
            outputs=[output()],
        )

    @classmethod
    def execute(cls, model, neutral, preferred, rejected, negative, group, name, count, batch_size, width, height,
                steps, cfg, sampler_name, scheduler, seed, merge_with=None):  # fmt: skip
        group = group.strip()
        settings = (steps, cfg, sampler_name, scheduler)
        begun = host.digest((neutral, preferred, rejected, negative), width, height, seed, *settings)
        writer = Writer(host.pairs_folder(name), Pairs(TEACHER, *host.describe(model)))
        facts = writer.resume(group, begun, {"trajectories": [], "asked": []})
        while (done := len(facts["trajectories"])) < count:
            size = host.latent_size(model, min(batch_size, count - done), height, width)
            if len(facts["asked"]) < CALIBRATION:
                asked = host.draw(model, preferred, negative, size, seed + done, *settings)
                facts["asked"] = facts["asked"] + host.score(model, preferred, rejected, asked).tolist()
            recorder, taught = cls.recorded(model, preferred, rejected, seed + done)
            drawn = host.draw(taught, neutral, negative, size, seed + done, *settings)
            scores = host.score(model, preferred, rejected, drawn)
            facts["trajectories"] = facts["trajectories"] + list(zip(recorder.strength.tolist(), scores.tolist()))
            target = sum(facts["asked"]) / len(facts["asked"])
            facts["full_strength"] = full_strength(*torch.tensor(facts["trajectories"]).T, target)
            writer.append(group, dict(facts), **recorder.records())
        return io.NodeOutput(writer.pairs if merge_with is None else merge_with.merge(writer.pairs))

    @classmethod
    def recorded(cls, model, preferred, rejected, seed):
        """A recorder, and a clone of the model whose steps it records and corrects."""
        latest = {}
        recorder = Recorder(lambda x, sigma: latest["difference"], torch.Generator().manual_seed(seed))

        def act(x, sigma, denoised, signal, difference):
            latest["difference"] = difference
            return recorder(x, sigma, denoised, signal)

        return recorder, host.teach(model, preferred, rejected, lambda: act)
