"""The main job, end to end: the same seeds with and without the corrector, as pictures and numbers."""

import json
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from einops import rearrange
from tqdm.auto import tqdm

from . import comfyui, weights
from .correction import Correction
from .pictures import from_png, to_pixels

WORKFLOW = comfyui.PACK / "example_workflows" / "api" / "before_after.json"
STEPS = 20  # of the example workflow, for the progress bar
ATTRIBUTE = "hat"
SHOWN = 8  # pairs on the comparison picture


def on_comfyui(host, count):
    """({group: before}, {group: after}) images through a ComfyUI server and the example workflow."""
    from .testbed import measure
    from .testbed.portraits import GROUPS, neutral

    template = json.loads(WORKFLOW.read_text())
    title = {node["_meta"]["title"]: number for number, node in template.items()}
    before, after = {}, {}
    with comfyui.Server(host) as server, tqdm(total=2 * STEPS * len(GROUPS), desc="ComfyUI") as bar:
        for group in GROUPS:
            template[title["Prompt"]]["inputs"]["text"] = neutral(group)
            template[title["Latent"]]["inputs"]["batch_size"] = count
            for side in ("Sample before", "Sample after"):
                template[title[side]]["inputs"]["seed"] = measure.REPORTING_SEED
            pictures = server.run(template, progress=lambda node, value, maximum: bar.update())
            before[group] = torch.stack([from_png(p) for p in pictures[title["Before"]]])
            after[group] = torch.stack([from_png(p) for p in pictures[title["After"]]])
    return before, after


def embedded(count):
    """The same without a host: the testbed's diffusers path."""
    from .testbed import measure
    from .testbed.model import Testbed

    corrector = weights.load(weights.SHIPPED)
    bed, begin = Testbed(), partial(Correction, corrector, corrector.config.groups[0])
    return measure.drawn(bed, count), measure.drawn(bed, count, begin)


def run(host, count, out):
    """Run the demo and write before.png, after.png, comparison.png and report.json into `out`, all or none.

    Args:
        host: "auto", "comfyui" or "embedded"; auto takes ComfyUI where one is found and starts.
        count: images per group.

    Returns:
        The report.
    """
    from .testbed import measure, portraits

    weights.read_header(weights.SHIPPED)
    clock, used = time.monotonic(), "embedded"
    checkout = comfyui.find() if host != "embedded" else None
    if host == "comfyui" and checkout is None:
        raise FileNotFoundError(
            "expected a ComfyUI checkout, got none; set COMFYUI_PATH to one, or use --host embedded"
        )
    if checkout is not None:
        try:
            before, after = on_comfyui(checkout, count)
            used = f"ComfyUI {comfyui.version(checkout)}"
        except comfyui.HostError as error:
            if host == "comfyui":
                raise
            print(f"The embedded path is used instead of ComfyUI: {error}")
    if used == "embedded":
        before, after = embedded(count)
    report = {"host": used, "images": count, **measure.report(ATTRIBUTE, before, after)}
    report["seconds"] = round(time.monotonic() - clock, 1)
    target = portraits.STEREOTYPES[ATTRIBUTE].group
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        grid(before[target]).save(scratch / "before.png")
        grid(after[target]).save(scratch / "after.png")
        comparison(before[target], after[target], report).save(scratch / "comparison.png")
        (scratch / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        out.mkdir(parents=True, exist_ok=True)
        for file in scratch.iterdir():
            shutil.copy(file, out / file.name)
    return report


def grid(images, columns=8, scale=1):
    """(N, 3, H, W) -> a PIL image, `columns` to a row, white where a row is not full."""
    from PIL import Image

    tiles = torch.ones(-(-len(images) // columns) * columns, 3, images.shape[2] + 2, images.shape[3] + 2)
    tiles[: len(images), :, 1:-1, 1:-1] = images
    picture = Image.fromarray(to_pixels(rearrange(tiles, "(r k) c h w -> c (r h) (k w)", k=columns)))
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def comparison(before, after, report):
    """The same seeds side by side, captioned with what was measured."""
    from PIL import Image, ImageDraw, ImageFont

    rows = [grid(images[:SHOWN], SHOWN, scale=2) for images in (before, after)]
    rate = report["stereotype_rate"]
    captions = [
        f"without corrector: {rate['before']['value']:.0%} of {report['images']} wear the stereotyped hat",
        f"with corrector, same seeds: {rate['after']['value']:.0%}; other attributes kept {report['content_kept']:.0%}",
    ]
    line, (width, height) = 34, rows[0].size
    sheet = Image.new("RGB", (width, 2 * (height + line)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for i, (row, text) in enumerate(zip(rows, captions)):
        pen.text((8, i * (height + line) + 8), text, fill="black", font=font)
        sheet.paste(row, (0, i * (height + line) + line))
    return sheet
