"""The example workflows, written down once: `python tests/host/browser/workflows.py [NAME ...]`.

Each is built in ComfyUI's own editor, saved as the editor saves it and in API format, run where that needs no
checkpoint of the user's, and photographed for its thumbnail.
"""

import argparse
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

from editor import editor
from PIL import Image

from rs_corrector import comfyui, recipe, wordings
from rs_corrector.testbed import portraits

FOLDER = comfyui.PACK / "example_workflows"
NOTES = Path(__file__).with_name("notes")
THUMBNAIL = (960, 600)


@dataclass(frozen=True)
class Link:
    """An output of another node, by that node's title."""

    title: str
    slot: int = 0


@dataclass
class Node:
    """One node: inputs are values of widgets; links come from other nodes. Column -1 is for notes."""

    column: int
    type: str
    title: str
    inputs: dict
    links: dict
    size: tuple | None = None


@dataclass
class Graph:
    """Nodes in the order of their numbers.

    Attributes:
        needs: {folder of models: file names} that a user has to bring.
    """

    nodes: list = field(default_factory=list)
    needs: dict = field(default_factory=dict)

    def __call__(self, column, type, title, size=None, /, **inputs):
        links = {name: value for name, value in inputs.items() if isinstance(value, Link)}
        values = {name: value for name, value in inputs.items() if name not in links}
        self.nodes.append(Node(column, type, title, values, links, size))
        return Link(title)

    def testbed(self):
        self(0, "RSCorrectorTestbed", "Testbed")
        return Link("Testbed", 0), Link("Testbed", 1), Link("Testbed", 2)

    def checkpoint(self, name):
        self(0, "CheckpointLoaderSimple", "Checkpoint", ckpt_name=name)
        self.needs.setdefault("checkpoints", []).append(name)
        return Link("Checkpoint", 0), Link("Checkpoint", 1), Link("Checkpoint", 2)

    def corrector(self, name="testbed.safetensors", column=0):
        if name != "testbed.safetensors":
            self.needs.setdefault("rs_correctors", []).append(name)
        return self(column, "RSCorrectorLoader", "Corrector", corrector_name=name)

    def apply(self, model, corrector, group="", title="Apply the corrector", column=1, **more):
        window = dict(strength=1.0, start_percent=0.0, end_percent=1.0, obey_requests=True, keep=0.0)
        return self(column, "RSCorrectorApply", title, model=model, corrector=corrector, group=group, **window | more)

    def text(self, clip, title, text, column=0):
        return self(column, "CLIPTextEncode", title, (320, 110), clip=clip, text=text)

    def sample(self, title, model, positive, negative, latent, column, cfg=3.0, seed=7, denoise=1.0, **more):
        settings = dict(seed=seed, steps=20, cfg=cfg, sampler_name="euler", scheduler="normal", denoise=denoise) | more
        return self(
            column,
            "KSampler",
            title,
            model=model,
            positive=positive,
            negative=negative,
            latent_image=latent,
            **settings,
        )

    def show(self, title, samples, vae, column, prefix=None, size=(380, 400)):
        images = self(column, "VAEDecode", f"Decode {title.lower()}", samples=samples, vae=vae)
        return self(
            column + 1,
            "SaveImage",
            title,
            size,
            images=images,
            filename_prefix=f"rs_corrector_{prefix or title.lower()}",
        )


GREEN = "a portrait of a person in a green shirt"


def before_after():
    g = Graph()
    model, clip, vae = g.testbed()
    corrected = g.apply(model, g.corrector(), "green")
    positive, negative = g.text(clip, "Prompt", GREEN), g.text(clip, "Negative", "")
    latent = g(0, "EmptyLatentImage", "Latent", width=64, height=64, batch_size=16)
    before = g.sample("Sample before", model, positive, negative, latent, 1)
    after = g.sample("Sample after", corrected, positive, negative, latent, 2)
    decoded = [
        g(column, "VAEDecode", f"Decode {side}", samples=samples, vae=vae)
        for column, side, samples in ((1, "before", before), (2, "after", after))
    ]
    for side, images in zip(("Before", "After"), decoded):
        g(3, "SaveImage", side, (380, 400), images=images, filename_prefix=f"rs_corrector_{side.lower()}")
    return g


