"""Preference pairs on disk: what a corrector is trained on.

A set is a folder with a manifest and shards, one group a shard, in safetensors (fp16, latents in model space):

    manifest.json           {"format", "format_version", "kind", "latent_format", "base", "source", "shards"}
    green-00000.safetensors of kind "sides":   latents (N, C, H, W), side (N,): 0 preferred, 1 rejected
                            of kind "records": runs of S steps; goal (N, C, H, W) their counterparts, denoised
                            (N, S, C, H, W) the predictions on the way, level (N, S) their VE noise levels, area
                            (N, 1, H, W) where the two may differ, choice (N,) the preferred wording, -1 any
                            made from words: also request (R, E), see `request.py`

The manifest names a shard only once it is whole, so a run that is cut off keeps all finished shards and goes on
behind them. Tensors are memory-mapped: a set costs disk, not memory.
"""

import json
import re
import shutil
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .files import replacing

FORMAT, FORMAT_VERSION = "rs-corrector-pairs", 3  # 2: predictions and one counterpart a run; 3: requests by things
SIDES, RECORDS = "sides", "records"
TENSORS = {SIDES: ("latents", "side"), RECORDS: ("goal", "denoised", "level", "area", "choice")}
REQUEST = "request"
FEWEST = 8  # pairs that can be trained on


class PairsError(ValueError):
    """A set that cannot be used: says what was expected, what came, and the remedy."""


@dataclass(frozen=True)
class Shard:
    """One file of a set."""

    path: Path
    group: str
    count: int

    def open(self, kind):
        """{name: memory-mapped tensor}, with the request where there is one."""
        try:
            with safe_open(self.path, "pt") as file:
                extra = {REQUEST} & set(file.keys())
                return {name: file.get_tensor(name) for name in (*TENSORS[kind], *extra)}
        except (SafetensorError, OSError) as error:
            raise PairsError(f"expected a whole shard at {self.path}, got {error}; record it again") from error


