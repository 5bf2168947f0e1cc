"""Corrector weights on disk: safetensors with the configuration as one JSON object in the header."""

import hashlib
import json
import math
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .choice import are_shares
from .corrector import KINDS, Config, Corrector
from .files import digest, replacing

#: 2: the weight of a noise level falls with its fourth power, and a corrector may tell requests. 3: one `film` for
#: all blocks, every pixel normalised by itself. 4: a "delta" reads the prediction, between two levels a group. 5:
#: requests are told by all that a rejected wording names. 6: a "delta" has two labels a depiction. 7: one convolution a
#: level on the way down.
FORMAT_VERSION = 7
KEY = "rs_corrector"
#: The file that comes with the pack.
SHIPPED = Path(__file__).resolve().parents[1] / "corrector_weights" / "testbed.safetensors"
_RETRAIN = "get the file again or make the corrector anew, with the template 'make a corrector' or 'from sorted images'"
#: Bounds of what a header may ask for, so that a forged one cannot claim the memory of the machine.
_LIMITS = {"width": (8, 512), "levels": (1, 6), "latent_channels": (1, 128)}


class WeightsError(ValueError):
    """A corrector file that cannot be used: says what was expected, what came, and the remedy."""


def save(corrector, path, dtype=torch.float16):
    """Write a corrector, whole or not at all.

    Raises:
        WeightsError: it could not be loaded again: an invalid configuration, NaN or infinity.
    """
    for problem in _problems(corrector.config):
        raise WeightsError(f"expected {problem}; nothing was written to {path}")
    header = json.dumps({"format_version": FORMAT_VERSION, **corrector.config.asdict()})
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in corrector.state_dict().items()}
    if not all(t.isfinite().all() for t in tensors.values()):
        raise WeightsError(f"expected finite weights, got NaN or infinity; nothing was written to {path}, train again")
    with replacing(path) as temporary:
        save_file(tensors, temporary, {KEY: header})


def read_header(path):
    """The header of a corrector file as a `Config`, no tensor touched.

    Raises:
        FileNotFoundError, WeightsError: absent, truncated, not safetensors, not a corrector, other version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected corrector weights at {path}, got no such file; check the name or {_RETRAIN}")
    with _opened(path) as file:
        return _config((file.metadata() or {}).get(KEY), path)


def load(path):
    """Load a corrector in fp32 on the CPU, after checking header, names, shapes, types and values.

    Raises:
        FileNotFoundError, WeightsError: see `read_header`; also missing or misshapen tensors, NaN or infinity.
    """
    config = read_header(path)
    with torch.device("meta"):
        expected = {k: tuple(v.shape) for k, v in Corrector(config).state_dict().items()}
    with _opened(path) as file:
        found = {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}
        for key in sorted(expected.keys() | found.keys()):
            if expected.get(key) != found.get(key):
                raise WeightsError(
                    f"expected tensor {key} of shape {expected.get(key)} in {path}, got {found.get(key)}; {_RETRAIN}"
                )
        state = {k: file.get_tensor(k) for k in expected}
    for key, value in state.items():
        if value.dtype not in (torch.float16, torch.float32):
            raise WeightsError(f"expected {key} in fp16 or fp32 in {path}, got {value.dtype}; save it again")
        if not value.isfinite().all():
            raise WeightsError(f"expected finite numbers in {key} of {path}, got NaN or infinity; {_RETRAIN}")
    corrector = Corrector(config, Path(path).name, digest(path))
    corrector.load_state_dict(state)
    return corrector.eval().requires_grad_(False)


def fingerprint(tensors):
    """A name for a checkpoint: 16 hex digits from the head of each of its UNet's tensors, rounded to fp16.

    Names, order and tensor layout play no part, so both key conventions and both precisions agree. A quantised tensor
    is not dequantised: the head of what is stored counts, so that a quantised copy has a name of its own.
    """
    digests = sorted(hashlib.sha256(str(t.numel()).encode() + _head(t.detach())).digest() for t in tensors)
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def _head(tensor):
    """The first values as bytes; of a quantised tensor those of its parts as they are stored."""
    if hasattr(tensor, "__tensor_flatten__"):
        parts, _ = tensor.__tensor_flatten__()
        stored = (_first(getattr(tensor, part)).contiguous().view(torch.uint8) for part in parts)
        return b"".join(part.cpu().numpy().tobytes() for part in stored)
    return _first(tensor).to("cpu", torch.float16).numpy().tobytes()


def _first(tensor, count=64):
    """The first so many values, by slices alone: the rest is not copied."""
    while tensor.ndim > 1 and len(tensor):
        inner = max(tensor[0].numel(), 1)
        tensor = tensor[0] if inner >= count else tensor[: -(-count // inner)].flatten()
    return tensor.flatten()[:count]


class _opened:
    """safe_open whose failures say what to do."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        try:
            self.file = safe_open(self.path, "pt").__enter__()
        except (SafetensorError, OSError) as error:
            raise WeightsError(
                f"expected a whole safetensors file at {self.path}, got one that cannot be read ({error}); {_RETRAIN}"
            ) from error
        return self.file

    def __exit__(self, *exception):
        self.file.__exit__(*exception)


