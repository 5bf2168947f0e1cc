"""Carry out a plan: pictures on disk that say which audit they belong to, and what judges see in them.

An audit judges pictures that were generated for it and no others: every file carries the plan's name and its own
place in it, and a picture without them is refused.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from ..files import replacing
from ..pictures import from_picture, to_pixels
from .table import Judged

PROVENANCE = "rs_corrector_audit"


class AuditError(ValueError):
    """Pictures or judges that an audit cannot use: says what was expected, what came, and the remedy."""


class Judge(Protocol):
    """What looks at pictures. `name` goes into the report; `groups` are those of the plan that it can tell.

    Called with (N, 3, H, W) RGB in 0..1, returns a dict: "seen", N groups of the plan, empty where it sees none of
    them; "shows", {attribute: (N,) of 1, 0, and NaN where it cannot tell}, without those that it never can; and, where
    it can tell, "found", (N,) bool, whether it saw anybody, "quality", (N,) with higher better, "tone", (N,) of skin
    in degrees, "features", (N, D), "confidence", (N,) in 0..1 of the group seen, and "scores", {noise level: (N,)}. See
    `Judged`.
    """

    name: str
    groups: tuple

    def __call__(self, images) -> dict: ...


class Folder:
    """The pictures of one plan.

    Args:
        path: made if absent.

    Raises:
        AuditError: it holds another plan's pictures.
    """

    def __init__(self, path, plan):
        self.path, self.plan, self.digest = Path(path), plan, plan.digest()
        file = self.path / "plan.json"
        found = json.loads(file.read_text())["digest"] if file.is_file() else self.digest
        if found != self.digest:
            raise AuditError(
                f"expected pictures of the plan {self.digest} in {path}, got those of {found}; name another folder"
            )
        with replacing(file) as temporary:
            temporary.write_text(json.dumps({"digest": self.digest, **asdict(plan)}, indent=1) + "\n")

    def files(self, unit, step=None):
        """Of a unit's pictures, or of what is predicted of them at a step."""
        folder, of = ("pictures", "") if step is None else ("steps", f"-{step:03}")
        return [self.path / folder / f"{unit.name}{of}-{row:02}.png" for row in range(unit.size)]

    def has(self, unit, step=None):
        return all(file.is_file() for file in self.files(unit, step))

    def write(self, unit, images, step=None):
        """Keep a unit's pictures, or what is predicted of them at a step: (N, 3, H, W) RGB in 0..1."""
        if len(images) != unit.size:
            raise AuditError(f"expected {unit.size} pictures of a batch, got {len(images)}; let it draw as many")
        for row, (file, image) in enumerate(zip(self.files(unit, step), images, strict=True)):
            said = PngImagePlugin.PngInfo()
            said.add_text(PROVENANCE, self._mark(unit, row, step))
            said.add_text("generated_by", "a diffusion model, for an audit")
            with replacing(file) as temporary:
                Image.fromarray(to_pixels(image)).save(temporary, format="png", pnginfo=said, compress_level=1)

    def _mark(self, unit, row, step):
        return json.dumps([self.digest, unit.name, row, *([] if step is None else [step])])

    def read(self, unit, step=None):
        """A unit's pictures, or what is predicted of them at a step, each checked for where it comes from."""
        images = []
        for row, file in enumerate(self.files(unit, step)):
            if not file.is_file():
                raise AuditError(f"expected the picture {file}, got none; run the audit to its end first")
            with Image.open(file) as picture:
                if picture.info.get(PROVENANCE) != self._mark(unit, row, step):
                    raise AuditError(
                        f"expected a picture that was generated for this audit, got {file} without its mark; audits "
                        "judge generated pictures only, never photographs of people: remove it and run the audit again"
                    )
                images.append(from_picture(picture))
        return torch.stack(images)


def draw(folder, sample, units=None, progress=lambda done, total: None):
    """Draw what is missing.

    Args:
        sample: function (unit) -> (N, 3, H, W) RGB in 0..1.
        units: of the folder's plan; None is all of them.
        progress: function (pictures done, of how many), called after every unit; may raise to interrupt.
    """
    units = folder.plan.units() if units is None else units
    total, done = sum(unit.size for unit in units), 0
    for unit in units:
        if not folder.has(unit):
            folder.write(unit, sample(unit))
        done += unit.size
        progress(done, total)


def judged(folder, judge, units=None, progress=lambda done, total: None):
    """What a judge sees, one batch in memory at a time: a `Judged` table; arguments as of `draw`."""
    columns = {name: [] for name in ("checkpoint", "prompt", "group", "corrected", "noise")}
    told = []
    units = folder.plan.units() if units is None else units
    total, done = sum(unit.size for unit in units), 0
    for unit in units:
        told.append(judge(folder.read(unit)))
        for row in range(unit.size):
            place = unit.checkpoint, unit.prompt, unit.group, unit.corrected, f"{unit.seed}/{row}"
            for name, value in zip(columns, place):
                columns[name].append(value)
        done += unit.size
        progress(done, total)

    def joined(values, kind=np.float32):
        return np.concatenate([np.asarray(value, kind) for value in values])

    optional = [
        name for name in ("found", "quality", "tone", "features", "confidence") if told[0].get(name) is not None
    ]
    return Judged(
        **{name: np.array(values) for name, values in columns.items()},
        seen=joined([seen["seen"] for seen in told], str),
        shows={
            name: joined([seen["shows"].get(name, np.full(len(seen["seen"]), np.nan)) for seen in told])
            for name in folder.plan.attributes
        },
        groups=tuple(judge.groups),
        **{name: joined([seen[name] for seen in told], bool if name == "found" else np.float32) for name in optional},
        scores={level: joined([seen["scores"][level] for seen in told]) for level in told[0].get("scores", {})},
    )