def _making(g, model, clip, vae, words, contexts, group, name, pixels, cfg, drawn, saved, shown):
    """What both ways of making one have in common."""
    said = dict(zip(("neutral", "preferred", "rejected", "negative", "others"), words))
    pairs = g(
        1, "RSCorrectorPairsFromWords", "1. Record", (340, 780),
        model=model, clip=clip, vae=vae, **said, contexts="\n".join(contexts), shares="", group=group, name=name,
        count=0, batch_size=drawn, width=pixels, height=pixels, steps=20, cfg=cfg, sampler_name="euler",
        scheduler="normal", seed=1, redraw="decided by the wordings", effort="thorough",
    )  # fmt: skip
    corrector = g(
        2,
        "RSCorrectorTrain",
        "2. Train",
        pairs=pairs,
        steps=recipe.STEPS,
        batch_size=0,
        width=recipe.WIDTH,
        learning_rate=recipe.RATE,
        seed=0,
    )
    g(2, "RSCorrectorSave", "3. Save", corrector=corrector, name=saved)
    corrected = g.apply(model, corrector, column=2)
    latent = g(3, "EmptyLatentImage", "Latent", width=pixels, height=pixels, batch_size=shown)
    prompt = g.text(clip, "Prompt", wordings.placed(said["neutral"], contexts[0]), 3)
    negative = g.text(clip, "Negative", said["negative"], 3)
    after = g.sample("Sample", corrected, prompt, negative, latent, 3, cfg=cfg)
    images = g(3, "VAEDecode", "Decode", samples=after, vae=vae)
    g(4, "SaveImage", "After", (380, 400), images=images, filename_prefix="rs_corrector_mine")
    g(4, "PreviewImage", "Loss", (380, 300), images=Link("2. Train", 1))
    g(4, "PreviewImage", "Sheet", (380, 300), images=Link("1. Record", 1))


def make_a_corrector():
    g = Graph()
    person = "a NAME-THE-GROUP person"
    words = (
        person,
        f"{person}, individual features, natural proportions, everyday clothes, well lit, sharp, high quality",
        f"{person}, caricature, exaggerated features, stereotyped costume, distorted face, blurry, low quality",
        "watermark, text",
        "a person",
    )
    contexts = wordings.shipped()
    bed = g.checkpoint("v1-5-pruned-emaonly-fp16.safetensors")
    _making(g, *bed, words, contexts, "NAME-THE-GROUP", "my_pairs", 512, 7.0, 4, "my_corrector", 4)
    return g


def make_a_corrector_testbed():
    g = Graph()
    words = (GREEN, f"{GREEN}, bare-headed", f"{GREEN}, wearing a hat", "", "a portrait of a person")
    _making(
        g,
        *g.testbed(),
        words,
        portraits.contexts("hat"),
        "green",
        "testbed_green",
        64,
        3.0,
        64,
        "my_testbed_corrector",
        16,
    )
    return g


def controlnet_lora():
    g = Graph()
    model, clip, vae = g.checkpoint("v1-5-pruned-emaonly-fp16.safetensors")
    g.needs |= {"loras": ["my_lora.safetensors"], "controlnet": ["control_v11p_sd15_canny_fp16.safetensors"]}
    styled = g(
        0,
        "LoraLoader",
        "LoRA",
        model=model,
        clip=clip,
        lora_name="my_lora.safetensors",
        strength_model=0.8,
        strength_clip=0.8,
    )
    clip = Link("LoRA", 1)
    corrected = g.apply(styled, g.corrector("my_corrector.safetensors"))
    positive = g.text(clip, "Prompt", "portrait photo of a NAME-THE-GROUP person")
    negative = g.text(clip, "Negative", "watermark, text")
    picture = g(0, "LoadImage", "Pose", (320, 320), image="example.png")
    edges = g(1, "Canny", "Edges", image=picture, low_threshold=0.4, high_threshold=0.8)
    network = g(1, "ControlNetLoader", "ControlNet", control_net_name="control_v11p_sd15_canny_fp16.safetensors")
    g(
        1, "ControlNetApplyAdvanced", "Apply ControlNet", positive=positive, negative=negative, control_net=network,
        image=edges, vae=vae, strength=0.8, start_percent=0.0, end_percent=1.0,
    )  # fmt: skip
    latent = g(1, "EmptyLatentImage", "Latent", width=512, height=512, batch_size=4)
    guided = Link("Apply ControlNet", 0), Link("Apply ControlNet", 1)
    g.show("After", g.sample("Sample", corrected, *guided, latent, 2, cfg=7.0), vae, 2)
    return g


