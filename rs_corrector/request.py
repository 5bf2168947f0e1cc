"""Does a prompt ask for the rejected depiction itself? Then it is to be obeyed.

A rejected wording names things by tokens that are unlike every token of texts that ask for nothing of the kind: the
other wordings in their contexts, and prompts about something else. A prompt asks for such a thing where one of its own
tokens is clearly more like that token than those are, unless a negation stands shortly before. Padding says nothing: it
is what a text ends in as long as tokens are like one another.
Embeddings are compared by their cosine around a centre. Nothing is evaluated for it: the sampler has the prompt's
embeddings at hand.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

from .wordings import lines

#: Prompts about something else that come with the pack, one a line.
UNRELATED = Path(__file__).with_name("unrelated.txt")
#: Words after which a thing is not asked for: looked for in a prompt among so many tokens before it.
NEGATIONS = (
    *("without", "no", "not", "never", "none of", "instead of", "anything but", "free of", "rather than"),
    *("does not", "is not", "lacks", "avoids"),
)
REACH = 6
#: Rows of a request: the centre, the spread of prompts around it, things that are named, negations. Unused ones are 0.
THINGS, DENIALS = 12, 2 * len(NEGATIONS)
ROWS = 2 + THINGS + DENIALS
#: A token is its own where its likeness to all others is below `OWN`; one thing at least is found, if below `SAME`.
#: What is as like to it as this share of the rest of the way to 1 is taken for it. Others are as like to it as all but
#: one in a thousand of them, spared ones as all of them.
OWN, SAME, THING_BEGINS, DENIAL_BEGINS, OTHERS = 0.75, 0.95, 0.25, 0.3, 0.999
#: Tokens at the end of a text that are as like as this to the next one are its padding.
PADDING = 0.9
#: With fewer texts than this it is not known how far prompts are from the centre.
FEWEST = 16
#: Prompts farther from the centre than this, in squared spreads, are of another encoder or of another layer of it. A
#: direction's spread counts as this share of what is usual at least: a word that no text had may go where none went.
FOREIGN, SPREAD = 7.0, 0.2


def unrelated():
    """The prompts about something else that come with the pack."""
    return lines(UNRELATED.read_text())


def marked(said, encode):
    """What gives a rejected wording away that is known as text, (ROWS, E), and what its things are called.

    A preferred wording that denies a thing names it, too, and is left aside.

    Args:
        said: `wordings.Wordings` in texts.
        encode: function text -> (T, E) token embeddings.

    Returns:
        For `things`, and a list of words; None and no word where the rejected wording names nothing of its own.
    """
    naming = [text for text in said.preferred if any(f" {negation} " in f" {text} " for negation in NEGATIONS)]
    aside = said.rejected, *naming
    known = {text: encode(text) for text in (*said.texts(but=aside), *unrelated())}
    spared = [known[each] for each in said.bare() if each not in aside]
    negations = [encode(f"{said.neutral} {negation}") for negation in NEGATIONS]
    request = mark(spared, list(known.values()), encode(said.rejected), negations)
    if request is None:
        return None, []
    return request, named(request, {word: encode(word) for word in dict.fromkeys(said.rejected.split())})


def mark(spared, known, rejected, negations=()):
    """What gives a rejected wording away: (ROWS, E) for `things`; None where it has no token of its own.

    Args:
        spared: wordings that do not ask for it with any token, a (T, E) of token embeddings each; T may differ.
        known: texts that do not ask for it but for a token in a thousand, (T, E) each.
        rejected: (T, E) of the rejected wording.
        negations: texts that end in one of `NEGATIONS`, (T, E) each; without them nothing counts as negated.
    """
    means = torch.stack([tokens.float().mean(0) for tokens in known])
    centre = means.mean(0)
    around = [torch.cat([_directions(tokens, centre) for tokens in texts]) for texts in (spared, known)]
    rejected = _directions(rejected, centre)
    things = _own(rejected, around, THING_BEGINS, least=1)[:THINGS]
    if not len(things):
        return None
    said = [_directions(tokens, centre) for tokens in negations]
    said = [tokens[(tokens @ rejected.T).amax(1) < OWN] for tokens in said]  # what is asked for is no negation
    denials = [_own(tokens, around, DENIAL_BEGINS)[:2] for tokens in said]
    rows = torch.zeros(ROWS, len(centre), device=centre.device)
    rows[0] = centre
    if len(known) >= FEWEST:
        rows[1] = means.std(0)
    rows[2 : 2 + len(things)] = things
    if denials:
        rows[2 + THINGS :][: sum(map(len, denials))] = torch.cat(denials)
    return rows


def named(request, words):
    """What the things of a request are called: for each of them the word whose own tokens are most like it.

    Args:
        request: (ROWS, E) as `mark` returns it.
        words: {word: (T, E)} of the rejected wording, each encoded by itself.
    """
    things = request[2 : 2 + THINGS][request[2 : 2 + THINGS].any(1)]
    likeness = {w: (F.normalize(t.float() - request[0], dim=1) @ things.T).amax(0) for w, t in words.items()}
    return [max(likeness, key=lambda word: float(likeness[word][i])) for i in range(len(things))]


def foreign(tokens, request):
    """Whether prompts, (R, T, E), are of another text encoder or of another layer of it: (R,) flags."""
    centre, spread = request[:2].to(tokens.device, torch.float32)
    if not spread.any():
        return torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    spread = spread.clamp_min(SPREAD * spread.square().mean().sqrt())
    return ((tokens.float().mean(1) - centre) / spread).square().mean(1) > FOREIGN


def things(tokens, request):
    """Which things prompts, (R, T, E) token embeddings, ask for by a request of (ROWS, E): (R, THINGS) flags."""
    centre, _, *rows = request.to(tokens.device, torch.float32)
    found = F.normalize(tokens.float() - centre, dim=-1) @ torch.stack(rows).T > 1
    denied = found[..., THINGS:].any(-1).float()
    shortly_before = F.max_pool1d(F.pad(denied, (REACH, 0)), REACH + 1, 1) > 0
    return (found[..., :THINGS] & ~shortly_before[..., None]).any(1)


def _directions(tokens, centre):
    """(T, E) -> (t, E), of unit length around the centre, without padding."""
    return F.normalize(tokens.float()[~_padding(tokens)] - centre, dim=1)


def _own(tokens, around, begins, least=0):
    """Tokens that are unlike all others, the least like first, each scaled by the likeness from which on it counts.

    Args:
        tokens: (T, E) unit directions of a text's tokens.
        around: (N, E) and (M, E) of spared and of known texts' tokens.
        least: so many of them where they are not `SAME`, however like others they are.
    """
    spared, known = ((each @ tokens.T).sort(0).values for each in around)
    likeness = torch.maximum(spared[-1], known[int(OTHERS * (len(known) - 1))]).clamp_min(0)
    count = max(int((likeness < OWN).sum()), min(least, int((likeness < SAME).sum())))
    order = likeness.argsort()[:count]
    return tokens[order] / torch.lerp(likeness[order], torch.ones_like(likeness[order]), begins)[:, None]


def _padding(tokens):
    """(T,) flags: of a text's last token, and of those before it as long as each is like the next one."""
    like_next = (F.cosine_similarity(tokens[:-1].float(), tokens[1:].float(), dim=1) > PADDING).float()
    run = F.pad(like_next, (0, 1), value=1.0).flip(0).cumprod(0).flip(0) > 0
    return run if run.sum() > 1 else torch.zeros_like(run)