def _config(text, path):
    if text is None:
        raise WeightsError(f"expected corrector weights, got safetensors without their header, {path}; {_RETRAIN}")
    try:
        header = json.loads(text)
        version = header.pop("format_version")
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(
            f"expected a JSON header with a format version in {path}, got {text[:40]!r}; {_RETRAIN}"
        ) from error
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        remedy = "update RS-Corrector" if newer else _RETRAIN
        raise WeightsError(f"expected format version {FORMAT_VERSION} in {path}, got {version}; {remedy}")
    known = {f.name for f in fields(Config)}
    if unknown := sorted(header.keys() - known):
        raise WeightsError(f"expected no other header fields in {path}, got {unknown}; update RS-Corrector")
    try:
        config = Config(**header)
    except TypeError as error:
        raise WeightsError(f"expected a complete header in {path}, got {error}; {_RETRAIN}") from error
    for problem in _problems(config):
        raise WeightsError(f"expected {problem} in the header of {path}; {_RETRAIN}")
    return config


def _problems(c):
    def number(value):
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

    if c.kind not in KINDS:
        yield f"a kind out of {KINDS}, got {c.kind!r}"
    for name, (low, high) in _LIMITS.items():
        value = getattr(c, name)
        if not isinstance(value, int) or not low <= value <= high:
            yield f"{name} from {low} to {high}, got {value!r}"
            return
    if not isinstance(c.context, int) or not 0 <= c.context <= 65536:
        yield f"context from 0 to 65536, got {c.context!r}"
        return
    if c.width % 8:
        yield f"a width divisible by 8, got {c.width}"
    if not 1 <= len(c.groups) <= 64 or not all(isinstance(g, str) and g.strip() for g in c.groups):
        yield f"1 to 64 named groups, got {c.groups!r}"
    if len(set(c.groups)) != len(c.groups):
        yield f"groups with different names, got {c.groups!r}"
    if len(c.choices) != len(c.groups) or not all(_are_choices(own, c.kind) for own in c.choices):
        yield f"the preferred wordings of every group as text, one for a pair, got {c.choices!r}"
    if len(c.shares) != len(c.groups) or not all(map(_are_shares, c.shares, c.choices)):
        yield f"a share of 0 and above for every preferred wording, not all of them 0, got {c.shares!r}"
    if len(c.gains) != len(c.groups) or not all(number(g) and 0 < g < 1e3 for g in c.gains):
        yield f"one positive gain a group, got {c.gains!r}"
    if not all(number(v) and v > 0 for v in (c.sigma_data, c.sigma_min, c.sigma_max)) or c.sigma_min >= c.sigma_max:
        yield f"0 < sigma_min < sigma_max and sigma_data > 0, got {c.sigma_min!r}, {c.sigma_max!r}, {c.sigma_data!r}"
    if len(c.windows) != len(c.groups) or not all(map(_is_window, c.windows)):
        yield f"a window of levels a group, 0 <= release < onset or no onset, got {c.windows!r}"
    if not isinstance(c.latent_format, str) or not all(isinstance(d, dict) for d in (c.training, c.metrics, c.base)):
        yield "a latent format name and objects for training, metrics and base, got other types"


def _are_choices(choices, kind):
    return 1 <= len(choices) <= (64 if kind == "delta" else 1) and all(isinstance(text, str) for text in choices)


def _are_shares(shares, choices):
    return len(shares) == len(choices) and all(isinstance(share, float) for share in shares) and are_shares(shares)


def _is_window(window):
    if len(window) != 2 or not all(value is None or isinstance(value, float) for value in window):
        return False
    release, onset = window
    return release is not None and 0 <= release < (1e4 if onset is None else onset) and (onset or 1) < 1e4
