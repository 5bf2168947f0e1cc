"""Documented stereotypes as wordings to start from: every file is whole, and its source is stated."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs_corrector import presets
from rs_corrector.audit import plan
from rs_corrector.cli import main
from rs_corrector.presets import Preset, PresetError

SHIPPED = presets.shipped()
OWN = Preset(
    "somebody", "a person in green", "a person in green wearing a hat", "a person",
    {"a bare-headed person in green": 1.0}, "part", 0.0, ("hat", "wearing a hat", "bare-headed"),
)  # fmt: skip


def test_there_are_thirty_at_least():
    assert len(SHIPPED) >= 30


@pytest.mark.parametrize("name", SHIPPED)
def test_a_preset_is_whole(name):
    found = presets.read(name)
    assert presets.text(found) == SHIPPED[name].read_text()
    assert found.says and found.cited and found.read.startswith("https://") and found.grade in presets.GRADES
    assert found.note, "what to mind"
    assert len(found.preferred) >= 3, "one depiction in place of another would be a new stereotype"
    said = found.wordings()
    assert len(said.contexts) >= 24 and said.choice(0) in range(len(found.preferred))
    made = plan.parse(found.plan())
    assert made.groups["group"] == found.neutral and found.attribute[0] in made.attributes


def test_what_is_loved_may_stay():
    pride = {name for name in SHIPPED if any(word in presets.read(name).note for word in ("pride", "proudly", "loved"))}
    assert pride and all(presets.read(name).keep > 0 for name in pride)


def test_a_preset_of_ones_own_comes_back_as_it_was(tmp_path):
    presets.save(OWN, tmp_path / "own.txt")
    assert presets.read(tmp_path / "own.txt") == OWN and list(tmp_path.iterdir()) == [tmp_path / "own.txt"]


@given(st.text(), st.sampled_from(sorted(SHIPPED)), st.integers(0, 200))
def test_broken_text_is_refused_in_one_sentence(junk, name, place):
    text = SHIPPED[name].read_text()
    for broken in (junk, text[:place] + junk + text[place:]):
        try:
            presets.parse(broken)
        except ValueError as error:
            assert "expected" in str(error) and "got" in str(error)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"keep": 1.5}, "a share from 0 to 1 for keep, got 1.5"),
        ({"redraw": "some"}, "auto, part, whole for redraw, got 'some'"),
        ({"preferred": {}}, r"a wording and its share under \[preferred\], got none"),
        ({"attribute": ("hat", "wearing a hat")}, r"under \[attribute\], got"),
        ({"cited": "a book"}, "says, cited, read and grade together"),
        ({"rejected": "a person in green"}, "wordings that say more than the neutral one"),
        ({"preferred": {OWN.rejected: 1.0}}, "differ from one another"),
        ({"preferred": {"somebody": 0.0}}, "expected shares of 0 and above"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_remedy(changes, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(OWN, **changes)


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("[preferred]", "[other]", r"expected the headings \[wordings\]"),
        ("group = ", "whom = ", r"under \[wordings\], got 'whom'"),
        ("group = somebody\n", "", r"words for 'group' under \[wordings\], got none"),
        ("keep = 0", "keep = some", "a number for keep, got 'some'"),
        ("hat = ", "hat = a | b\ncap = ", r"one line under \[attribute\], got 2"),
    ],
)
def test_a_line_that_is_not_understood_is_named(old, new, said):
    assert old in presets.text(OWN)
    with pytest.raises(PresetError, match=said):
        presets.parse(presets.text(OWN).replace(old, new))


def test_the_command_lists_and_prints_them(capsys, tmp_path):
    assert main(["wordings"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(SHIPPED)
    assert main(["wordings", "mexican_sombrero"]) == 0
    assert capsys.readouterr().out == SHIPPED["mexican_sombrero"].read_text()
    assert main(["wordings", "mexican_sombrero", "--plan"]) == 0
    assert "sombrero" in plan.parse(capsys.readouterr().out).attributes
    assert main(["wordings", str(tmp_path / "nobody")]) == 2
    assert "expected a preset's file or one of" in capsys.readouterr().err
