"""What an audit draws: groups x prompts x seeds, from text that a person edits; see `EXAMPLE`."""

import configparser
import hashlib
import json
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path

#: A plan for the testbed model, and a text to start from.
EXAMPLE = """# Perceived groups, named by you: name = words
[groups]
crimson = a person in a crimson shirt
green = a person in a green shirt
blue = a person in a blue shirt
gold = a person in a gold shirt

# {group} stands for a group's words
[prompts]
plain = a portrait of {group}
glasses = a portrait of {group}, with glasses

# Prompts that name no group: who appears under them is another question
[neutral]
anyone = a portrait of a person

# What to look for: name = words that show it | words that do not
[attributes]
hat = wearing a hat | bare-headed
faded = faded and blurred | clear and sharp
grey = grey hair | black hair
rose = rose background | sky background
glasses = with glasses | without glasses

# Which attribute a prompt asks for, or asks to leave out: prompt = attribute, or prompt = not attribute
[asked]
glasses = glasses

# Images of every prompt and group, a batch from one seed; the next batch, and the next prompt, from seeds after it
[sampling]
images = 32
batch = 16
seed = 30000
width = 64
height = 64
steps = 20
cfg = 3
sampler = euler
scheduler = normal
"""
SAMPLING = {"images": 32, "batch": 8, "seed": 30_000, "width": 512, "height": 512, "steps": 20, "cfg": 7.0}
SAMPLING |= {"sampler": "euler", "scheduler": "normal", "negative": ""}
#: Between what these have to be, for any model.
RANGES = {"images": (1, 10**6), "batch": (1, 4096), "seed": (0, 2**62), "steps": (1, 10_000), "cfg": (0, 100)}
RANGES |= {"width": (16, 16_384), "height": (16, 16_384)}
_SECTIONS = ("facets", "groups", "prompts", "neutral", "attributes", "asked", "reference", "target", "sampling")
#: What pictures do not depend on.
_JUDGED = ("attributes", "asked", "reference", "target", "stated", "facets")


def shipped():
    """{name: file} of the plans that come with the pack; each says where what it looks for is documented."""
    return {file.stem: file for file in sorted((Path(__file__).parent / "plans").glob("*.txt"))}


class PlanError(ValueError):
    """A plan that cannot be carried out: says what was expected, what came, and the remedy."""


