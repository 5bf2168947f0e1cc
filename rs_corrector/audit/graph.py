"""Where an API-format workflow takes its values from, and which it takes.

A value may stand on the node that uses it, or be linked: to a primitive, a noise, a scheduler, a guider. It is written
where it stands.
"""

import json
from difflib import get_close_matches
from functools import cache

from .run import AuditError

NUMBERS = ("INT", "FLOAT")


class Graph:
    """A workflow, and what ComfyUI declares of its nodes.

    Args:
        workflow: {node id: {"class_type", "inputs"}}.
        server: a `comfyui.Client`, which is asked for declarations.
    """

    def __init__(self, workflow, server):
        self.workflow, self.server = workflow, server
        self.declared = cache(self._declared)

    def _declared(self, kind):
        """{input: (type, options)} of a kind of node; all lists to choose from are of type COMBO."""
        found = json.loads(self.server.get(f"/object_info/{kind}")).get(kind)
        if found is None:
            raise AuditError(f"expected nodes that this ComfyUI has, got {kind!r}; install the pack that has it")
        inputs = {
            name: given for part in ("required", "optional") for name, given in found["input"].get(part, {}).items()
        }
        return {
            name: ("COMBO", {"options": given[0]}) if isinstance(given[0], list) else (given[0], (*given, {})[1])
            for name, given in inputs.items()
        }

    def kind(self, node):
        return self.workflow[node]["class_type"]

    def type(self, node, name):
        """What an input takes, all numbers alike; None where it is not declared."""
        found = self.declared(self.kind(node)).get(name, (None,))[0]
        return "NUMBER" if found in NUMBERS else found

    def links(self, node, names):
        """Nodes that inputs of these names are linked to."""
        inputs = self.workflow[node]["inputs"]
        return [inputs[name][0] for name in names if is_link(inputs.get(name))]

    def places(self, node, names, along=()):
        """[(node, input)] of a value by the names that it may have: here, or else along links of some names."""
        inputs = self.workflow[node]["inputs"]
        found = [place for name in names if name in inputs for place in self.origin(node, name)]
        return found or [place for source in self.links(node, along) for place in self.places(source, names, along)]

    def texts(self, node):
        """[(node, input)] of all texts that a node takes; empty where one of them has no place of its own."""
        inputs, declared = self.workflow[node]["inputs"], self.declared(self.kind(node))
        texts = [name for name in inputs if self.type(node, name) == "STRING"]
        texts = [name for name in texts if declared[name][1].get("multiline")] or texts
        found = [self.origin(node, name) for name in texts]
        return [place for places in found for place in places] if all(found) else []

    def origin(self, node, name):
        """[(node, input)] where a value stands: here, or on what is linked to it; empty where that computes it."""
        value = self.workflow[node]["inputs"][name]
        if not is_link(value):
            return [(node, name)]
        source, inputs = value[0], self.workflow[value[0]]["inputs"]
        same = [other for other in inputs if self.type(source, other) == self.type(node, name)]
        if not same and len(inputs) == 1:  # a reroute
            same = list(inputs)
        return self.origin(source, same[0]) if len(same) == 1 else []

    def read(self, place):
        node, name = place
        return self.workflow[node]["inputs"][name]

    def refusal(self, place, value):
        """What an input takes instead of a value, in words; None where it takes it."""
        node, name = place
        kind, options = self.declared(self.kind(node)).get(name, (None, {}))
        if kind == "COMBO":
            return unknown(value, options.get("options"))
        if kind not in NUMBERS:
            return None
        least, most, step = (options.get(key) for key in ("min", "max", "step"))
        if least is not None and value < least or most is not None and value > most:
            return f"a number from {least} to {most}"
        if kind == "INT" and step and (value - (least or 0)) % step:
            return f"a number in steps of {step} from {least or 0} on"
        return None


def is_link(value):
    """Whether an input in API format is a link, [node id, output], and not a value."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def unknown(name, known):
    """What is known instead of a name, in words; None where it is known, or nobody says what is."""
    if not known or name in known:
        return None
    near = get_close_matches(str(name), map(str, known), 3, 0.5) or list(known)[:8]
    return f"one that this ComfyUI has, such as {', '.join(map(str, near))}"
