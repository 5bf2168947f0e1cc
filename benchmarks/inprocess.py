"""The real ComfyUI in this process, with the pack loaded as ComfyUI loads it; for benchmarks and tests."""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import torch

from rs_corrector import comfyui, weights

_TEMPORARY = []


class Host:
    """Native nodes by name, and the few steps that every script here makes with them.

    Args:
        base: ComfyUI's base directory (models, input, output); None makes a temporary one.
    """

    def __init__(self, base=None):
        checkout = comfyui.find()
        if checkout is None:
            raise FileNotFoundError("expected a ComfyUI checkout, got none; set COMFYUI_PATH to one")
        if base is None:
            _TEMPORARY.append(tempfile.TemporaryDirectory(prefix="rs-corrector-"))
            base = _TEMPORARY[-1].name
        self.base = Path(base)
        for folder in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (Path(base) / folder).mkdir(exist_ok=True)
        sys.path.insert(0, str(checkout))
        from comfy.cli_args import args

        args.cpu = not torch.cuda.is_available()
        args.base_directory = str(base)
        import comfy_config.config_parser  # noqa: F401  what every pack has the host load is loaded before the clock
        import comfy_extras.nodes_pag  # noqa: F401

        import nodes

        begun = time.perf_counter()
        if not asyncio.run(nodes.load_custom_node(str(comfyui.PACK))):
            raise RuntimeError(f"expected ComfyUI at {checkout} to load the pack, got a failure; see its log above")
        self.import_s = time.perf_counter() - begun
        self.nodes, self.version = nodes.NODE_CLASS_MAPPINGS, comfyui.version(checkout)
        self.model, self.clip, self.vae = self.run("RSCorrectorTestbed")
        self.size, self._encoded, self._extras = 8, {}, False

    @property
    def fingerprint(self):
        """Of the checkpoint in use, as weights files name it."""
        return weights.fingerprint(self.model.model.diffusion_model.parameters())

    def use(self, model, clip, size):
        """Take another checkpoint than the testbed's: its MODEL and CLIP, and latents of (4, size, size)."""
        self.model, self.clip, self.size, self._encoded = model, clip, size, {}

    def run(self, node, **inputs):
        """Execute one of the pack's nodes; its outputs."""
        with torch.inference_mode():
            return self.nodes[node].execute(**inputs).args

    def apply(self, corrector, group="", strength=1.0, model=None, **more):
        """RSCorrectorApply with its defaults, on the testbed's model where no other is given."""
        window = {"start_percent": 0.0, "end_percent": 1.0}
        chosen = dict(model=model or self.model, corrector=corrector, group=group, strength=strength)
        return self.run("RSCorrectorApply", **chosen, **window | more)[0]

    def call(self, node, **inputs):
        """Execute any node, of whichever generation of the host's interface: its outputs."""
        if node not in self.nodes:
            self._load_extras()
        found = self.nodes[node]
        with torch.inference_mode():
            if hasattr(found, "define_schema"):
                made = found.execute(**inputs)
                return getattr(made, "args", made)  # some of the host's return plain tuples
            return getattr(found(), found.FUNCTION)(**inputs)

    def has(self, node):
        """Whether this host knows a node."""
        if node not in self.nodes:
            self._load_extras()
        return node in self.nodes

    def _load_extras(self):
        """The host's own extra nodes, which it too loads after its core."""
        import nodes

        if not self._extras:
            self._extras = True
            asyncio.run(nodes.init_builtin_extra_nodes())

    def encode(self, text):
        """Conditioning of a caption under the testbed's CLIP; a conditioning stays what it is."""
        if not isinstance(text, str):
            return text
        if text not in self._encoded:
            with torch.inference_mode():
                self._encoded[text] = self.nodes["CLIPTextEncode"]().encode(self.clip, text)[0]
        return self._encoded[text]

    def encode_each(self, captions):
        """One conditioning of several captions, a row a picture."""
        return [[torch.cat([self.encode(caption)[0][0] for caption in captions]), {}]]

    def sample(self, model, caption, count, seed, steps=20, cfg=3.0, sampler="euler", scheduler="normal", negative=""):
        """The native KSampler on empty latents: (N, 4, size, size) as sockets carry them."""
        latent = {"samples": torch.zeros(count, 4, self.size, self.size)}
        conds = self.encode(caption), self.encode(negative)
        with torch.inference_mode():
            drawn = self.nodes["KSampler"]().sample(model, seed, steps, cfg, sampler, scheduler, *conds, latent)
        return drawn[0]["samples"]

    def images(self, *arguments, **settings):
        """`sample`, decoded."""
        return self.decode(self.sample(*arguments, **settings))

    def decode(self, latents):
        """The native VAEDecode: (N, 3, 64, 64) RGB in 0..1."""
        with torch.inference_mode():
            return self.nodes["VAEDecode"]().decode(self.vae, {"samples": latents})[0].movedim(-1, 1).clone()
