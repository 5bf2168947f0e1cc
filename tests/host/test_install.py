"""The pack as people install it and start ComfyUI, a whole run over HTTP each."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rs_corrector import comfyui, demo

WORKFLOW = json.loads(demo.WORKFLOW.read_text())


@pytest.fixture
def start(tmp_path):
    """Start a server of a base directory of that name, with a copy of the pack in a folder of that name."""

    def start(base, pack, *flags):
        base = tmp_path / base
        (base / "custom_nodes").mkdir(parents=True)
        comfyui.copy_pack(base / "custom_nodes" / pack)
        return comfyui.Server(comfyui.find(), base=base, flags=flags)

    return start


def draw(server, seed=7):
    """Pictures without and with the corrector, few and in few steps: {node: [PNG bytes]}."""
    workflow = copy.deepcopy(WORKFLOW)
    workflow["6"]["inputs"]["batch_size"] = 2
    for node in ("7", "8"):
        workflow[node]["inputs"] |= {"steps": 4, "seed": seed}
    pictures = server.run(workflow)
    assert len(pictures["11"]) == len(pictures["12"]) == 2 and pictures["11"] != pictures["12"]
    log = server.log()
    assert "IMPORT FAILED" not in log and f'File "{server.base / "custom_nodes"}' not in log, (
        "no trace leads to the pack"
    )
    return pictures


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_a_portable_folder_with_spaces_and_letters_of_any_script(start):
    with start("ComfyUI windows portable/Zoë’s 絵/ComfyUI", "rs_corrector-main (1)", "--cache-none") as server:
        assert draw(server) == draw(server)


def test_a_pack_that_cannot_be_written_to(start):
    with start("base", "rs-corrector") as server:
        pack = server.base / "custom_nodes" / "rs-corrector"
        before = files(pack)
        for path in (pack, *pack.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            draw(server)
            assert files(pack) == before, "whoever runs the tests may be allowed everything"
        finally:
            for path in (pack, *pack.rglob("*")):
                path.chmod(0o755)


def test_what_is_made_lands_where_the_flags_say(start, tmp_path):
    places = {name: tmp_path / name for name in ("output", "user")}
    for place in places.values():
        place.mkdir()
    flags = [part for name, place in places.items() for part in (f"--{name}-directory", str(place))]
    workflow = json.loads((demo.WORKFLOW.parent / "make_a_corrector_testbed.json").read_text())
    for node in workflow.values():
        if node["class_type"] == "RSCorrectorPairsFromWords":
            node["inputs"] |= {"count": 8, "batch_size": 8, "steps": 4}
        if node["class_type"] == "RSCorrectorTrain":
            node["inputs"] |= {"steps": 4, "batch_size": 8}
    with start("base", "rs-corrector", "--multi-user", "--cache-lru", "2", *flags) as server:
        server.run(workflow)
        assert list(places["output"].glob("rs_corrector_pairs/testbed_green/*.safetensors"))
        assert (server.base / "models" / "rs_correctors" / "my_testbed_corrector.safetensors").is_file()
        assert not files(server.base / "output")


def test_two_servers_on_one_directory(start, tmp_path):
    """All but the pictures is shared: the host gives those of two servers the same names."""
    (tmp_path / "pictures").mkdir()
    flags = ("--output-directory", str(tmp_path / "pictures"))
    with start("base", "rs-corrector") as one, comfyui.Server(one.host, base=one.base, flags=flags) as two:
        with ThreadPoolExecutor() as pool:
            first, second = pool.map(draw, (one, two))
        assert first == second


def test_where_links_are_not_allowed_the_pack_is_copied(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    comfyui.install(tmp_path / "rs-corrector")
    assert (tmp_path / "rs-corrector" / "corrector_weights" / "testbed.safetensors").is_file()
    assert not {"tests", "benchmarks", ".git"} & {path.name for path in (tmp_path / "rs-corrector").iterdir()}
