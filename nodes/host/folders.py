"""The models folder `rs_correctors`."""

import hashlib
from pathlib import Path

import folder_paths

FOLDER = "rs_correctors"
SHIPPED = Path(__file__).resolve().parents[2] / "corrector_weights"


def register_folder():
    """Register `models/rs_correctors` and the shipped weights, keeping paths that the user configured."""
    paths, _ = folder_paths.folder_names_and_paths.get(FOLDER, ([], set()))
    own = [str(Path(folder_paths.models_dir) / FOLDER), str(SHIPPED)]
    folder_paths.folder_names_and_paths[FOLDER] = (paths + [p for p in own if p not in paths], {".safetensors"})


def corrector_names():
    return folder_paths.get_filename_list(FOLDER)


def corrector_path(name):
    """Full path of a corrector by its name in the list.

    Raises:
        FileNotFoundError: with the folders that were searched.
    """
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        places = ", ".join(folder_paths.get_folder_paths(FOLDER))
        raise FileNotFoundError(
            f"expected corrector weights named {name!r} in one of {places}, got no such file; "
            "put it there or choose another"
        )
    return path


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


def _inside(root, folder, name):
    root = Path(root, folder).resolve()
    path = (root / name.strip()).resolve()
    if path == root or not path.is_relative_to(root):
        raise ValueError(f"expected a name for a place inside {root}, got {name!r}; use letters and digits")
    return path
