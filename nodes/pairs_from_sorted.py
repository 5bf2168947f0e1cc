"""RS Pairs from Sorted Images: what a person marked preferred or rejected."""

import logging

import numpy
import torch
from comfy_api.latest import io
from PIL import Image, UnidentifiedImageError

from ..rs_corrector.corrector import PREFERRED, REJECTED
from ..rs_corrector.pairs import SIDES, PairsError
from . import host
from .sampling_inputs import merge, merged, opened, output, where

BATCH = 16


class RSCorrectorPairsFromSorted(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorPairsFromSorted",
            display_name="RS Pairs from Sorted Images",
            category="RS-Corrector/make",
            description=(
                "Takes images that you sorted into preferred and rejected: as batches, or from a folder with "
                "'preferred' and 'rejected' inside ComfyUI's input directory. Use generated images only. "
                "64 a side were enough on the testbed; the sides need not be aligned."
            ),
            search_aliases=["rs corrector", "preference pairs", "sorted images", "make corrector"],
            inputs=[
                io.Model.Input("model", tooltip="Connect the checkpoint that the corrector is for."),
                io.Vae.Input("vae", tooltip="Connect the VAE of the checkpoint."),
                *where(again="What it has of this group is replaced."),
                io.Image.Input("preferred", optional=True, tooltip="Connect images as you want the group depicted."),
                io.Image.Input("rejected", optional=True, tooltip="Connect images that show the stereotype."),
                io.Latent.Input("preferred_latent", optional=True, tooltip="Or connect latents."),
                io.Latent.Input("rejected_latent", optional=True, tooltip="Or connect latents."),
                io.String.Input("folder", default="", optional=True, tooltip="Or name a folder in ComfyUI's input."),
                merge(),
            ],
            outputs=[output()],
        )

    @classmethod
    def fingerprint_inputs(cls, folder="", **_):
        return host.contents(folder, "*/*")

    @classmethod
    def execute(cls, model, vae, group, name, preferred=None, rejected=None, preferred_latent=None,
                rejected_latent=None, folder="", merge_with=None):  # fmt: skip
        group = group.strip()
        place = host.sorted_folder(folder) if folder.strip() else None
        latents, sides = [], []
        for side, images, latent in ((PREFERRED, preferred, preferred_latent), (REJECTED, rejected, rejected_latent)):
            word = "preferred" if side == PREFERRED else "rejected"
            batches = [] if images is None else list(images.split(BATCH))
            batches += [] if place is None else pictures(place / word)
            progress = host.Progress(max(len(batches), 1))
            found = []
            for done, batch in enumerate(batches):
                progress(done)
                pixels = batch.float() / 255 if batch.dtype == torch.uint8 else batch[..., :3]
                found.append(host.encode_images(model, vae, pixels))
            if latent is not None:
                found.append(host.to_model_space(model, latent["samples"]))
            if not found:
                raise PairsError(f"expected {word} images, got none; connect some or fill the folder {word!r}")
            latents += found
            sides += [side] * sum(len(z) for z in found)
        if len({z.shape[1:] for z in latents}) > 1:
            raise PairsError("expected images of one size, got several; resize them to the size you draw at")
        writer = opened(SIDES, model, name)
        if "begun" in writer.pairs.source.get(group, {}):
            raise PairsError(
                f"expected a set in which {group!r} is of sorted images, got {name!r}, where it was drawn from "
                "prompts; choose another name"
            )
        writer.drop(group)  # the sorting may have changed since the last run
        writer.append(group, latents=torch.cat(latents), side=torch.tensor(sides))
        return merged(writer.pairs, merge_with)


def pictures(folder):
    """The images of a folder in batches of one size, (N, H, W, 3) uint8; one that cannot be read is named, left out."""
    rows = {}
    for path in sorted(folder.glob("*")):
        try:
            pixels = numpy.array(Image.open(path).convert("RGB"))
        except (UnidentifiedImageError, OSError) as error:
            logging.getLogger("RS-Corrector").warning(
                "RS-Corrector: %s is left out, it cannot be read: %s", path, error
            )
            continue
        rows.setdefault(pixels.shape, []).append(torch.from_numpy(pixels))
    return [batch for same in rows.values() for batch in torch.stack(same).split(BATCH)]
