"""Corrector files: they come back as they went, and a bad one is refused with a remedy."""

import json
import time
from dataclasses import replace

import pytest
import torch
from configs import make_config
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from rs_corrector import weights
from rs_corrector.cli import main
from rs_corrector.corrector import Corrector

CONFIG = make_config(groups=("ana", "bo"), gains=(2.5, 1.0), training={"source": "a test"})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "corrector.safetensors"
    weights.save(Corrector(CONFIG), path)
    return path


def rewrite(path, tensors=None, **changes):
    """Replace tensors or header fields of a corrector file; a field set to None is dropped."""
    state = load_file(path)
    header = {"format_version": weights.FORMAT_VERSION, **weights.read_header(path).asdict()} | changes
    header = {k: v for k, v in header.items() if v is not None}
    save_file(state | (tensors or {}), path, {weights.KEY: json.dumps(header)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_corrector_comes_back_as_it_went(tmp_path, dtype):
    torch.manual_seed(0)
    corrector = Corrector(CONFIG)
    weights.save(corrector, tmp_path / "c.safetensors", dtype)
    loaded = weights.load(tmp_path / "c.safetensors")
    assert loaded.config == CONFIG
    for name, value in corrector.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.to(dtype).float())


@given(
    gains=st.lists(st.floats(0.01, 100), min_size=1, max_size=4),
    kind=st.sampled_from(["delta", "denoiser_pair"]),
    sigma_data=st.floats(0.1, 10),
    window=st.tuples(st.floats(0, 0.5), st.floats(1, 100) | st.none()),
)
@settings(max_examples=15, deadline=None)
def test_any_configuration_round_trips(tmp_path_factory, gains, kind, sigma_data, window):
    groups = tuple(f"group {i}" for i in range(len(gains)))
    described = dict(groups=groups, gains=tuple(gains), windows=[window] * len(groups), choices=(), shares=())
    config = replace(CONFIG, kind=kind, sigma_data=sigma_data, **described)
    path = tmp_path_factory.mktemp("w") / "c.safetensors"
    weights.save(Corrector(config), path)
    assert weights.read_header(path) == config


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected corrector weights at .*nowhere"):
        weights.load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, -10])
def test_a_truncated_file_is_refused(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(weights.WeightsError, match="expected a whole safetensors file"):
        weights.load(file)


def test_a_file_of_another_format_is_refused(file):
    file.write_bytes(b"PK\x03\x04 this is a pickle in a zip" * 100)
    with pytest.raises(weights.WeightsError, match="expected a whole safetensors file"):
        weights.load(file)


def test_safetensors_without_our_header_are_refused(file):
    save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(weights.WeightsError, match="without their header"):
        weights.load(file)


def test_a_header_that_is_nested_too_deeply_is_refused(file):
    save_file(load_file(file), file, {weights.KEY: "[" * 100_000})
    with pytest.raises(weights.WeightsError, match="expected a JSON header"):
        weights.load(file)


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        (weights.FORMAT_VERSION + 1, "update RS-Corrector"),
        (100, "update RS-Corrector"),
        (3, "get the file again or make the corrector anew, with the template"),  # RS-Corrector 0.1.0
        ("newest", "get the file again or make the corrector anew"),
    ],
)
def test_another_format_version_is_refused(file, version, remedy):
    rewrite(file, format_version=version)
    said = rf"expected format version {weights.FORMAT_VERSION} .*got {version}; {remedy}"
    with pytest.raises(weights.WeightsError, match=said):
        weights.load(file)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(kind="pickle"), "a kind out of"),
        (dict(width=100_000), "width from 8 to 512, got 100000"),
        (dict(width=20), "divisible by 8"),
        (dict(levels="2"), "levels from 1 to 6, got '2'"),
        (dict(groups=[]), "1 to 64 named groups"),
        (dict(groups=["a", "a"]), "different names"),
        (dict(gains=[1.0]), "one positive gain a group"),
        (dict(gains=[1.0, float("nan")]), "one positive gain a group"),
        (dict(sigma_max=0.01), "sigma_min < sigma_max"),
        (dict(sigma_max=float("inf")), "sigma_min < sigma_max"),
        (dict(sigma_data=float("inf")), "sigma_data > 0"),
        (dict(gains=[1.0, float("inf")]), "one positive gain a group"),
        (dict(windows=[(0.1, -1.0)]), "a window of levels"),
        (dict(choices=[["a"], ["b", 2]]), "the preferred wordings of every group as text"),
        (dict(choices=[["a"]]), "the preferred wordings of every group"),
        (dict(choices=[["a"] * 65, ["b"]]), "the preferred wordings of every group"),
        (dict(shares=[[1.0], [-1.0]]), "a share of 0 and above for every preferred wording"),
        (dict(shares=[[1.0], [0.0]]), "not all of them 0"),
        (dict(shares=[[1.0], [float("nan")]]), "a share of 0 and above"),
        (dict(sigma_data=None), "a complete header"),
        (dict(mood="good"), "no other header fields"),
        (dict(training="by hand"), "objects for training"),
    ],
)
def test_an_invalid_header_is_refused(file, changes, said):
    rewrite(file, **changes)
    with pytest.raises(weights.WeightsError, match=said):
        weights.load(file)


