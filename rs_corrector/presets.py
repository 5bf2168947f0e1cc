"""Wordings to start from: a documented stereotype a file, in `presets/`; whoever has better ones saves them likewise.

A file has lines `name = words` under four headings; see `parse`. What is under [preferred] is a wording and its share.
"""

from dataclasses import dataclass
from pathlib import Path

from .audit.plan import headed
from .audit.plan import parse as parse_plan
from .files import replacing
from .wordings import Wordings
from .wordings import shipped as contexts

FOLDER = Path(__file__).resolve().parents[1] / "presets"
#: What of a picture is redrawn.
AUTO, PART, WHOLE = REDRAWS = ("auto", "part", "whole")
#: How good the evidence is: a large or reviewed study, a small one or a preprint, a test by the press or by users.
GRADES = ("A", "B", "C")
_LINES = {
    "wordings": ("group", "neutral", "rejected", "others", "redraw", "keep"),
    "source": ("says", "cited", "read", "grade", "note"),
}
_SECTIONS = ("wordings", "preferred", "attribute", "source")
#: In which scenes an audit looks for it.
_SCENES = {
    "portrait": "a photo of {group}",
    "street": "a photo of {group} in the rain",
    "night": "a photo of {group} at night",
}


class PresetError(ValueError):
    """A preset that cannot be used: says what was expected, what came, and the remedy."""


@dataclass(frozen=True)
class Preset:
    """Wordings for one way in which one perceived group is depicted, and where it is documented.

    Attributes:
        group: whom it is about, as a person would say.
        neutral, rejected, others: what names the group alone, what is to go, and everybody.
        preferred: {wording: share}, what is to be seen in its place.
        redraw: one of `REDRAWS`.
        keep: share of pictures that may stay as they are, 0 to 1.
        attribute: (name, words that show it, words that do not), for an audit.
        says, cited, read: what a source found, which one, and where that can be read; empty in a preset of one's own.
        grade: one of `GRADES`, or empty.
        note: what to mind.
    """

    group: str
    neutral: str
    rejected: str
    others: str
    preferred: dict
    redraw: str
    keep: float
    attribute: tuple
    says: str = ""
    cited: str = ""
    read: str = ""
    grade: str = ""
    note: str = ""

    def __post_init__(self):
        for problem in _problems(self):
            raise PresetError(f"expected {problem}")
        self.wordings()

    def wordings(self):
        """`wordings.Wordings` in the contexts that come with the pack."""
        texts, shares = tuple(self.preferred), tuple(self.preferred.values())
        return Wordings(self.neutral, texts, self.rejected, self.others, shares, contexts())

    def plan(self):
        """The text of an audit plan: this group beside everybody else, in a few scenes."""
        name, shown, not_shown = self.attribute
        sections = {
            "groups": {"group": self.neutral, "others": self.others},
            "prompts": _SCENES,
            "attributes": {name: f"{shown} | {not_shown}"},
        }
        text = f"# {self.group}\n\n{_written(sections)}"
        parse_plan(text)
        return text


def shipped():
    """{name: file} of the presets that come with the pack."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.txt"))}


def read(path):
    """The preset of a file, or of one that comes with the pack, by its name.

    Raises:
        PresetError: there is none; or as `parse`.
    """
    file = shipped().get(str(path), Path(path))
    if not file.is_file():
        raise PresetError(f"expected a preset's file or one of {', '.join(shipped())}, got {path}; name one of these")
    return parse(file.read_text(encoding="utf-8"))


def parse(text):
    """The preset that a text describes.

    Raises:
        PresetError: a heading or a line that is missing or not understood; wordings that `wordings.Wordings` refuses.
    """
    said = headed(text, PresetError)
    if said.keys() - {"source"} != set(_SECTIONS) - {"source"}:
        raise PresetError(
            f"expected the headings {', '.join(f'[{name}]' for name in _SECTIONS)}, got "
            f"{', '.join(f'[{name}]' for name in said) or 'none'}; write each of them once"
        )
    said.setdefault("source", {})
    for section, names in _LINES.items():
        if unknown := [name for name in said[section] if name not in names]:
            raise PresetError(f"expected {', '.join(names)} under [{section}], got {unknown[0]!r}; remove it")
    if missing := [name for name in _LINES["wordings"] if not said["wordings"].get(name, "").strip()]:
        raise PresetError(f"expected words for {missing[0]!r} under [wordings], got none; write them")
    if len(said["attribute"]) != 1:
        raise PresetError(f"expected one line under [attribute], got {len(said['attribute'])}; write what to look for")
    ((name, sides),) = said["attribute"].items()
    preferred = {wording: _number(share, "a share") for wording, share in said["preferred"].items()}
    keep = _number(said["wordings"].pop("keep"), "keep")
    attribute = (name, *(part.strip() for part in sides.split("|")))
    return Preset(**said["wordings"], preferred=preferred, keep=keep, attribute=attribute, **said["source"])


def save(preset, path):
    """Write a preset as a file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text(preset), encoding="utf-8")


def text(preset):
    """A preset as `parse` reads it."""
    name, *sides = preset.attribute
    own = {name: getattr(preset, name) for name in _LINES["wordings"]} | {"keep": f"{preset.keep:g}"}
    source = {name: getattr(preset, name) for name in _LINES["source"] if getattr(preset, name)}
    preferred = {wording: f"{share:g}" for wording, share in preset.preferred.items()}
    sections = {"wordings": own, "preferred": preferred, "attribute": {name: " | ".join(sides)}, "source": source}
    return _written({name: lines for name, lines in sections.items() if lines})


def _written(sections):
    written = (
        "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in lines.items())])
        for name, lines in sections.items()
    )
    return "\n\n".join(written) + "\n"


def _problems(preset):
    if not preset.preferred:
        yield "a wording and its share under [preferred], got none; write what is to be seen instead"
    if preset.redraw not in REDRAWS:
        yield f"{', '.join(REDRAWS)} for redraw, got {preset.redraw!r}; write one of them"
    if not 0 <= preset.keep <= 1:
        yield f"a share from 0 to 1 for keep, got {preset.keep}; correct it"
    if len(preset.attribute) != 3 or not all(preset.attribute):
        yield f"`name = words that show it | words that do not` under [attribute], got {preset.attribute}; write both"
    if preset.grade and preset.grade not in GRADES:
        yield f"{', '.join(GRADES)} for grade, got {preset.grade!r}; write one of them, or leave it out"
    if bool(preset.cited) != bool(preset.read and preset.says and preset.grade):
        yield "says, cited, read and grade together under [source], got some of them; write all, or none"
    if twice := next((w for w in (preset.rejected, *preset.preferred) if w == preset.neutral), None):
        yield f"wordings that say more than the neutral one, got {twice!r} twice; add what is to be seen"


def _number(text, what):
    try:
        return float(text)
    except ValueError as error:
        raise PresetError(f"expected a number for {what}, got {text!r}; correct it") from error
