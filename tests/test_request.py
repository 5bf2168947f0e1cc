"""A prompt that asks for the rejected depiction itself is told from all others by its embeddings."""

import zlib

import pytest
import torch
import torch.nn.functional as F

from rs_corrector import request
from rs_corrector.testbed import portraits
from rs_corrector.testbed.model import Testbed, tokenize
from rs_corrector.wordings import Wordings, placed

OTHER_WORDS = ["", ", blond hair", ", black hair, with glasses", ", without glasses, rose background"]


def vectors(count, seed):
    return torch.randn(count, 64, generator=torch.Generator().manual_seed(seed))


SHARED, ODD, OTHER, NEGATION = vectors(6, 0), vectors(1, 1), vectors(1, 2), vectors(1, 3)
KNOWN = [torch.cat([SHARED, vectors(4, seed)]) for seed in range(10, 40)]


def marked(*rejected, negations=()):
    return request.mark(
        KNOWN[:1], KNOWN, torch.cat([SHARED, *rejected]), [torch.cat([SHARED, each]) for each in negations]
    )


def asks(made, *tokens):
    return bool(request.things(torch.cat(tokens)[None], made).any())


def test_every_thing_that_only_the_rejected_wording_names_gives_a_request_away():
    made = marked(ODD, OTHER)
    assert made.shape == (request.ROWS, 64)
    assert asks(made, vectors(5, 4), ODD) and asks(made, OTHER, vectors(5, 4))
    assert not asks(made, SHARED, vectors(5, 4)) and not asks(made, KNOWN[3])
    pair = torch.stack([torch.cat([vectors(7, 5), one]) for one in (vectors(1, 6), ODD)])
    assert request.things(pair, made).any(1).tolist() == [False, True]
    told = (
        request.things(torch.cat([SHARED, ODD])[None], made)[0]
        ^ request.things(torch.cat([SHARED, OTHER])[None], made)[0]
    )
    assert told.sum() == 2  # each by its own


def test_a_thing_that_is_negated_is_not_asked_for():
    made = marked(ODD, negations=[NEGATION])
    between = vectors(request.REACH, 7)
    assert not asks(made, SHARED, NEGATION, ODD) and not asks(made, NEGATION, between[1:], ODD)
    assert asks(made, NEGATION, between, ODD), "too long before"
    assert asks(made, ODD, NEGATION), "after it"
    assert asks(made, NEGATION, ODD, between, ODD), "once without"


def test_what_is_asked_for_is_no_negation_itself():
    made = marked(ODD, OTHER, negations=[torch.cat([NEGATION, OTHER])])  # "is not wearing" beside "wearing a hat"
    assert asks(made, OTHER, ODD) and not asks(made, NEGATION, ODD)


def test_what_the_neutral_wording_says_is_never_asked_for():
    """However rarely other texts say it."""
    assert not asks(request.mark([ODD], KNOWN, torch.cat([SHARED, ODD, OTHER])), ODD)


def bag_of_words(text):
    """A vector a word, whatever is said before it."""
    return torch.cat([vectors(1, zlib.crc32(word.encode())) for word in text.replace(",", " ,").split()])


def test_a_preferred_wording_that_denies_a_thing_names_it_too():
    said = Wordings("a portrait", ("a portrait without glasses",), "a portrait with glasses", "a person")
    rows, called = request.marked(said, bag_of_words)
    assert called == ["glasses"]
    assert asks(rows, bag_of_words("a person, with glasses")) and not asks(rows, bag_of_words("a man without glasses"))


def test_padding_never_gives_a_request_away():
    padding = vectors(1, 9) + 0.1 * vectors(8, 8)
    made = marked(ODD, padding)
    assert asks(made, SHARED, ODD) and not asks(made, SHARED, padding)


def test_wordings_without_a_difference_mark_nothing():
    assert marked() is None


def test_prompts_of_another_encoder_are_noticed():
    made = marked(ODD)
    own = torch.stack([torch.cat([SHARED, vectors(4, seed)]) for seed in range(40, 60)])
    assert not request.foreign(own, made).any()
    assert request.foreign(own + 2.0, made).all()
    few = request.mark(KNOWN[:1], KNOWN[: request.FEWEST - 1], torch.cat([SHARED, ODD]))
    assert not request.foreign(own + 2.0, few).any(), "of few texts the spread is not known"


def test_words_that_no_known_text_has_are_of_the_same_encoder():
    """Even where each word has a direction of its own, and texts are long."""

    def said(*numbers):
        return F.one_hot(torch.tensor([*numbers, *[0] * (77 - len(numbers))]), 64).float()

    others = [torch.randperm(40, generator=torch.Generator().manual_seed(i))[: 2 + i % 9] + 3 for i in range(40)]
    known = [said(1, 2, *numbers) for numbers in others]
    rows = request.mark(known[:1], known, said(1, 2, 50, 51))
    asking = torch.stack([said(1, 2, 50, 51), said(1, 2, 51, 60)])
    assert not request.foreign(asking, rows).any() and request.things(asking, rows).any(1).all()
    assert request.foreign(asking.roll(32, -1), rows).all()


@pytest.fixture(scope="module")
def bed():
    return Testbed()


def encoder(bed):
    return lambda text: bed.encode_text([text])[0]


@pytest.fixture(scope="module")
def made(bed):
    """{stereotype: (rows, names)}."""
    found = {}
    for attribute in portraits.STEREOTYPES:
        _, neutral, _, rejected = portraits.wordings(attribute)
        preferred, contexts = portraits.preferred(attribute), portraits.contexts(attribute)
        said = Wordings(neutral, preferred, rejected, portraits.OTHERS, contexts=contexts)
        found[attribute] = request.marked(said, encoder(bed))
    return found


def test_things_are_called_by_the_words_that_name_them(made):
    names = {attribute: called for attribute, (_, called) in made.items()}
    assert names["hat"][0] == "hat" and names["distorted"][0] in ("faded", "blurred")
    assert names["hair"] == ["grey"] and names["background"] == ["rose"]


def test_the_testbeds_captions_are_told_apart(bed, made):
    for attribute, (rows, _) in made.items():
        absent, present = portraits.phrases(attribute)
        other = next(portraits.WORDS[name] for name in portraits.STEREOTYPES if name != attribute)
        for group in portraits.GROUPS:
            for more in (words for words in OTHER_WORDS if present not in words):
                said = {clause: f"{portraits.neutral(group)}{clause}{more}" for clause in ("", f", {absent}")}
                said |= {f", {words}": f"{portraits.neutral(group)}, {words}{more}" for words in other}
                for caption in said.values():
                    tokens = bed.encode_text([caption])
                    assert not request.things(tokens, rows).any(), caption
                    assert not request.foreign(tokens, rows).any(), caption
                for asking in (f", {present}{more}", f"{more}, {present}"):
                    asking = f"{portraits.neutral(group)}{asking}"
                    assert request.things(bed.encode_text([asking]), rows).any(), asking


def test_another_layer_of_the_encoder_is_noticed(bed, made):
    """As CLIP skip has it: the hidden states before the last layer, without the final norm."""
    text = bed.networks["text"]
    for attribute, (rows, _) in made.items():
        for context in portraits.contexts(attribute)[:8]:
            _, neutral, _, _ = portraits.wordings(attribute)
            states = text(tokenize([placed(neutral, context)]), output_hidden_states=True).hidden_states[-2]
            assert request.foreign(states, rows).all()
