"""Every method of the quality benchmark behind one small protocol.

A module here gives

    GRID       settings tried on the tuning seeds: dicts of keyword arguments of `prepare`, each with a "strength"
    STRENGTHS  of its own, least first, at which it is reported
    prepare    (host, case, **setting) -> at; at(strength) -> draw; draw(caption, count, seed, **sampling) gives
               (N, 4, 8, 8) latents as ComfyUI's sockets carry them
    took       (host, case) -> {"make_evaluations", "make_s"}, where `prepare` takes what was made before

None reads an attribute: a method knows the words of a `Case` and the checkpoint, as its user would.
"""

import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import torch

from rs_corrector.testbed import portraits

METHODS = (
    "none",
    "negative_prompt",
    "prompt_rewrite",
    "sega",
    "prompt_teacher",
    "latent_direction",
    "embedding_projection",
    "uce",
    "gradient_noise_aware",
    "gradient_clean",
    "rs_corrector",
)
#: Methods that draw and are in no table until they have been tuned on every case as the others were.
UNTUNED = ("concept_sliders", "equisteer")


def method(name):
    return import_module(f"{__name__}.{name}")


@dataclass(frozen=True)
class Case:
    """One planted stereotype, in words: whole captions, and the clauses that state the two depictions."""

    attribute: str
    group: str
    neutral: str
    preferred: str
    rejected: str
    preferred_words: str
    rejected_words: str


def case(kind, planted=portraits.STEREOTYPES):
    """A planted kind in words; `planted` is a world's, {kind: (group, value, ...)}."""
    return Case(kind, *portraits.wordings(kind, planted), *portraits.phrases(kind, planted))


CASES = {kind: case(kind) for kind in portraits.STEREOTYPES}


def mixed(one, other, share):
    """Two conditionings, weighed as ComfyUI's ConditioningAverage weighs them; a share beyond 1 extrapolates."""
    return [[torch.lerp(one[0][0], other[0][0], share), one[0][1]]]


#: First of the noise seeds that rivals learn from, and how many images a side.
LEARNING_SEED, LEARNT = 0, 256


def learning_batches():
    """(size, seed) of what a rival draws to learn from."""
    return [(64, LEARNING_SEED + i) for i in range(LEARNT // 64)]


@cache
def sides(host, case):
    """Clean latents in model space that the checkpoint draws under the preferred and under the rejected wording."""
    scale = host.model.get_model_object("latent_format").process_in
    return tuple(
        torch.cat([scale(host.sample(host.model, words, *batch)) for batch in learning_batches()]).clone()
        for words in (case.preferred, case.rejected)
    )


def forget():
    """Let go of what methods have learnt, so that what it takes to learn it can be counted."""
    for module in (sys.modules[__name__], *map(method, (*METHODS, *UNTUNED))):
        for found in vars(module).values():
            if hasattr(found, "cache_clear"):
                found.cache_clear()


def last_word(host, caption):
    """Position of a caption's last word among its tokens; the end token follows it."""
    (tokens,) = host.clip.tokenize(caption)["l"]
    return next(i for i, (token, _) in enumerate(tokens) if token == 49407) - 1