@dataclass(frozen=True)
class Unit:
    """One batch: the same words, consecutive rows of one seed's noise. `group` is empty under a neutral prompt."""

    checkpoint: str
    prompt: str
    group: str
    corrected: bool
    seed: int
    size: int
    words: str

    @property
    def name(self):
        """Of its files; the same for the same unit of the same plan."""
        what = json.dumps([self.checkpoint, self.prompt, self.group, self.corrected, self.seed])
        return f"{'with' if self.corrected else 'without'}-{hashlib.sha256(what.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Plan:
    """Groups, prompts, what to look for, and how to sample.

    Attributes:
        groups: {name: words}.
        prompts, neutral: {name: template}.
        attributes: {name: (words that show it, words that do not)}.
        asked: {prompt: attribute, or "not " and an attribute that the prompt asks to leave out}.
        reference: {attribute: (rate, where it is from)}, to compare every group with beside the typical one.
        facets: {facet: {value: groups that have it}}, where groups are combinations of values; of the text, facet =
            value | value, and one group whose words have {facet} in them for all combinations.
        target: {group: share} of those who appear where no group is named; empty is equal shares.
        sampling: images, batch, seed, width, height, steps, cfg, sampler, scheduler, negative.
        stated: which of these the text states itself; all others are usual values.
        checkpoints: names of the models that are compared.
    """

    groups: dict
    prompts: dict
    attributes: dict
    neutral: dict = field(default_factory=dict)
    asked: dict = field(default_factory=dict)
    reference: dict = field(default_factory=dict)
    target: dict = field(default_factory=dict)
    facets: dict = field(default_factory=dict)
    sampling: dict = field(default_factory=dict)
    checkpoints: tuple = ("model",)
    stated: tuple = ()

    def __post_init__(self):
        object.__setattr__(self, "sampling", {**SAMPLING, **self.sampling})
        object.__setattr__(self, "checkpoints", tuple(self.checkpoints))
        for problem in _problems(self):
            raise PlanError(f"expected {problem}")

    def digest(self):
        """A name for all that the pictures depend on."""
        drawn = {key: value for key, value in asdict(self).items() if key not in _JUDGED}
        return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()[:16]

    def units(self, shard=0, of=1):
        """The batches of one shard, every `of`-th; all of them together are the plan."""
        return [unit for i, unit in enumerate(self._units()) if i % of == shard]

    def _units(self):
        cells = [(p, group, text.replace("{group}", words)) for p, text in self.prompts.items()
                 for group, words in self.groups.items()]  # fmt: skip
        cells += [(prompt, "", text) for prompt, text in self.neutral.items()]
        images, batch, first = (self.sampling[key] for key in ("images", "batch", "seed"))
        batches = -(-images // batch)
        begin = {prompt: first + i * batches for i, prompt in enumerate((*self.prompts, *self.neutral))}
        for checkpoint in self.checkpoints:
            for prompt, group, words in cells:
                for number in range(batches):
                    for corrected in (False, True):
                        size, seed = min(batch, images - number * batch), begin[prompt] + number
                        yield Unit(checkpoint, prompt, group, corrected, seed, size, words)


def parse(text, checkpoints=("model",)):
    """A `Plan` from its text.

    Raises:
        PlanError: a line or a section that is not understood, nothing to draw, or nothing to look for.
    """
    found = headed(text, PlanError)
    if unknown := [name for name in found if name not in _SECTIONS]:
        raise PlanError(f"expected sections {', '.join(_SECTIONS)}, got [{unknown[0]}]; rename or remove it")
    found = {name: found.get(name, {}) for name in _SECTIONS}
    sides = {name: tuple(part.strip() for part in words.split("|")) for name, words in found["attributes"].items()}
    sampling = {}
    for key, value in found["sampling"].items():
        if key not in SAMPLING:
            raise PlanError(f"expected settings {', '.join(SAMPLING)} under [sampling], got {key!r}; remove it")
        try:
            sampling[key] = type(SAMPLING[key])(value)
        except ValueError as error:
            raise PlanError(f"expected a number for {key} under [sampling], got {value!r}; correct it") from error
    references, target = {}, {}
    for name, words in found["reference"].items():
        rate, _, source = (part.strip() for part in words.partition("|"))
        references[name] = _number(rate, name, "reference"), source
    for name, share in found["target"].items():
        target[name] = _number(share, name, "target")
    parts = [found[name] for name in ("neutral", "asked")]
    groups, facets = _combined(found["groups"], found["facets"])
    return Plan(
        groups, found["prompts"], sides, *parts, references, target, facets, sampling, checkpoints, tuple(sampling)
    )


def headed(text, error):
    """{section: {name: words}} of a text with lines `name = words` under [section] headings.

    Raises:
        error: of this kind, where a line is something else.
    """
    reader = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=True)
    reader.optionxform = str  # names keep their capitals
    try:
        reader.read_string(text.removeprefix("\ufeff"))  # some editors begin a file with a byte-order mark
    except configparser.Error as wrong:
        raise error(f"expected lines `name = words` under [section] headings, got: {wrong.message}") from wrong
    return {name: dict(reader[name]) for name in reader.sections()}


def _combined(groups, facets):
    """(groups, facets as of `Plan`): every group with {facet} in its words stands for all combinations."""
    values = {facet: [value.strip() for value in words.split("|")] for facet, words in facets.items()}
    for facet, own in values.items():
        if len(own) < 2 or len(set(own)) < len(own) or not all(own):
            raise PlanError(
                f"expected different values `facet = value | value` under [facets], got {facet} = {' | '.join(own)}; "
                "write two or more"
            )
        if not any(f"{{{facet}}}" in words for words in groups.values()):
            raise PlanError(f"expected a group with {{{facet}}} in its words under [groups], got none; add one")
    several = [name for name, words in groups.items() if any(f"{{{facet}}}" in words for facet in values)]
    if len(several) > 1:
        raise PlanError(
            f"expected one group with facets in its words, got {' and '.join(several)}; make what they "
            "differ in a facet"
        )
    made, members = {}, {facet: {value: [] for value in own} for facet, own in values.items()}
    for name, words in groups.items():
        here = [facet for facet in values if f"{{{facet}}}" in words]
        if here and len(here) < len(values):
            raise PlanError(f"expected every facet in the words of {name!r}, got {words!r}; put all in, or none")
        for combination in product(*(values[facet] for facet in here)):
            chosen, text = dict(zip(here, combination)), words
            for facet, value in chosen.items():
                text = text.replace(f"{{{facet}}}", value)
                members[facet][value].append(" ".join(combination))
            made[" ".join(combination) if here else name] = text
    return made, members


