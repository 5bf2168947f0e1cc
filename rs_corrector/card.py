"""The model card that lies beside every corrector file: whose preference, on what, how to contest it."""

from copy import copy
from dataclasses import replace

from . import weights
from .files import replacing


def save(corrector, path, **stated):
    """Write a corrector file and, beside it, its card; errors as `weights.save`.

    Args:
        stated: `marked_by` and `contest` in its maker's words, for both; an empty text leaves what is known.
    """
    said = {key: text.strip() for key, text in stated.items() if text.strip()}
    saved = copy(corrector)
    saved.config = replace(corrector.config, training=corrector.config.training | said)
    weights.save(saved, path)
    with replacing(path.with_suffix(".md")) as temporary:
        temporary.write_text(card(saved.config, path.name), encoding="utf-8")


def card(config, name):
    """Markdown for a `Config`; `name` is the file's."""
    training = dict(config.training)
    marked_by = training.pop("marked_by", "not stated")
    contest = training.pop("contest", "not stated")
    base = config.base.get("name", "not stated"), config.base.get("fingerprint", "not stated")
    lines = [
        f"# {name}",
        "",
        "A corrector for RS-Corrector: a small network that nudges the latent towards the preferred depiction of a",
        "perceived group while an image is sampled. It changes how a group is depicted, not which group is drawn.",
        "",
        f"- perceived groups: {', '.join(config.groups)}",
        f"- made for: {base[0]} (fingerprint {base[1]}); on any other checkpoint nothing here is known to hold",
        f"- kind: {config.kind}, {config.latent_channels}-channel {config.latent_format} latents",
        f"- licence: {config.licence}",
        f"- created by: {config.created_by}",
        "",
        "## Whose preference",
        "",
        f"Marked by: {marked_by}",
        "",
        f"To contest it: {contest}",
        "",
        "## How it was made",
        "",
        *(
            f"- {key.replace('_', ' ')}: {value if isinstance(value, str) else _show(value)}"
            for key, value in training.items()
        ),
        "",
        "## What was measured",
        "",
    ]
    if not config.metrics:
        return "\n".join([*lines, "Nothing yet. Treat it as untested.", ""])
    return "\n".join([*lines, *(f"- {key.replace('_', ' ')}: {_show(v)}" for key, v in config.metrics.items()), ""])


def _show(value):
    if isinstance(value, dict) and value.keys() == {"value", "low", "high"}:
        return f"{value['value']:.3f} (95 % interval {value['low']:.3f} to {value['high']:.3f})"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_show(v)}" for key, v in value.items() if v not in ([], None))
    if isinstance(value, (list, tuple)):
        return " ".join(map(_show, value))
    if isinstance(value, str):
        return f"“{value}”"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