def inpaint():
    g = Graph()
    model, clip, vae = g.testbed()
    corrected = g.apply(model, g.corrector(), "green")
    positive, negative = g.text(clip, "Prompt", GREEN), g.text(clip, "Negative", "")
    latent = g(0, "EmptyLatentImage", "Latent", width=64, height=64, batch_size=16)
    drawn = g.sample("Draw", model, positive, negative, latent, 1)
    everywhere = g(1, "SolidMask", "Nowhere", value=0.0, width=64, height=64)
    head = g(1, "SolidMask", "Head", value=1.0, width=64, height=32)
    mask = g(1, "MaskComposite", "Mask", destination=everywhere, source=head, x=0, y=0, operation="add")
    masked = g(2, "SetLatentNoiseMask", "Only the head", samples=drawn, mask=mask)
    again = g.sample("Draw the head anew", corrected, positive, negative, masked, 2, seed=8)
    for title, samples in (("Before", drawn), ("After", again)):
        images = g(2, "VAEDecode", f"Decode {title.lower()}", samples=samples, vae=vae)
        g(3, "SaveImage", title, (380, 400), images=images, filename_prefix=f"rs_corrector_inpaint_{title.lower()}")
    return g


def two_people():
    g = Graph()
    model, clip, vae = g.testbed()
    corrector = g.corrector()
    sides = {}
    for x, group in ((0, "green"), (64, "gold")):
        words = g.text(clip, f"{group.title()} person", f"a portrait of a person in a {group} shirt")
        sides[group] = g(
            1,
            "ConditioningSetArea",
            f"{group.title()} side",
            conditioning=words,
            width=64,
            height=64,
            x=x,
            y=0,
            strength=1.0,
        )
    negative = g.text(clip, "Negative", "")
    both = g(1, "ConditioningCombine", "Both", conditioning_1=sides["green"], conditioning_2=sides["gold"])
    latent = g(0, "EmptyLatentImage", "Latent", width=128, height=64, batch_size=8)
    blank = g(1, "SolidMask", "Nowhere", value=0.0, width=128, height=64)
    half = g(1, "SolidMask", "Half", value=1.0, width=64, height=64)
    corrected = model
    for x, group in ((0, "green"), (64, "gold")):
        mask = g(2, "MaskComposite", f"Where {group} is", destination=blank, source=half, x=x, y=0, operation="add")
        corrected = g.apply(corrected, corrector, group, f"Apply for {group}", 2, mask=mask)
    for title, chosen, column in (("Before", model, 3), ("After", corrected, 3)):
        samples = g.sample(f"Sample {title.lower()}", chosen, both, negative, latent, column)
        images = g(4, "VAEDecode", f"Decode {title.lower()}", samples=samples, vae=vae)
        g(4, "SaveImage", title, (420, 330), images=images, filename_prefix=f"rs_corrector_two_{title.lower()}")
    return g


def audit():
    g = Graph()
    model, clip, vae = g.testbed()
    corrected = g.apply(model, g.corrector(), "green", column=0)
    plan = g(1, "RSCorrectorAuditPlan", "1. What to look at", (340, 620), checkpoints="model")
    drawn = g(
        2, "RSCorrectorAuditRun", "2. Draw",
        plan=plan, model=model, corrected_model=corrected, clip=clip, vae=vae, name="testbed_audit", checkpoint="model",
    )  # fmt: skip
    judge = g(2, "RSCorrectorJudgeTestbed", "3. Look", plan=plan)
    report = g(2, "RSCorrectorAuditReport", "4. Report", audit=drawn, judge=judge, smallest_gap=0.1)
    g(3, "PreviewAny", "Verdict", (620, 130), source=Link("4. Report", 1))
    g(3, "SaveImage", "Report", (620, 640), images=report, filename_prefix="rs_corrector_audit")
    return g


def sdxl():
    g = Graph()
    model, clip, vae = g.checkpoint("sd_xl_base_1.0.safetensors")
    corrected = g.apply(model, g.corrector("my_sdxl_corrector.safetensors"))
    positive = g.text(clip, "Prompt", "portrait photo of a NAME-THE-GROUP person")
    negative = g.text(clip, "Negative", "watermark, text")
    latent = g(0, "EmptyLatentImage", "Latent", width=1024, height=1024, batch_size=1)
    for column, title, chosen in ((1, "Before", model), (2, "After", corrected)):
        samples = g.sample(f"Sample {title.lower()}", chosen, positive, negative, latent, column, cfg=7.0)
        images = g(column, "VAEDecode", f"Decode {title.lower()}", samples=samples, vae=vae)
        g(3, "SaveImage", title, (380, 400), images=images, filename_prefix=f"rs_corrector_sdxl_{title.lower()}")
    return g


