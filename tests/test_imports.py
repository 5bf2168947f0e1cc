"""What can be imported where, and what must not be."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PACK = Path(__file__).parents[1]


def python(code):
    return subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True).stdout


def test_the_entry_point_imports_without_comfyui():
    code = (
        "import importlib.util as u, sys;"
        f"s = u.spec_from_file_location('pack', r'{PACK / '__init__.py'}', submodule_search_locations=[r'{PACK}']);"
        "m = sys.modules['pack'] = u.module_from_spec(s); s.loader.exec_module(m);"
        "print(hasattr(m, 'comfy_entrypoint'))"
    )
    assert python(code).strip() == "False"


def test_the_engine_needs_neither_comfyui_nor_the_demo_extra():
    modules = "card, corrector, distillation, files, network, score_matching, training, weights"
    loaded = python(f"from rs_corrector import {modules}; import sys; print(*sys.modules)").split()
    assert not {"comfy", "diffusers", "transformers", "open_clip", "statsmodels", "PIL"} & set(loaded)


def test_both_lists_of_what_is_needed_say_the_same():
    """Managers of custom nodes read one of them, pip the other."""
    said = re.search(r"^dependencies = \[(.*)\]", (PACK / "pyproject.toml").read_text(), re.MULTILINE)
    assert re.findall(r'"(.*?)"', said[1]) == (PACK / "requirements.txt").read_text().split()


def test_the_project_claims_no_public_address():
    """There is none yet; whoever gives it one changes this."""
    text = (PACK / "pyproject.toml").read_text()
    assert not re.search(r"https?://|PublisherId|\[project\.urls\]", text)
    assert not list((PACK / ".github").rglob("*publish*"))


def test_a_wheel_has_everything_that_the_engine_reads(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE", "rs_corrector", "corrector_weights", "presets"):
        source, target = PACK / name, tmp_path / "source" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    build = "import setuptools.build_meta as b; print(b.build_wheel('..'))"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path / "source", capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    code = (
        f"import sys; sys.path.insert(0, r'{installed}');"
        "from rs_corrector import presets, request, weights, wordings;"
        "print(weights.__file__, len(weights.load(weights.SHIPPED).config.groups));"
        "assert wordings.shipped() and request.unrelated() and presets.shipped()"
    )
    where, groups = python(code).split()
    assert Path(where).is_relative_to(installed) and int(groups) == 4


def test_only_one_place_touches_the_hosts_internals():
    for file in [*(PACK / "nodes").glob("*.py"), *(PACK / "rs_corrector").rglob("*.py")]:
        text = file.read_text()
        assert "import comfy." not in text and "from comfy." not in text and "folder_paths" not in text, file


def test_nothing_that_is_shipped_runs_code_from_data_or_installs_anything():
    forbidden = re.compile(r"(?<![\w.])(eval|exec|compile)\(|pickle|torch\.load|os\.system|shell=True|[\"']pip[\"']")
    for file in [PACK / "__init__.py", *(PACK / "nodes").rglob("*.py"), *(PACK / "rs_corrector").rglob("*.py")]:
        found = forbidden.search(file.read_text())
        assert not found, f"{file}: {found[0]}"
    assert not list((PACK / "web").rglob("*.js"))


def test_the_readme_says_what_the_results_say():
    done = subprocess.run(
        [sys.executable, PACK / "benchmarks" / "tables.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
