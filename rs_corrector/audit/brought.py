"""Models of transformers that a user brings, in a folder as transformers saves them; none are downloaded."""

from .run import AuditError


def load(folder, wanted, *kinds):
    """What these classes of transformers, by name, load from a folder, in order.

    Args:
        wanted: what is expected there, in words.

    Raises:
        AuditError: no such folder, or something else in it.
        ImportError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f"expected transformers for {wanted}, got: {error}; pip install transformers") from error
    try:
        return [getattr(transformers, kind).from_pretrained(folder, local_files_only=True) for kind in kinds]
    except (OSError, ValueError) as error:
        raise AuditError(
            f"expected {wanted} of transformers in the folder {folder}, got: {error}; bring weights and what prepares "
            "their input, none are downloaded"
        ) from error
