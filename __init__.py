"""ComfyUI's entry point. Importable without ComfyUI, which then finds no nodes here."""

from importlib.util import find_spec

WEB_DIRECTORY = "web"  # help pages

if __package__ and find_spec("comfy_api") is not None:
    from .nodes import comfy_entrypoint

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
