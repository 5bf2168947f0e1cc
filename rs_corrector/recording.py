"""A set of records for one group: batch by batch onto the disk, with what was measured on the way."""

import logging
from dataclasses import asdict, fields

import torch

from .counterparts import Measured, split
from .method import prefer, record
from .pairs import FEWEST, PairsError

log = logging.getLogger("RS-Corrector")
#: Pictures that a corrector is made from, by the effort that it is worth.
IMAGES = {"thorough": 56, "quick": 14}
#: Pictures after which it is judged whether a set comes to anything.
ENOUGH = 14


def recorded(checkpoint, writer, group, *, count, batch_size, cfg, begun, whole=None, request=None, facts=None):
    """Record pictures of the preferred wording, half of `count`; then, batch by batch, so many with their counterparts.

    Args:
        checkpoint: a `counterparts.Checkpoint`, see `method.record`.
        writer: of a set of kind RECORDS; a group that was begun is continued.
        group: whom it is for.
        batch_size: pictures at once; fewer where they do not fit into memory.
        cfg: the usual guidance scale.
        begun: a digest of everything that an earlier run and this one must have in common.
        whole: redraw the whole picture, or a part; None decides by what the wordings leave in place.
        request: (R, E) as `request.mark` returns it, or None.
        facts: more to remember of the group, for people to read.

    Returns:
        An iterator over each `method.Batch` once it is safe, or refused.

    Raises:
        PairsError: no group is named, or it was begun with something else; more counterparts are dropped than kept; no
            picture shows the rejected depiction.
    """
    nothing = {"spared": 0, "images": 0, "shown": 0, "dropped": 0, "evaluations": 0}
    facts = writer.resume(group, begun, nothing, checkpoint.wordings.facts() | (facts or {}))
    before, begin, half = facts["evaluations"], facts["spared"], -(-count // 2)
    measured = Measured(*(facts[f.name] for f in fields(Measured))) if begin else None

    def preferring(size):
        checkpoint.at_once = size
        return prefer(checkpoint, split(range(begin, half), size), cfg, measured, whole)

    def keep(rows, **news):
        facts.update(news, evaluations=before + checkpoint.evaluations)
        writer.append(group, dict(facts), request, **rows)

    if begin < half:
        log.info("RS-Corrector: drawing %d images of the preferred wording, to measure on them", half - begin)
        (measured, rows), batch_size = _fitting(preferring, batch_size)
        keep(rows, spared=half, **asdict(measured))

    def batches(at_once):
        def recording(size):
            checkpoint.at_once = size
            return record(checkpoint, range(done, done + size), cfg, measured, whole)

        while (done := facts["images"]) < count:
            batch, at_once = _fitting(recording, min(at_once, count - done))
            added = {"images": len(batch.shown), "shown": int(batch.shown.sum()), "dropped": int(batch.dropped.sum())}
            added = {name: facts[name] + number for name, number in added.items()}
            if wrong := _wrong(added):
                yield batch  # which shows why
                raise PairsError(wrong)
            keep(batch.rows, **added)
            yield batch

    return batches(batch_size)


def _fitting(make, size):
    """What is made of so many pictures at once, or of as many as fit into memory; and how many those are."""
    while True:
        try:
            return make(size), size
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
        size //= 2
        log.warning("RS-Corrector: expected memory for more images at once; going on with %d", size)


def _wrong(facts):
    """What a set that comes to nothing lacks."""
    shown, dropped, images = facts["shown"], facts["dropped"], facts["images"]
    if images >= ENOUGH and not shown:
        return (
            "expected pictures of the neutral wording that show the rejected depiction, got none in "
            f"{images}; there is nothing to correct, or the rejected wording does not say what is drawn"
        )
    if shown >= FEWEST and 2 * dropped > shown:
        return (
            f"expected redraws that show the preferred depiction, got {dropped} of {shown} that do not; word it in a "
            "way that the checkpoint follows, or choose another part to redraw"
        )


def report(facts):
    """What was recorded of a group, for people to read."""
    kept = facts["shown"] - facts["dropped"]
    dropped = facts["dropped"] / max(facts["shown"], 1)
    return (
        f"{facts['images']} pictures, {facts['shown']} of them show the rejected depiction; "
        f"{kept} got a counterpart, {facts['dropped']} were dropped ({dropped:.0%})\n"
        f"decision level: sigma {facts['level']:.3g}; evaluations of the checkpoint: {facts['evaluations']}"
    )
