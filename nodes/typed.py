"""Wordings that are typed, or connected as conditionings."""

from comfy_api.latest import io

from ..rs_corrector import wordings
from ..rs_corrector.wordings import PLACE, Wordings, lines, shares
from . import host


def inputs():
    return [
        _wording("neutral", "a nurse", "Describe the group and nothing else."),
        _wording(
            "preferred",
            "a nurse in blue scrubs",
            "Describe the group as you want it depicted. Several lines are several depictions: every picture gets one.",
            multiline=True,
        ),
        _wording("rejected", "a nurse in a white cap", "Describe the stereotype, in otherwise the same words."),
        _wording("negative", "", "Use your usual negative prompt."),
        _wording("others", "a person", "Describe anybody in the same style: whom to spare."),
    ]


def scenes():
    """What belongs to typed wordings: where people are, how often which depiction, and what encodes it."""
    return [
        io.String.Input(
            "contexts",
            default="\n".join(wordings.shipped()),
            multiline=True,
            optional=True,
            tooltip="Write scenes, one a line, with the word person in braces where a wording goes. Every picture "
            "takes the next one. Conditionings that are connected stay as they are.",
        ),
        io.String.Input(
            "shares",
            default="",
            optional=True,
            tooltip="Say how often each preferred wording is to be drawn, as in '2, 1, 1'. Leave it empty for equally "
            "often.",
        ),
        io.Clip.Input("clip", optional=True, tooltip="Connect your checkpoint's CLIP, which encodes what you type."),
    ]


def _wording(name, example, tooltip, multiline=False):
    typed = io.String.Input(
        name, default="", multiline=multiline, placeholder=f"{name}: {example}" if example else name
    )
    return io.MultiType.Input(typed, [io.Conditioning], tooltip=tooltip)


def parse(neutral, preferred, rejected, others, contexts, said_shares):
    """`Wordings` of what is in the inputs.

    Raises:
        ValueError: a wording is empty; what `Wordings` raises.
    """
    preferred = lines(preferred) if isinstance(preferred, str) else (preferred,)
    singles = dict(neutral=neutral, rejected=rejected, others=others)
    singles = {name: said.strip() if isinstance(said, str) else said for name, said in singles.items()}
    for name, said in (singles | {"preferred": preferred}).items():
        if isinstance(said, (str, tuple)) and not said:
            raise ValueError(f"expected words for {name}, got none; type them, or connect a conditioning")
    contexts = lines(contexts) if isinstance(neutral, str) and lines(contexts) else (PLACE,)
    return Wordings(**singles, preferred=preferred, shares=shares(said_shares), contexts=contexts)


def encoded(clip, said, negative):
    """{text: conditioning} of everything that `Wordings` can say, and the negative prompt's conditioning.

    Raises:
        ValueError: something is typed and no CLIP is connected.
    """
    texts = said.texts() + [negative] * isinstance(negative, str)
    if texts and clip is None:
        raise ValueError(
            "expected the checkpoint's CLIP to encode what is typed, got none; connect it to clip, or connect "
            "conditionings to neutral, preferred, rejected, others and negative"
        )
    progress = host.Progress(len(texts), what="encoding the wordings")
    known = {}
    for text in texts:
        known[text] = host.encode(clip, text)
        progress(len(known), len(texts))
    return known, host.told(negative, known)