@dataclass(frozen=True)
class Pairs:
    """A set of one kind, from one folder or several.

    Attributes:
        kind: SIDES or RECORDS.
        latent_format: ComfyUI's class name of the latent space.
        base: {"name", "fingerprint"} of the checkpoint.
        source: for people to read; per group, words, counts and calibration facts.
        shards: the files.
    """

    kind: str
    latent_format: str
    base: dict = field(default_factory=dict)
    source: dict = field(default_factory=dict)
    shards: tuple = ()

    @property
    def groups(self):
        return tuple(dict.fromkeys(s.group for s in self.shards))

    def __len__(self):
        return sum(s.count for s in self.shards)

    def count(self, group):
        return sum(s.count for s in self.shards if s.group == group)

    def bytes(self, group):
        """Size of a group's files."""
        return sum(s.path.stat().st_size for s in self.shards if s.group == group)

    def identity(self):
        """What tells this set from one that was changed since: a list that goes through JSON."""
        return [[s.path.name, s.group, s.count, s.path.stat().st_mtime_ns] for s in self.shards]

    def load(self, group):
        """A group's tensors, memory-mapped and joined lazily: {name: `Rows`}."""
        opened = [s.open(self.kind) for s in self.shards if s.group == group]
        return {name: Rows([shard[name] for shard in opened]) for name in TENSORS[self.kind]}

    def request(self, group):
        """What gives a request for the group's rejected wording away, (R, E); None in a set made without words."""
        found = (s.open(self.kind).get(REQUEST) for s in self.shards if s.group == group)
        return next((request.float() for request in found if request is not None), None)

    def merge(self, other):
        """This set and another of the same kind and latent space.

        Raises:
            PairsError: kinds, latent formats, shapes or checkpoints differ.
        """
        for name in ("kind", "latent_format", "base"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise PairsError(
                    f"expected sets of one {name.replace('_', ' ')}, got {mine} and {theirs}; do not merge them"
                )
        shards = tuple(dict.fromkeys(self.shards + other.shards))
        merged = replace(self, shards=shards, source=self.source | other.source)
        merged.shape()
        return merged

    def shape(self):
        """(C, H, W) of every latent; refuses an empty set and mixed shapes."""
        if not self.shards:
            raise PairsError("expected pairs, got an empty set; record some")
        name = TENSORS[self.kind][0]
        shapes = {tuple(s.open(self.kind)[name].shape[1:]) for s in self.shards}
        if len(shapes) > 1:
            raise PairsError(f"expected latents of one shape, got {sorted(shapes)}; make all pairs at one size")
        return shapes.pop()


class Rows:
    """Several memory-mapped tensors as one along the first axis; indexing copies only what is asked for."""

    def __init__(self, parts):
        self.parts = parts
        self.ends = torch.tensor([len(p) for p in parts]).cumsum(0)

    def __len__(self):
        return int(self.ends[-1])

    def __getitem__(self, index):
        """(N,) int64, or two of them for the first two axes -> rows in fp32 (integers stay)."""
        index, *second = index if isinstance(index, tuple) else (index,)
        part = torch.searchsorted(self.ends, index, right=True)
        starts = torch.cat([self.ends.new_zeros(1), self.ends[:-1]])
        rows = torch.empty(len(index), *self.parts[0].shape[1 + len(second) :], dtype=self.parts[0].dtype)
        for p in part.unique():
            here = part == p
            rows[here] = self.parts[p][(index[here] - starts[p], *(other[here] for other in second))]
        return rows.float() if rows.is_floating_point() else rows


class Writer:
    """Append shards to a set's folder; a folder with a set of the same description is continued.

    Args:
        folder: made if absent.
        description: an empty `Pairs` with kind, latent_format, base and source.

    Raises:
        PairsError: the folder holds another kind of set.
    """

    def __init__(self, folder, description):
        self.folder = Path(folder)
        self.pairs = description
        if (self.folder / "manifest.json").is_file():
            found = read(self.folder)
            self.pairs = replace(
                found.merge(replace(description, shards=found.shards[:0])), source=found.source | description.source
            )

    def resume(self, group, begun, facts, said):
        """What the set knows of a group from an earlier run, or `facts` for a new one, with what is said of it now.

        Args:
            begun: a digest of everything that the earlier run and this one must have in common.
            said: facts that may change from run to run.

        Raises:
            PairsError: no group is named, or it was begun with something else.
        """
        _check_named(group)
        known = self.pairs.source.get(group, {"begun": begun, **facts})
        if known.get("begun") != begun:
            raise PairsError(
                f"expected the wordings and settings with which {group!r} was begun in {self.folder}, got others; "
                "choose another name, or delete the folder"
            )
        if group in self.pairs.source and known != known | said:
            self.pairs = replace(self.pairs, source=self.pairs.source | {group: known | said})
            _write_manifest(self.folder, self.pairs)
        return known | said

    def beside(self, group, name):
        """Path of a file of a group in the set's folder."""
        slug = re.sub(r"[^\w-]+", "_", group.strip()) or "group"
        return self.folder / f"{slug}-{name}"

    def need(self, size):
        """Raise a PairsError where the disk has less room than so many bytes."""
        existing = next(place for place in (self.folder, *self.folder.absolute().parents) if place.exists())
        if (free := shutil.disk_usage(existing).free) < size:
            raise PairsError(
                f"expected {1e-6 * size:.0f} MB of room at {self.folder}, got {1e-6 * free:.0f} MB; make room, or draw "
                "fewer or smaller images"
            )

    def drop(self, group):
        """Take a group out of the set and delete its shards."""
        gone = [s for s in self.pairs.shards if s.group == group]
        if gone:
            self.pairs = replace(self.pairs, shards=tuple(s for s in self.pairs.shards if s.group != group))
            _write_manifest(self.folder, self.pairs)
        for shard in gone:
            shard.path.unlink(missing_ok=True)

    def append(self, group, facts=None, request=None, **tensors):
        """Write one shard, and then the manifest with it and the group's facts.

        Args:
            request: (R, E) as `request.mark` returns it, or None.

        Raises:
            PairsError: no group named; tensors missing, of different lengths or shapes, empty, or not finite.
        """
        kind, group = self.pairs.kind, group.strip()
        _check_named(group)
        if tensors.keys() != set(TENSORS[kind]):
            raise PairsError(f"expected tensors {TENSORS[kind]} for kind {kind!r}, got {tuple(tensors)}")
        counts = {len(t) for t in tensors.values()}
        if len(counts) != 1 or 0 in counts:
            raise PairsError(f"expected tensors of one length above 0, got {counts}")
        for name, tensor in (tensors if request is None else tensors | {REQUEST: request}).items():
            if not tensor.isfinite().all():
                raise PairsError(f"expected finite numbers in {name} of {group!r}, got NaN or infinity; leave them out")
        shape = tuple(tensors[TENSORS[kind][0]].shape[1:])
        known = replace(self.pairs, shards=self.pairs.shards[-1:]).shape() if self.pairs.shards else shape
        if shape != known:
            raise PairsError(f"expected latents of shape {known}, as in the set, got {shape}; use another name")
        taken = {s.path.name.casefold() for s in self.pairs.shards}  # some file systems know no case
        names = (self.beside(group, f"{i:05}.safetensors") for i in count())
        path = next(path for path in names if path.name.casefold() not in taken)
        stored = {
            k: t.detach().cpu().to(torch.float16 if t.is_floating_point() else t.dtype) for k, t in tensors.items()
        }
        if request is not None:
            stored[REQUEST] = request.detach().float().cpu()
        with replacing(path) as temporary:
            save_file({k: t.contiguous() for k, t in stored.items()}, temporary)
        shards = (*self.pairs.shards, Shard(path, group, counts.pop()))
        self.pairs = replace(self.pairs, shards=shards, source=self.pairs.source | {group: facts or {}})
        _write_manifest(self.folder, self.pairs)


def _check_named(group):
    if not group:
        raise PairsError("expected a named group, got an empty name; name the perceived group")


def _write_manifest(folder, pairs):
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": pairs.kind,
        "latent_format": pairs.latent_format,
        "base": pairs.base,
        "source": pairs.source,
        "shards": [{"file": s.path.name, "group": s.group, "count": s.count} for s in pairs.shards],
    }
    with replacing(folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n")


def read(folder):
    """Open a set.

    Raises:
        FileNotFoundError, PairsError: no set there, another format, or shards missing.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(f"expected a set of pairs at {folder}, got no manifest.json there; check the folder")
    try:
        manifest = json.loads(path.read_text())
        if (manifest["format"], manifest["format_version"]) != (FORMAT, FORMAT_VERSION):
            raise PairsError(
                f"expected {FORMAT} version {FORMAT_VERSION} at {folder}, got another; choose another name, or delete "
                "the folder, and run the node that made it"
            )
        if wrong := next((s["file"] for s in manifest["shards"] if Path(s["file"]).name != s["file"]), None):
            raise PairsError(f"expected shards beside {path}, got {wrong!r}; get the set again or record it anew")
        shards = tuple(Shard(folder / s["file"], s["group"], s["count"]) for s in manifest["shards"])
        pairs = Pairs(manifest["kind"], manifest["latent_format"], manifest["base"], manifest["source"], shards)
    except PairsError:
        raise
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise PairsError(f"expected a whole manifest at {path}, got {error!r}; record the set again") from error
    if pairs.kind not in TENSORS:
        raise PairsError(f"expected a kind out of {tuple(TENSORS)} at {folder}, got {pairs.kind!r}")
    for shard in pairs.shards:
        if not shard.path.is_file():
            raise PairsError(f"expected the shard {shard.path}, got no such file; record the set again")
    return pairs