def test_missing_and_misshapen_tensors_are_refused(file):
    rewrite(file, width=24)
    with pytest.raises(weights.WeightsError, match="expected tensor .* of shape"):
        weights.load(file)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(file, bad):
    rewrite(file, {"network.head.bias": torch.tensor([0, bad, 0, 0], dtype=torch.float16)})
    with pytest.raises(weights.WeightsError, match="finite numbers in network.head.bias"):
        weights.load(file)


def test_integers_are_refused(file):
    rewrite(file, {"network.head.bias": torch.zeros(4, dtype=torch.int32)})
    with pytest.raises(weights.WeightsError, match="fp16 or fp32"):
        weights.load(file)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(file, monkeypatch):
    before = file.read_bytes()
    monkeypatch.setattr(weights, "save_file", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        weights.save(Corrector(CONFIG), file)
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


def test_a_fingerprint_ignores_names_and_order_but_not_values():
    tensors = [torch.randn(3, 5), torch.randn(7), torch.randn(2, 2, 3, 3)]
    name = weights.fingerprint(tensors)
    assert weights.fingerprint([t.half() for t in reversed(tensors)]) == name
    assert weights.fingerprint([tensors[0] + 1, *tensors[1:]]) != name


@pytest.mark.parametrize("shape", [(), (0, 4), (7,), (3, 5), (65, 2, 1), (1, 1, 1, 70), (128, 64), (9, 300, 2)])
def test_a_fingerprint_is_of_the_first_64_values(shape):
    tensor = torch.randn(shape)
    assert weights._head(tensor) == tensor.flatten()[:64].half().numpy().tobytes()


def test_a_fingerprint_neither_copies_nor_dequantises():
    class Quantised(torch.Tensor):
        @staticmethod
        def __new__(cls, stored, scale):
            return torch.Tensor._make_wrapper_subclass(cls, stored.shape, dtype=torch.bfloat16)

        def __init__(self, stored, scale):
            self.stored, self.scale = stored, scale

        def __tensor_flatten__(self):
            return ["stored", "scale"], None

        @classmethod
        def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
            assert function is torch.ops.aten.detach.default, f"{function} reads all of it"
            return cls(args[0].stored, args[0].scale)

    stored, scale = torch.arange(4096).view(64, 64).to(torch.float8_e4m3fn), torch.tensor(0.5)
    name = weights.fingerprint([Quantised(stored, scale)])
    assert name == weights.fingerprint([Quantised(stored.clone(), scale)])
    assert name != weights.fingerprint([Quantised(stored, scale + 1)]) != weights.fingerprint([stored])
    begun = time.monotonic()
    weights.fingerprint(torch.ones(1, 1).expand(100_000, 6_000) for _ in range(20))  # twelve billion
    assert time.monotonic() - begun < 0.05


def test_inspect_prints_the_header_and_exits_2_on_a_bad_file(file, tmp_path, capsys):
    assert main(["inspect", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == ["ana", "bo"]
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    assert main(["inspect", str(tmp_path / "bad.safetensors")]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "expected a whole safetensors file" in said.err
