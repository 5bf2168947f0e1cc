"""Node texts: complete, up to date, and read by the host, in every language."""

import json
import re

import pytest
import translate
from translate import FOLDER, LANGUAGES

from rs_corrector.comfyui import PACK


@pytest.fixture(scope="module")
def english(host):
    return translate.texts(host.nodes)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_is_complete_and_up_to_date(language, english):
    assert not list(translate.problems(english, language))
    assert (FOLDER / language / "nodeDefs.json").read_text() == translate.render(english, language)


def test_the_server_hands_them_to_the_editor(server):
    served = json.loads(server.get("/i18n"))
    for language in LANGUAGES:
        assert served[language]["nodeDefs"]["RSCorrectorApply"]["display_name"]


def test_every_node_has_a_help_page_with_a_picture_that_the_server_serves(server, host):
    for node in (name for name in host.nodes if name.startswith("RSCorrector")):
        page = server.get(f"/extensions/rs-corrector/docs/{node}.md").decode()
        assert page == (PACK / "web" / "docs" / f"{node}.md").read_text()
        assert f"(pictures/{node}.jpg)" in page
        assert server.get(f"/extensions/rs-corrector/docs/pictures/{node}.jpg")[:2] == b"\xff\xd8"


def test_help_pages_name_no_setting_that_is_not_there(english):
    for page in (PACK / "web" / "docs").glob("*.md"):
        known = english[page.stem]["inputs"].keys() | {o["name"] for o in english[page.stem]["outputs"].values()}
        rows = [line.partition(":")[0] for line in page.read_text().splitlines() if line.startswith("- `")]
        named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        assert named <= known, page.name
