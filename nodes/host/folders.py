"""The models folders `rs_correctors` and `rs_judges`, and the places where the nodes keep what they make."""

import hashlib
from pathlib import Path

import folder_paths

from ...rs_corrector import weights

FOLDER, JUDGES = "rs_correctors", "rs_judges"


def register_folders():
    """Register both folders and the shipped weights, keeping paths that the user configured."""
    models, shipped = Path(folder_paths.models_dir), weights.SHIPPED.parent
    _register(FOLDER, [models / FOLDER, shipped], {".safetensors"})
    _register(JUDGES, [models / JUDGES], {".safetensors", ".onnx"})


def _register(name, folders, kinds):
    paths, _ = folder_paths.folder_names_and_paths.get(name, ([], set()))
    folder_paths.folder_names_and_paths[name] = (paths + [f for f in map(str, folders) if f not in paths], kinds)


def corrector_names():
    return folder_paths.get_filename_list(FOLDER)


def corrector_path(name):
    """Full path of a corrector by its name in the list.

    Raises:
        FileNotFoundError: with the folders that were searched.
    """
    return _found(FOLDER, "corrector weights", name, ", make one with the template make_a_corrector")


def judge_names(kind):
    """Files of `models/rs_judges` that end so."""
    return [name for name in folder_paths.get_filename_list(JUDGES) if name.endswith(kind)]


def judge_path(name):
    """Full path of a judge's weights by their name in the list; errors as `corrector_path`."""
    return _found(JUDGES, "a judge's weights", name)


def pairs_folder(name):
    """Folder of a set of pairs, inside ComfyUI's output directory.

    Raises:
        ValueError: the name leads out of it.
    """
    return _inside(folder_paths.get_output_directory(), "rs_corrector_pairs", name)


def audit_folder(name):
    """Folder of an audit, inside ComfyUI's output directory; errors as `pairs_folder`."""
    return _inside(folder_paths.get_output_directory(), "rs_corrector_audits", name)


def unfinished(pairs, *settings):
    """Where a training of these pairs with these settings is kept until it is done, beside the pairs."""
    what = repr((pairs.identity(), settings))
    return pairs.shards[0].path.with_name(f"unfinished-{hashlib.sha256(what.encode()).hexdigest()[:12]}.safetensors")


def corrector_file(name):
    """Where a corrector of that name is saved: the first folder of `rs_correctors`."""
    return _inside(
        folder_paths.get_folder_paths(FOLDER)[0], ".", name.strip().removesuffix(".safetensors") + ".safetensors"
    )


def sorted_folder(name):
    """A folder under ComfyUI's input directory."""
    return _inside(folder_paths.get_input_directory(), ".", name)


def _found(folder, what, name, instead=""):
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        places = ", ".join(folder_paths.get_folder_paths(folder))
        raise FileNotFoundError(
            f"expected {what} named {name!r} in one of {places}, got no such file; get it from whoever shared the "
            f"workflow{instead}, or choose another"
        )
    return path


def _inside(root, folder, name):
    root = Path(root, folder).resolve()
    path = (root / name.strip()).resolve()
    if path == root or not path.is_relative_to(root):
        raise ValueError(f"expected a name for a place inside {root}, got {name!r}; use letters and digits")
    return path
