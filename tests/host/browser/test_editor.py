"""The pack in ComfyUI's own editor, in a real browser: found, opened, run, explained, and what it says when it fails.

Screenshots are kept in `build/browser/`.
"""

import base64
import json
import re
from importlib.metadata import version

import blueprints
import pytest
import workflows
from editor import CHROMIUM, editor, without_empty_slots

from rs_corrector import comfyui

WANTED = re.search(r"comfyui-frontend-package==(\S+)", (comfyui.find() / "requirements.txt").read_text())[1]
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install it (Debian: chromium)"),
    pytest.mark.skipif(version("comfyui-frontend-package") != WANTED, reason=f"this host's editor is {WANTED}"),
]
#: The oldest host's editor does not search by other words than names, offers no blueprints, and shows errors at once.
OLD = tuple(map(int, WANTED.split("."))) < (1, 30)
SHOTS = comfyui.PACK / "build" / "browser"
RUN = [name for name in workflows.GRAPHS if not workflows.GRAPHS[name]().needs]
#: Settings that make a workflow quick: {workflow: {node title: {widget: value}}}.
QUICK = {
    "make_a_corrector_testbed": {"1. Record": {"count": 16, "batch_size": 8, "steps": 6}, "2. Train": {"steps": 20}},
    "audit": {"1. What to look at": {"plan": ("images = 32", "images = 8")}},
}
#: What the browser says that has nothing to do with any pack.
NOISE = ("404 (Not Found)", "huggingface.co", "deprecated", "before initialization", "ERR_", "Content Security Policy")
if OLD:  # it trips over its own settings whenever it is opened
    NOISE += ("reading 'id'",)


@pytest.fixture(scope="module")
def page(server):
    for graph in workflows.GRAPHS.values():
        workflows.place(graph().needs, server.base)
    with editor(server) as page:
        yield page


def saved(name):
    return json.loads((workflows.FOLDER / f"{name}.json").read_text())


def widget(node, name):
    """A widget in the page, as an expression."""
    return f"app.graph._nodes.find(n => n.title === {node!r}).widgets.find(w => w.name === {name!r})"


SHARED = [*workflows.FOLDER.glob("*.json"), *blueprints.FOLDER.glob("*.json")]


@pytest.mark.parametrize("file", SHARED, ids=lambda file: file.stem)
def test_no_shared_file_alarms_an_old_editor(file):
    text = json.loads(file.read_text())
    assert without_empty_slots(text) == text


@pytest.mark.parametrize("name", workflows.GRAPHS)
def test_an_example_opens_with_no_missing_node_or_choice(page, name):
    page.load(saved(name))
    assert page.broken() == []
    page.screenshot(SHOTS / f"{name}.png", frame="canvas")
    page.screenshot(SHOTS / f"{name}-50.png", scale=0.5)


@pytest.mark.parametrize("name", workflows.GRAPHS)
def test_an_example_is_what_its_description_builds(page, name):
    page.open()
    page.build(workflows.described(name))
    built, prompt = page.saved()
    known = json.loads((workflows.FOLDER / "api" / f"{name}.json").read_text())
    for node in prompt.values():
        if node["class_type"] == "PreviewAny":  # old editors send what it shows, too
            node["inputs"].pop("preview", None)
    assert prompt == known
    assert [n["type"] for n in built["nodes"]] == [n["type"] for n in saved(name)["nodes"]]


@pytest.mark.parametrize("name", RUN)
def test_an_example_runs_and_shows_its_pictures(page, name):
    page.open()
    page.load(saved(name))
    for node, settings in QUICK.get(name, {}).items():
        for setting, value in settings.items():
            target = widget(node, setting)
            change = (
                f"{target}.value.replace(...{json.dumps(value)})" if isinstance(value, tuple) else json.dumps(value)
            )
            page.page.evaluate(f"() => {{ {target}.value = {change} }}")
    entry = page.run(timeout=400)
    assert entry["status"]["status_str"] == "success", entry["status"]
    expected = sorted(n["title"] for n in saved(name)["nodes"] if n["type"] in ("SaveImage", "PreviewImage"))
    page.screenshot(SHOTS / f"{name}-run.png", frame="canvas")  # pictures are loaded once a node comes into view
    shown = "app.graph._nodes.filter(n => n.imgs?.length).map(n => n.title).sort()"
    page.page.wait_for_function(f"expected => JSON.stringify({shown}) === JSON.stringify(expected)", arg=expected)


