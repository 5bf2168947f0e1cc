"""What is said of every picture of a recording: one of three wordings, in a context.

A context is a text with a place for the wording, "a photo of {person} in the rain". The wordings of one picture share
a context, the next picture has the next, and where there are several preferred wordings the next of those as well.
"""

from dataclasses import dataclass
from pathlib import Path

from .choice import are_shares
from .counterparts import NEUTRAL, OTHERS, PREFERRED, REJECTED

#: Where a context takes a wording.
PLACE = "{person}"
#: The contexts that come with the pack, one a line.
SHIPPED = Path(__file__).with_name("contexts.txt")
#: Golden ratio: every run of picture numbers, and every n-th of it, has all preferred wordings about equally often.
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Wordings:
    """Texts that are told to a checkpoint, or conditionings, which have no context.

    Attributes:
        neutral, rejected, others: one wording each.
        preferred: one or several; a picture is recorded for one of them.
        shares: how often each preferred wording is to be chosen in use, relative to one another; empty is equally.
        contexts: texts with `PLACE` in them.

    Raises:
        ValueError: a context without its place, wordings of which some only are texts, wordings that are equal, shares
            that are no shares.
    """

    neutral: object
    preferred: tuple
    rejected: object
    others: object
    shares: tuple = ()
    contexts: tuple = (PLACE,)

    def __post_init__(self):
        for context in self.contexts:
            if PLACE not in context:
                raise ValueError(f"expected {PLACE} in every context, got {context!r}; say where the person is")
        if not self.contexts:
            raise ValueError(f"expected at least one context, got none; {PLACE} alone will do")
        check_shares(self.shares or (1.0,) * len(self.preferred), len(self.preferred))
        if len({isinstance(each, str) for each in self.bare()}) > 1:
            raise ValueError(
                "expected neutral, preferred, rejected and others typed, or a conditioning connected to each of them, "
                "got some of either; contexts are for what is typed"
            )
        texts = [text for text in (*self.preferred, self.rejected) if isinstance(text, str)]
        if twice := next((text for text in texts if texts.count(text) > 1), None):
            raise ValueError(
                f"expected preferred and rejected wordings that differ from one another, got {twice!r} twice; "
                "leave one out or word it otherwise"
            )

    def choice(self, number):
        """Index of the preferred wording of a picture."""
        return int((number + 1) * _GOLDEN % 1 * len(self.preferred))

    def said(self, name, number):
        """What wording `name` says of a picture: a text in its context, or a conditioning as it is."""
        wording = self.preferred[self.choice(number)] if name == PREFERRED else getattr(self, name)
        if not isinstance(wording, str):
            return wording
        return placed(wording, self.contexts[number % len(self.contexts)])

    def bare(self):
        """(neutral, *preferred, rejected, others), without any context."""
        return self.neutral, *self.preferred, self.rejected, self.others

    def texts(self, but=()):
        """Everything that is said in words, in contexts and without; some wordings may be left out."""
        bare = [each for each in self.bare() if isinstance(each, str) and each not in but]
        return list(dict.fromkeys([*bare, *(placed(each, context) for context in self.contexts for each in bare)]))

    def facts(self):
        """{name: text or list of texts} for people to read; conditionings cannot be."""
        texts = {name: getattr(self, name) for name in (NEUTRAL, REJECTED, OTHERS)}
        texts = {name: text for name, text in texts.items() if isinstance(text, str)}
        choices = [text if isinstance(text, str) else "" for text in self.preferred]
        contexts = {"contexts": list(self.contexts)} if texts else {}
        return texts | {"preferred": choices, "shares": list(self.shares)} | contexts


def placed(wording, context):
    """A wording in a context."""
    return context.replace(PLACE, wording)


def lines(text):
    """A text's lines that say something; one that begins with `#` is a remark."""
    return tuple(line for row in text.splitlines() if (line := row.strip()) and not line.startswith("#"))


def shipped():
    """The contexts that come with the pack."""
    return lines(SHIPPED.read_text())


def shares(text):
    """Numbers of a text, separated by commas or spaces: (K,).

    Raises:
        ValueError: something is no number.
    """
    try:
        return tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError as error:
        raise ValueError(f"expected numbers as shares, such as '1, 1, 2', got {text!r}; correct it") from error


def check_shares(values, count):
    """Raise a ValueError where these are not `count` shares."""
    if len(values) != count:
        raise ValueError(
            f"expected a share for each of {count} preferred wordings, got {len(values)}; give one a wording, or none"
        )
    if not are_shares(values):
        raise ValueError(f"expected shares of 0 and above, at least one of them more, got {values}; correct them")