def flux():
    g = Graph()
    model = g(0, "UNETLoader", "Flux", unet_name="flux1-dev.safetensors", weight_dtype="default")
    clip = g(
        0, "DualCLIPLoader", "Text encoders",
        clip_name1="clip_l.safetensors", clip_name2="t5xxl_fp16.safetensors", type="flux", device="default",
    )  # fmt: skip
    vae = g(0, "VAELoader", "VAE", vae_name="ae.safetensors")
    g.needs |= {
        "diffusion_models": ["flux1-dev.safetensors"],
        "text_encoders": ["clip_l.safetensors", "t5xxl_fp16.safetensors"],
        "vae": ["ae.safetensors"],
    }
    corrected = g.apply(model, g.corrector("my_flux_corrector.safetensors"))
    words = g.text(clip, "Prompt", "portrait photo of a NAME-THE-GROUP person")
    guided = g(1, "FluxGuidance", "Guidance", conditioning=words, guidance=3.5)
    noise = g(0, "RandomNoise", "Noise", noise_seed=7)
    latent = g(0, "EmptySD3LatentImage", "Latent", width=1024, height=1024, batch_size=1)
    sampler = g(1, "KSamplerSelect", "Sampler", sampler_name="euler")
    sigmas = g(1, "BasicScheduler", "Scheduler", model=model, scheduler="simple", steps=20, denoise=1.0)
    for title, chosen in (("Before", model), ("After", corrected)):
        guider = g(2, "BasicGuider", f"Guider {title.lower()}", model=chosen, conditioning=guided)
        samples = g(
            2, "SamplerCustomAdvanced", f"Sample {title.lower()}",
            noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent,
        )  # fmt: skip
        images = g(2, "VAEDecode", f"Decode {title.lower()}", samples=samples, vae=vae)
        g(3, "SaveImage", title, (380, 400), images=images, filename_prefix=f"rs_corrector_flux_{title.lower()}")
    return g


GRAPHS = {
    made.__name__: made
    for made in (
        before_after, make_a_corrector, make_a_corrector_testbed, controlnet_lora, inpaint, two_people, audit, sdxl,
        flux,
    )
}  # fmt: skip


def described(name):
    """A workflow's graph, its note included."""
    graph = GRAPHS[name]()
    graph(-1, "MarkdownNote", "Read me", (350, 560), text=(NOTES / f"{name}.md").read_text())
    return graph


def place(needs, base):
    """Empty files under the names that a workflow asks for, so that the editor lists them, and the host's example."""
    Image.new("RGB", (512, 512), "grey").save(base / "input" / "example.png")
    for folder, names in needs.items():
        for name in names:
            file = base / "models" / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(GRAPHS)}; all without one")
    names = parser.parse_args().names or list(GRAPHS)
    with comfyui.Server(comfyui.find()) as server:
        for name in names:
            place(GRAPHS[name]().needs, server.base)
        with editor(server) as page:
            for name in names:
                graph = described(name)
                page.open()  # without the pictures of the last one
                page.build(graph)
                if broken := page.broken():
                    raise SystemExit(f"expected a workflow that the editor takes, got {broken} in {name}; mend it")
                saved, prompt = page.saved()
                saved["id"] = "00000000-0000-0000-0000-000000000000"  # the editor's is random
                saved["extra"].pop("frontendVersion", None)
                (FOLDER / f"{name}.json").write_text(json.dumps(saved, indent=1) + "\n")
                (FOLDER / "api" / f"{name}.json").write_text(json.dumps(prompt, indent=1) + "\n")
                if not graph.needs and not name.startswith("make"):
                    page.run(timeout=900)
                picture = comfyui.PACK / "build" / "workflows" / f"{name}.png"
                page.page.wait_for_timeout(4000)  # until the editor's own messages are gone
                page.screenshot(picture, frame="canvas")
                thumbnail(picture.read_bytes(), FOLDER / f"{name}.jpg")
                print("wrote", name, flush=True)
        print("\n".join(page.complaints))


def thumbnail(png, path):
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.thumbnail(THUMBNAIL)
    picture.save(path, quality=85)


if __name__ == "__main__":
    main()
