"""ComfyUI's graph editor in a headless Chromium, driven as a person would use it."""

import json
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: A browser that runs as root, asks nothing of the network, and remembers nothing.
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
#: It opens what was on its canvas last, or its own first workflow, after everything else.
READY = (
    "() => window.LiteGraph?.registered_node_types.RSCorrectorApply && "
    "window.app?.extensionManager?.workflow?.activeWorkflow"
)
#: What a newcomer is shown only once.
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Queue.MaxHistoryItems": 8, "Comfy.Minimap.Visible": False}
SETTINGS |= {"Comfy.Graph.CanvasInfo": False}

BUILD = """async ({nodes, links}) => {
    const made = {}, columns = {}
    app.graph.clear()
    for (const {type, title, column, inputs, size} of nodes) {
        const node = LiteGraph.createNode(type)
        if (!title.startsWith("=")) node.title = title  // else the node's own
        app.graph.add(node)
        for (const widget of node.widgets ?? []) {
            if (widget.name in inputs) { widget.value = inputs[widget.name]; widget.callback?.(widget.value) }
            if (widget.name === "control_after_generate") widget.value = "fixed"
        }
        const [width, height] = node.computeSize()
        node.setSize(size ?? [320, Math.max(height, 46)])
        node.column = column
        made[title] = node
    }
    for (const [from, slot, to, input] of links) {
        if (!made[from].connect(slot, made[to], made[to].findInputSlot(input)))
            throw new Error(`no link from ${from} to ${input} of ${to}`)
    }
    for (const node of Object.values(made)) {
        const top = columns[node.column] ?? 0
        node.pos = [node.column * 380, top]
        const said = node.type === "RSCorrectorApply" ? 90 : 0  // what was done, below its widgets
        columns[node.column] = top + node.size[1] + said + 70
        if (node.column < 0) { node.color = "#432"; node.bgcolor = "#653" }
        delete node.column
    }
}"""
SAVE = """async () => {
    const {output} = await app.graphToPrompt()
    return [app.graph.serialize(), output]
}"""
BROKEN = """() => app.graph._nodes.flatMap(node => {
    const found = node.type in LiteGraph.registered_node_types || node.subgraph ? [] : [`no node ${node.type}`]
    for (const widget of node.widgets ?? []) {
        const values = widget.options?.values
        const list = typeof values === "function" ? values() : values
        if (widget.type === "combo" && Array.isArray(list) && !list.includes(widget.value))
            found.push(`${node.title}: ${widget.name} has no ${widget.value}`)
    }
    return found
})"""
#: Puts the whole graph, or its beginning at a given scale, right of the side bar and below the buttons.
FIT = """() => {
    const {canvas, ds} = app.canvas, side = i => app.graph._nodes.map(n => [
        n.pos[0], n.pos[1] - 30, n.pos[0] + n.size[0], n.pos[1] + n.size[1]
    ][i])
    const [left, top, right, bottom] = [
        Math.min(...side(0)), Math.min(...side(1)), Math.max(...side(2)), Math.max(...side(3))
    ]
    const [width, height] = [canvas.clientWidth - 100, canvas.clientHeight - 130]
    ds.scale = SCALE || Math.min(width / (right - left), height / (bottom - top), 1)
    ds.offset = [80 / ds.scale - left, 105 / ds.scale - top]
    app.canvas.setDirty(true, true)
    return [(right - left) * ds.scale + 50, (bottom - top) * ds.scale + 40]
}"""


class Editor:
    """The editor of one server, in one page.

    Attributes:
        page: of playwright.
        complaints: what the browser's console said in warnings and errors.
    """

    def __init__(self, page, server):
        self.page, self.server, self.complaints = page, server, []
        page.on("console", lambda m: m.type in ("error", "warning") and self.complaints.append(m.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.open()

    def open(self):
        self.page.goto(self.server.url)
        self.page.wait_for_function(READY, timeout=120_000)
        self.page.wait_for_timeout(500)

    def build(self, graph):
        """Make a `workflows.Graph`, columns from left to right."""
        nodes = [vars(node) | {"links": None} for node in graph.nodes]
        links = [(link.title, link.slot, node.title, name) for node in graph.nodes for name, link in node.links.items()]
        self.page.evaluate(BUILD, {"nodes": nodes, "links": links})

    def saved(self):
        """(the graph as the editor saves it, the same in API format)."""
        graph, prompt = self.page.evaluate(SAVE)
        return without_empty_slots(graph), prompt

    def load(self, workflow):
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self.page.wait_for_timeout(300)

    def search(self, words):
        """Open the box in which nodes are searched by name, and type."""
        self.page.evaluate("app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
        self.page.get_by_role("combobox").first.wait_for()
        self.page.keyboard.type(words)

    def broken(self):
        """Nodes that the host lacks, and choices that it does not offer."""
        return self.page.evaluate(BROKEN)

    def run(self, timeout=300):
        """Queue what is on the canvas and wait for it; the history entry."""
        before = json.loads(self.server.get("/history"))
        self.page.evaluate("app.queuePrompt(0)")
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = json.loads(self.server.get("/history"))
            if new := [entry for key, entry in found.items() if key not in before]:
                self.page.wait_for_timeout(1500)  # pictures arrive on the nodes
                return new[0]
            self.page.wait_for_timeout(300)
        raise TimeoutError(
            f"expected the workflow to finish within {timeout} s, got no end; {self.server.last_words()}"
        )

    def screenshot(self, path, scale=None, frame="page"):
        """A PNG file of the whole page, of its canvas, or of the graph alone; of its beginning at a scale."""
        width, height = self.page.evaluate(FIT.replace("SCALE", json.dumps(scale)))
        if frame == "canvas":
            width, height = (self.page.viewport_size[side] for side in ("width", "height"))
            width, height = width - 60, height - 80
        self.page.wait_for_timeout(700)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        clip = None if frame == "page" else {"x": 60, "y": 80, "width": width, "height": height}
        self.page.screenshot(path=str(path), clip=clip)


def without_empty_slots(saved):
    """A saved graph less every `slot_index` that is null: the oldest host's editor warns of it."""
    if isinstance(saved, list):
        return [without_empty_slots(part) for part in saved]
    if not isinstance(saved, dict):
        return saved
    kept = {name: part for name, part in saved.items() if name != "slot_index" or part is not None}
    return {name: without_empty_slots(part) for name, part in kept.items()}


@contextmanager
def editor(server, locale="en", size=(1600, 1000)):
    """An `Editor` of a running `comfyui.Server`."""
    folder = server.base / "user" / "default"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comfy.settings.json").write_text(json.dumps(SETTINGS | {"Comfy.Locale": locale}))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        try:
            yield Editor(browser.new_page(viewport={"width": size[0], "height": size[1]}), server)
        finally:
            browser.close()