def test_a_saved_picture_restores_its_graph(page, server):
    page.open()
    page.load(saved("before_after"))
    page.page.evaluate(f"() => {{ {widget('Apply the corrector', 'strength')}.value = 0.75 }}")
    picture = next(o["images"][0] for o in page.run()["outputs"].values() if o["images"][0]["type"] == "output")
    png = server.get("/view", **{key: picture[key] for key in ("filename", "subfolder", "type")})
    page.open()
    page.page.evaluate("app.graph.clear()")
    page.page.evaluate(
        "async text => app.handleFile(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], 'dropped.png', "
        "{type: 'image/png'}))",
        base64.b64encode(png).decode(),
    )
    page.page.wait_for_function(f"() => app.graph._nodes.length > 1 && {widget('Apply the corrector', 'strength')}")
    assert page.page.evaluate(f"{widget('Apply the corrector', 'strength')}.value") == 0.75
    assert page.broken() == []


@pytest.mark.skipif(OLD, reason=f"the editor {WANTED} searches names only")
def test_nodes_are_found_by_what_people_look_for(page):
    page.open()
    page.search("stereotype")
    for name in ("Apply RS Corrector", "Load RS Corrector", "Load RS Testbed Model"):
        page.page.get_by_text(name).first.wait_for(timeout=10_000)
    page.page.screenshot(path=SHOTS / "search.png")
    page.page.keyboard.press("Escape")


@pytest.mark.skipif(OLD, reason=f"the editor {WANTED} offers no blueprints of packs")
@pytest.mark.parametrize("name", blueprints.BLUEPRINTS)
def test_a_blueprint_is_offered_and_becomes_a_node(page, server, name):
    listed = json.loads(server.get("/global_subgraphs"))
    assert [entry["info"]["node_pack"] for entry in listed.values() if entry["name"] == name] == [
        "custom_nodes.rs-corrector"
    ]
    page.load(json.loads((blueprints.FOLDER / f"{name}.json").read_text()))
    assert page.broken() == []
    page.screenshot(SHOTS / f"blueprint {name}.png", scale=1)


def test_the_help_panel_shows_the_page_and_its_picture(page):
    page.open()
    page.load(saved("before_after"))
    page.screenshot(SHOTS / "help.png", scale=1)
    page.page.evaluate("app.canvas.selectNode(app.graph._nodes.find(n => n.type === 'RSCorrectorApply'))")
    page.page.get_by_test_id("info-button").click()
    page.page.get_by_text("nudged towards the preferred depiction; prompt").first.wait_for()
    picture = page.page.locator("img[src*='RSCorrectorApply.jpg']").first
    picture.wait_for()
    assert picture.evaluate("p => p.complete && p.naturalWidth > 0")
    page.page.screenshot(path=SHOTS / "help.png")


def test_nobody_complains_about_the_pack(page, server):
    assert [c for c in page.complaints if not any(noise in c for noise in NOISE)] == []
    lines = [line for line in server.log().splitlines() if "rs-corrector" in line.lower()]
    assert not [line for line in lines if "warning" in line.lower() or "error" in line.lower()]


def details(page):
    """Open what the editor says of an error."""
    if not OLD:
        page.page.get_by_role("button", name="View details").click()


def test_a_wrong_group_is_an_error_that_a_person_can_read(page):
    page.open()
    page.load(saved("before_after"))
    page.page.evaluate(f"() => {{ {widget('Apply the corrector', 'group')}.value = 'mauve' }}")
    entry = page.run()
    assert entry["status"]["status_str"] == "error"
    details(page)
    said = "expected one of the corrector's groups (green, gold, blue, crimson), got 'mauve'"
    page.page.get_by_text(said).first.wait_for()
    page.page.screenshot(path=SHOTS / "error.png")


def test_a_workflow_whose_weights_are_missing_says_where_to_get_them(page):
    page.open()
    page.load(saved("before_after"))
    page.page.evaluate(f"() => {{ {widget('Corrector', 'corrector_name')}.value = 'theirs.safetensors' }}")
    page.page.evaluate("app.queuePrompt(0)")
    details(page)
    page.page.get_by_text("expected corrector weights named 'theirs.safetensors'").first.wait_for()
    page.page.screenshot(path=SHOTS / "missing.png")


@pytest.mark.parametrize("locale", ["zh", "fr"])
def test_nodes_speak_the_language_of_the_editor(page, locale):
    known = json.loads((comfyui.PACK / "locales" / locale / "nodeDefs.json").read_text())["RSCorrectorApply"]
    page.page.evaluate(f"app.extensionManager.setting.set('Comfy.Locale', '{locale}')")
    page.open()
    page.search(known["display_name"])
    page.page.get_by_text(known["display_name"]).first.wait_for(timeout=10_000)
    page.page.screenshot(path=SHOTS / f"search-{locale}.png")
