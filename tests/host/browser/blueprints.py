"""The subgraph blueprints, made and saved in ComfyUI's own editor: `python tests/host/browser/blueprints.py`."""

import json

from editor import editor
from workflows import Graph, place

from rs_corrector import comfyui

FOLDER = comfyui.PACK / "subgraphs"

#: Some nodes become one; what is named becomes a widget of it, what lies outside is taken away.
MAKE = """([name, inside, shown]) => {
    const chosen = app.graph._nodes.filter(n => inside.includes(n.title))
    const {subgraph, node} = app.graph.convertToSubgraph(new Set(chosen))
    node.title = subgraph.name = name
    for (const inner of subgraph.nodes)
        for (const slot of inner.inputs.filter(slot => shown.includes(slot.name) && slot.widget && !slot.link))
            if (!subgraph.inputs.some(input => input.name === slot.name))
                subgraph.addInput(slot.name, slot.type).connect(slot, inner)
    for (const input of subgraph.inputs.filter(input => input.name.startsWith("seed"))) subgraph.removeInput(input)
    for (const outer of [...app.graph._nodes]) if (outer !== node) app.graph.remove(outer)
    node.pos = [0, 0]
    node.setSize([340, node.computeSize()[1]])
}"""


def correct_one_group(g):
    model, *_ = g.testbed()
    corrected = g.apply(model, g.corrector(column=1), "green")
    g(2, "KSampler", "Sampler", model=corrected)
    return ("Corrector", "Apply the corrector"), ("corrector_name", "group", "strength")


def make_a_corrector(g):
    model, clip, _ = g.checkpoint("my_checkpoint.safetensors")
    pairs = g(1, "RSCorrectorPairsFromWords", "Record", model=model, clip=clip)
    corrector = g(1, "RSCorrectorTrain", "Train", pairs=pairs)
    g(2, "RSCorrectorSave", "Save", corrector=corrector)
    said = ("neutral", "preferred", "rejected", "negative", "others", "contexts", "shares")
    return ("Record", "Train"), (*said, "group", "name", "effort", "batch_size", "width", "height", "steps", "cfg")


BLUEPRINTS = {"Correct one group": correct_one_group, "Make a corrector from words": make_a_corrector}


def main():
    FOLDER.mkdir(exist_ok=True)
    with comfyui.Server(comfyui.find()) as server, editor(server) as page:
        for name, describe in BLUEPRINTS.items():
            graph = Graph()
            inside, shown = describe(graph)
            place(graph.needs, server.base)
            page.open()
            page.build(graph)
            page.page.evaluate(MAKE, [name, inside, shown])
            saved, _ = page.saved()
            (FOLDER / f"{name}.json").write_text(json.dumps(saved, indent=1) + "\n")
            page.screenshot(comfyui.PACK / "build" / "blueprints" / f"{name}.png", frame="canvas")
            print("wrote", name)


if __name__ == "__main__":
    main()
