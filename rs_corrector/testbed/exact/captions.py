"""What captions can say of a picture, and how they change what is likely.

A caption states attributes by the words of `PHRASES`; what it says nothing of follows the population. A statement has
a level in 0..1, so that a mixture of two conditionings means a mixture of what they say. A group that is named is
certain. As in the data that checkpoints learn from, captions are not always right about the rest: where the noise is
low, a picture that plainly shows otherwise is believed.
"""

import re

import torch

from ...wordings import PLACE
from .. import portraits as P
from . import drawing

#: The words for every value that a caption can state, (attribute, value, words).
PHRASES = tuple(
    (name, value, words)
    for name, phrases in {
        "group": tuple(f"{group} shirt" for group in drawing.GROUPS),
        **P.WORDS,
        "scale": ("close up", "three quarters as large", "half as large", "far away"),
        "place": drawing.PLACES,
        "company": ("alone", "among balls", "among boxes", "among trees"),
    }.items()
    for value, words in enumerate(phrases)
)
#: Share of captions whose statement, of anything but the group, is meant; the rest might as well be silent.
MEANT = 1 - 1e-6
#: Words of every caption, which state nothing.
_PLAIN = set(P.neutral("").split()) | {"a", "and", "as"}


#: Places at which `contexts` have nobody but where they are held out.
HELD_OUT_PLACES = ("north", "southeast")


def contexts(held_out=False):
    """Contexts, as `wordings` has them, that state scale, place and company of a portrait in a scene.

    Args:
        held_out: those that none of the others has: another scale, at any place, or one of two other places.
    """
    said = {name: [words for of, _, words in PHRASES if of == name] for name in ("scale", "place", "company")}
    close, between, *smaller = said["scale"]
    if held_out:
        where = [f"{between}, {place}" for place in said["place"]]
        where += [f"{scale}, {place}" for scale in smaller for place in HELD_OUT_PLACES]
    else:
        known = [place for place in said["place"] if place not in HELD_OUT_PLACES]
        where = [here for place in known for here in (close, *(f"{scale}, {place}" for scale in smaller))]
    return tuple(f"{PLACE}, {here}, {company}" for here in where for company in said["company"])


def keys(words):
    """The words that make a phrase: a caption that has them all states it."""
    return [word for word in re.findall(r"[a-z]+", words.lower()) if word not in _PLAIN]


def levels(captions):
    """What captions state: (N) -> (N, V), 1 for every phrase of `PHRASES` whose words are in a caption, else 0.

    Order and negation are not understood: "no glasses" has no phrase, "black hat, hair" states black hair.
    """
    said = [set(re.findall(r"[a-z]+", caption.lower())) for caption in captions]
    return torch.tensor([[float(said_of.issuperset(keys(words))) for *_, words in PHRASES] for said_of in said])


def stated(table, name, level):
    """Log probabilities of an attribute under captions.

    p(value) = m level(value) + (1 - m sum of levels) p0(value), m = `MEANT` or 1, where levels that sum to more than
    one are first divided by their sum.

    Args:
        table: (G, K) or (K,) probabilities where nothing is said.
        level: (N, V) as `levels` returns them.

    Returns:
        (N, G, K) or (N, K).
    """
    columns = [i for i, phrase in enumerate(PHRASES) if phrase[0] == name]
    said = level[:, columns][:, : table.shape[-1]].clamp(0, 1)
    said = (1.0 if name == "group" else MEANT) * said / said.sum(1, keepdim=True).clamp_min(1)
    rest = 1 - said.sum(1, keepdim=True)
    if table.ndim == 2:
        said, rest = said[:, None], rest[:, None]
    return (rest * table + said).log()
