"""The models folders `rs_correctors` and `rs_judges`, and the places where the nodes keep what they make."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import folder_paths
from comfy_execution.progress import get_progress_state

from ...rs_corrector import weights
from ...rs_corrector.files import digest

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


def note_weights(name):
    """Write which weights a name stands for into the running prompt, which the host saves with every picture.

    Returns:
        The digest of the file, which is in `_meta.sha256` of every node that names it.
    """
    path = Path(corrector_path(name))
    status = path.stat()
    found = _digest(path, status.st_mtime_ns, status.st_size)
    for node in get_progress_state().dynprompt.get_original_prompt().values():
        if node.get("inputs", {}).get("corrector_name") == name:
            node.setdefault("_meta", {})["sha256"] = found
    return found


@lru_cache
def _digest(path, modified, size):
    return digest(path)


def judge_names(kind):
    """Files of `models/rs_judges` that end so."""
    return [name for name in folder_paths.get_filename_list(JUDGES) if name.endswith(kind)]


def judge_path(name):
    """Full path of a judge's weights by their name in the list; errors as `corrector_path`."""
    return _found(JUDGES, "a judge's weights", name)


def judge_folders():
    """Folders in `models/rs_judges` with a model of transformers."""
    places = map(Path, folder_paths.get_folder_paths(JUDGES))
    return sorted({file.parent.name for place in places for file in place.glob("*/config.json")})


def judge_folder(name):
    """Full path of such a folder by its name; errors as `corrector_path`."""
    places = folder_paths.get_folder_paths(JUDGES) if name in judge_folders() else []
    folder = next((folder for place in places if (folder := Path(place, name)).is_dir()), None)
    if folder is None:
        raise _missing(JUDGES, "a judge's model", name, got="folder")
    return folder


def pairs_folder(name):
    """Folder of a set of pairs, inside ComfyUI's output directory.

    Raises:
        ValueError: the name leads out of it.
    """
    return _inside(folder_paths.get_output_directory(), "rs_corrector_pairs", name)


def audit_folder(name):
    """Folder of an audit, inside ComfyUI's output directory; errors as `pairs_folder`."""
    return _inside(folder_paths.get_output_directory(), "rs_corrector_audits", name)


def kept_training(pairs, *settings):
    """Where a training of these pairs with these settings is kept, beside the pairs."""
    what = repr((pairs.identity(), settings, weights.FORMAT_VERSION))
    return pairs.shards[0].path.with_name(f"training-{hashlib.sha256(what.encode()).hexdigest()[:12]}.safetensors")


def keep_latest(checkpoint, count=4):
    """Delete all but the latest trainings beside this one; from what is kept of a finished one it is there at once."""
    kept = sorted(checkpoint.parent.glob("training-*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    for old in kept[:-count]:
        old.unlink(missing_ok=True)


def corrector_file(name):
    """Where a corrector of that name is saved: the first folder of `rs_correctors` that can be written to.

    Raises:
        ValueError: no name, or one that leads out of the folder.
    """
    stem = name.strip().removesuffix(".safetensors")
    if not stem or stem.endswith(("/", os.sep)):
        raise ValueError(f"expected a name for the file, got {name!r}; type one")
    places = [place for place in folder_paths.get_folder_paths(FOLDER) if Path(place) != weights.SHIPPED.parent]
    return _inside(next(filter(_writable, places), places[0]), ".", f"{stem}.safetensors")


def sorted_folder(name):
    """A folder under ComfyUI's input directory."""
    return _inside(folder_paths.get_input_directory(), ".", name)


def contents(name, pattern):
    """What is in a folder under the input directory, and since when; None of none, and where the name is linked."""
    place = sorted_folder(name) if (name or "").strip() else None
    return None if place is None else sorted((str(p), p.stat().st_mtime_ns) for p in place.glob(pattern))


def _found(folder, what, name, instead=""):
    names = (name, name.replace("\\", "/"))  # the second for workflows that were saved on Windows
    path = next((path for each in names if (path := folder_paths.get_full_path(folder, each))), None)
    if path is None:
        raise _missing(folder, what, name, instead)
    return path


def _missing(folder, what, name, instead="", got="file"):
    places = ", ".join(folder_paths.get_folder_paths(folder))
    return FileNotFoundError(
        f"expected {what} named {name!r} in one of {places}, got no such {got}; get it from whoever shared the "
        f"workflow{instead}, or choose another"
    )


def _inside(root, folder, name):
    """A place below a folder by its name; links on the way are the user's own and are followed."""
    root = Path(os.path.abspath(Path(root, folder)))
    path = Path(os.path.normpath(root / name.strip()))
    if path == root or not path.is_relative_to(root):
        raise ValueError(f"expected a name for a place inside {root}, got {name!r}; use letters and digits")
    return path


def _writable(place):
    """Whether files can be made in a folder, which may have to be made itself."""
    place = Path(place)
    while not place.exists() and place != place.parent:
        place = place.parent
    return os.access(place, os.W_OK)
