"""The help pages' pictures: `python tests/host/browser/pictures.py [NODE ...]`.

Each shows a node in ComfyUI's own editor, connected as it is meant to be.
"""

import argparse

from editor import editor
from workflows import Graph, Link, place, thumbnail

from rs_corrector import comfyui

FOLDER = comfyui.PACK / "web" / "docs" / "pictures"
PERSON = "portrait photo of a NAME-THE-GROUP person"


def sources(g, wanted):
    """Nodes to connect a node to, only those that are wanted: {input: link}."""
    makers = {
        "model": lambda: (g.checkpoint("my_checkpoint.safetensors"))[0],
        "corrected_model": lambda: g.apply(Link("Checkpoint"), g.corrector("my_corrector.safetensors"), column=0),
        "clip": lambda: Link("Checkpoint", 1),
        "vae": lambda: Link("Checkpoint", 2),
        "corrector": lambda: g.corrector("my_corrector.safetensors"),
        "neutral": lambda: g.text(Link("Checkpoint", 1), "Neutral", PERSON),
        "preferred": lambda: g.text(Link("Checkpoint", 1), "Preferred", f"{PERSON}, natural proportions"),
        "rejected": lambda: g.text(Link("Checkpoint", 1), "Rejected", f"{PERSON}, caricature"),
        "negative": lambda: g.text(Link("Checkpoint", 1), "Negative", "watermark"),
        "pairs": lambda: g(0, "RSCorrectorPairsFromWords", "Record"),
        "plan": lambda: g(0, "RSCorrectorAuditPlan", "Plan"),
        "audit": lambda: g(0, "RSCorrectorAuditRun", "Draw"),
        "judge": lambda: g(0, "RSCorrectorJudgeCLIP", "Judge"),
        "latent": lambda: g(0, "KSampler", "Sampler"),
        "clip_vision": lambda: g(0, "CLIPVisionLoader", "CLIP vision"),
    }
    return {name: makers[name]() for name in wanted}


WORDS = ("model", "neutral", "preferred", "rejected", "negative")
LOOK = ("RSCorrectorAuditReport", "judge", 0)
#: {node: (inputs to connect, what to go on to: (node, input, output))}
NODES = {
    "RSCorrectorLoader": ((), [("RSCorrectorApply", "corrector", 0)]),
    "RSCorrectorApply": (("model", "corrector"), [("KSampler", "model", 0)]),
    "RSCorrectorPrompt": (("model", "preferred", "rejected"), [("KSampler", "model", 0)]),
    "RSCorrectorScore": (("model", "latent", "corrector"), [("PreviewAny", "source", 0)]),
    "RSCorrectorTestbed": ((), [("RSCorrectorApply", "model", 0), ("CLIPTextEncode", "clip", 1)]),
    "RSCorrectorPairsFromWords": (
        ("model", "clip", "vae"),
        [("RSCorrectorTrain", "pairs", 0), ("PreviewImage", "images", 1)],
    ),
    "RSCorrectorPairsFromPrompts": (WORDS, [("RSCorrectorTrain", "pairs", 0)]),
    "RSCorrectorPairsFromSorted": (("model", "vae"), [("RSCorrectorTrain", "pairs", 0)]),
    "RSCorrectorTrain": (("pairs",), [("RSCorrectorApply", "corrector", 0), ("PreviewImage", "images", 1)]),
    "RSCorrectorSave": (("corrector",), []),
    "RSCorrectorAuditPlan": ((), [("RSCorrectorAuditRun", "plan", 0), ("RSCorrectorJudgeCLIP", "plan", 0)]),
    "RSCorrectorAuditRun": (("model", "corrected_model", "clip", "plan"), [("RSCorrectorAuditReport", "audit", 0)]),
    "RSCorrectorAuditReport": (("audit", "judge"), [("PreviewImage", "images", 0), ("PreviewAny", "source", 1)]),
    "RSCorrectorJudgeTestbed": (("plan",), [LOOK]),
    "RSCorrectorJudgeCLIP": (("plan", "clip_vision"), [LOOK]),
    "RSCorrectorJudgeFaces": (("plan",), [LOOK]),
    "RSCorrectorJudgeQuestions": (("plan",), [LOOK]),
    "RSCorrectorJudgeAesthetics": (("judge", "clip_vision"), [LOOK]),
    "RSCorrectorJudgeScore": (("model", "vae", "judge", "corrector"), [LOOK]),
}  # fmt: skip


def graph(node):
    """A node between what it comes after and what comes after it; titles are the nodes' own."""
    g, (before, after) = Graph(), NODES[node]
    g(1, node, "=shown", **sources(g, before))
    for kind, name, slot in after:
        g(2, kind, f"=after {kind}", **{name: Link("=shown", slot)})
    return g


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nodes", nargs="*", metavar="NODE", help="all without one")
    FOLDER.mkdir(exist_ok=True)
    with comfyui.Server(comfyui.find()) as server:
        names = {"checkpoints": ["my_checkpoint.safetensors"], "rs_correctors": ["my_corrector.safetensors"]}
        place(
            names
            | {
                "clip_vision": ["clip_vision_vit_l.safetensors"],
                "rs_judges": ["my_judge.onnx", "my_head.safetensors", "my_vision_model/config.json"],
            },
            server.base,
        )
        with editor(server) as page:
            for node in parser.parse_args().nodes or NODES:
                page.open()
                page.build(graph(node))
                picture = comfyui.PACK / "build" / "pictures" / f"{node}.png"
                page.screenshot(picture, frame="graph")
                thumbnail(picture.read_bytes(), FOLDER / f"{node}.jpg")
                print("wrote", node, flush=True)


if __name__ == "__main__":
    main()
