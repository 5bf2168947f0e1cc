"""What can be imported where, and what must not be."""

import re
import subprocess
import sys
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