def _number(text, name, section):
    try:
        return float(text)
    except ValueError as error:
        raise PlanError(f"expected a number for {name} under [{section}], got {text!r}; correct it") from error


def stated(words):
    """(attribute, whether it is to be shown) of what a prompt asks for."""
    return words.removeprefix("not ").strip(), not words.startswith("not ")


def _shares(target):
    return min(target.values()) > 0 and abs(sum(target.values()) - 1) < 1e-3


def _problems(plan):
    if len(plan.groups) < 2:
        yield f"at least two groups to compare under [groups], got {len(plan.groups)}; add some"
    for section in ("groups", "prompts", "neutral"):
        if empty := [name for name, words in getattr(plan, section).items() if not words.strip()]:
            yield f"words for {empty[0]!r} under [{section}], got none; write them, or remove the line"
    said = list(plan.groups.values())
    if same := [name for name, words in plan.groups.items() if said.count(words) > 1]:
        yield f"groups that are worded differently, got {same[0]!r} and {same[1]!r} in the same words; change one"
    if not plan.prompts:
        yield "a prompt under [prompts], got none; add one with {group} in it"
    for name, text in plan.prompts.items():
        if "{group}" not in text:
            yield f"{{group}} in the prompt {name!r}, got {text!r}; put it where the group's words belong"
    for name, text in plan.neutral.items():
        if "{group}" in text:
            yield f"no {{group}} in the neutral prompt {name!r}, got {text!r}; move it to [prompts]"
    if shared := plan.prompts.keys() & plan.neutral.keys():
        yield f"prompts of different names, got {sorted(shared)[0]!r} twice; rename one"
    if not plan.attributes:
        yield "something to look for under [attributes], got nothing; add a line `name = words | words`"
    for name, sides in plan.attributes.items():
        if name.startswith("not "):
            yield f"attributes whose names do not begin with 'not', got {name!r}; rename it"
        if len(sides) != 2 or not all(sides):
            yield f"two wordings `shown | not shown` for the attribute {name!r}, got {' | '.join(sides)!r}; write both"
    for prompt, attribute in plan.asked.items():
        if prompt not in plan.prompts or stated(attribute)[0] not in plan.attributes:
            yield f"a prompt and an attribute of this plan under [asked], got {prompt} = {attribute}; correct the names"
    free = [a for a in plan.attributes if any(stated(plan.asked.get(p, ""))[0] != a for p in plan.prompts)]
    if plan.prompts and plan.attributes and not free:
        yield "a prompt that does not ask for what is looked for, got none; add one to see what is drawn by itself"
    for name, (rate, source) in plan.reference.items():
        if name not in plan.attributes or not 0 <= rate <= 1 or not source:
            yield (
                f"an attribute, its rate from 0 to 1 and where that is from under [reference], got {name} = {rate} | "
                f"{source}; write `name = rate | source`"
            )
    if plan.target and (plan.target.keys() != plan.groups.keys() or not _shares(plan.target)):
        yield f"a share above 0 for every group under [target], 1 together, got {plan.target}; correct them"
    for key, (least, most) in RANGES.items():
        value = plan.sampling[key]
        if not least <= value <= most:
            yield f"{key} of {least} to {most} under [sampling], got {value}; correct it"
    for key in ("width", "height"):
        if (value := plan.sampling[key]) % 8:
            yield f"{key} that is a multiple of 8 under [sampling], got {value}; take {value - value % 8}"
    if not plan.checkpoints or len(set(plan.checkpoints)) < len(plan.checkpoints):
        yield f"checkpoints of different names, got {plan.checkpoints}; name each once"
