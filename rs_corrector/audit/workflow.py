"""Draw an audit's pictures with a ComfyUI server and a workflow that anyone can make in the graph editor.

The workflow, in API format, has nodes of these titles: *Prompt*, the text; *Latent*, size and batch; *Sample before*
and *Sample after*, samplers without and with the correction; *Before* and *After*, which save or preview the pictures.
Optional: *Negative*, and *Checkpoint*, a loader whose file an audit of several checkpoints names.

What a plan states is written where these nodes take it from (`graph.py`), or refused before the first picture; what it
does not state stays as it is in the workflow.
"""

import copy
from dataclasses import replace
from itertools import product

import torch

from ..pictures import from_png
from .graph import Graph
from .run import AuditError

NEEDED = ("Prompt", "Latent", "Sample before", "Sample after", "Before", "After")
#: By title, where a setting stands: names of its inputs, and of those whose links lead to it.
SAMPLER = {
    "seed": (("seed", "noise_seed"), ("noise",)),
    "steps": (("steps",), ("sigmas",)),
    "cfg": (("cfg",), ("guider",)),
    "sampler": (("sampler_name",), ("sampler",)),
    "scheduler": (("scheduler",), ("sigmas",)),
}
SETTINGS = {
    "Latent": {name: ((name,),) for name in ("width", "height", "batch_size")},
    "Sample before": SAMPLER,
    "Sample after": SAMPLER,
    "Checkpoint": {"checkpoint": (("ckpt_name", "unet_name"),)},
}
#: What every unit has of its own, whatever its plan states.
ALWAYS = ("text", "seed", "batch_size", "checkpoint")


class Workflow:
    """Draws units through a server.

    Args:
        server: a `comfyui.Client` or `comfyui.Server`.
        workflow: in API format.
        plan: the `Plan`.

    Attributes:
        plan: the same, with the workflow's own settings where it states none.

    Raises:
        AuditError: a node of a needed title is missing, has no place for what the plan states, or does not take it.
    """

    def __init__(self, server, workflow, plan):
        self.server, self.graph = server, Graph(workflow, server)
        self.titles = {node.get("_meta", {}).get("title"): name for name, node in workflow.items()}
        several, negative = len(plan.checkpoints) > 1, "negative" in plan.stated
        needed = [*NEEDED, *["Checkpoint"] * several, *["Negative"] * negative]
        if missing := [title for title in needed if title not in self.titles]:
            raise AuditError(
                f"expected a node titled {missing[0]!r} in the workflow, got {sorted(filter(None, self.titles))}; give "
                "the node that title in the graph editor and save in API format"
            )
        texts = ["Prompt", *["Negative"] * negative]
        places = {(title, "text"): self.graph.texts(self.titles[title]) for title in texts}
        for title in needed:
            for name, where in SETTINGS.get(title, {}).items():
                places[title, name] = self.graph.places(self.titles[title], *where)
        set_here = {*ALWAYS, *plan.stated}
        own = {name: found[0] for (_, name), found in places.items() if found and name in plan.sampling}
        own = {name: self.graph.read(place) for name, place in own.items() if name not in set_here}
        self.plan = replace(plan, sampling=plan.sampling | own)
        self.places = {key: found for key, found in places.items() if key[1] in set_here}
        values, written = self._values(self.plan.units()[0]), {}
        for key, found in self.places.items():
            self._check(*key, found, self.plan.checkpoints if key[1] == "checkpoint" else [values[key]])
            for place in found:
                other = written.setdefault(place, key)
                if values[other] != values[key]:
                    raise AuditError(
                        f"expected a place each for {other[1]} of {other[0]!r} and {key[1]} of {key[0]!r}, got one "
                        "that both are linked to; link two"
                    )

    def _check(self, title, name, places, values):
        """Refuse what has no place, and values that its place does not take."""
        if not places:
            kind = self.graph.kind(self.titles[title])
            remedy = "write it on the node, or link a primitive"
            remedy += "" if name in ALWAYS else f", or take {name} out of the plan"
            raise AuditError(
                f"expected a place for {name} at the node titled {title!r}, got a {kind} that has none, or takes it "
                f"from a node that computes it; {remedy}"
            )
        for value, place in product(values, places):
            if wanted := self.graph.refusal(place, value):
                raise AuditError(
                    f"expected as {name} of the node titled {title!r} {wanted}, got {value!r}; correct the plan"
                )

    def _values(self, unit):
        """{(title, setting): value} of a unit."""
        sampling = self.plan.sampling
        sampler = {name: sampling[name] for name in SAMPLER} | {"seed": unit.seed}
        latent = {"width": sampling["width"], "height": sampling["height"], "batch_size": unit.size}
        parts = {"Latent": latent, "Sample before": sampler, "Sample after": sampler}
        parts |= {"Prompt": {"text": unit.words}, "Negative": {"text": sampling["negative"]}}
        parts |= {"Checkpoint": {"checkpoint": unit.checkpoint}}
        return {(title, name): value for title, settings in parts.items() for name, value in settings.items()}

    def __call__(self, unit):
        workflow, values = copy.deepcopy(self.graph.workflow), self._values(unit)
        for key, places in self.places.items():
            for node, name in places:
                workflow[node]["inputs"][name] = values[key]
        side, other = ("After", "Before") if unit.corrected else ("Before", "After")
        del workflow[self.titles[other]]  # what nothing asks for is not run
        pictures = self.server.run(workflow)[self.titles[side]]
        return torch.stack([from_png(picture) for picture in pictures])
