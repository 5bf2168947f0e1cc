"""Draw an audit's pictures with a ComfyUI server and a workflow that anyone can make in the graph editor.

The workflow, in API format, has nodes of these titles: *Prompt*, the text; *Latent*, size and batch; *Sample before*
and *Sample after*, samplers without and with the correction; *Before* and *After*, which save or preview the pictures.
Optional: *Negative*, and *Checkpoint*, a loader whose file an audit of several checkpoints names.
"""

import copy

import torch

from ..pictures import from_png
from .run import AuditError

NEEDED = ("Prompt", "Latent", "Sample before", "Sample after", "Before", "After")
#: What a plan sets, where a sampler has an input of that name.
SETTINGS = {"steps": "steps", "cfg": "cfg", "sampler_name": "sampler", "scheduler": "scheduler"}


class Workflow:
    """Draws units through a server.

    Args:
        server: a `comfyui.Client` or `comfyui.Server`.
        workflow: in API format.
        plan: the `Plan`; what it says of sampling is set in the workflow.

    Raises:
        AuditError: a node of a needed title is missing.
    """

    def __init__(self, server, workflow, plan):
        self.server, self.workflow, self.plan = server, workflow, plan
        self.titles = {node.get("_meta", {}).get("title"): name for name, node in workflow.items()}
        needed = [*NEEDED, *(["Checkpoint"] if len(plan.checkpoints) > 1 else [])]
        if missing := [title for title in needed if title not in self.titles]:
            raise AuditError(
                f"expected a node titled {missing[0]!r} in the workflow, got {sorted(filter(None, self.titles))}; give "
                "the node that title in the graph editor and save in API format"
            )

    def __call__(self, unit):
        workflow, sampling = copy.deepcopy(self.workflow), self.plan.sampling

        def into(title, **inputs):
            found = workflow[self.titles[title]]["inputs"]
            found |= {name: value for name, value in inputs.items() if name in found}

        side, other = ("After", "Before") if unit.corrected else ("Before", "After")
        into("Prompt", text=unit.words)
        into("Latent", width=sampling["width"], height=sampling["height"], batch_size=unit.size)
        settings = {name: sampling[key] for name, key in SETTINGS.items()}
        into(f"Sample {side.lower()}", seed=unit.seed, noise_seed=unit.seed, **settings)
        if "Negative" in self.titles:
            into("Negative", text=sampling["negative"])
        if "Checkpoint" in self.titles and len(self.plan.checkpoints) > 1:
            into("Checkpoint", ckpt_name=unit.checkpoint, unet_name=unit.checkpoint)
        del workflow[self.titles[other]]  # what nothing asks for is not run
        pictures = self.server.run(workflow)[self.titles[side]]
        return torch.stack([from_png(picture) for picture in pictures])
