"""A prompt that asks for the rejected depiction itself is told from all others by its embeddings."""

import torch

from rs_corrector import request
from rs_corrector.testbed import portraits
from rs_corrector.testbed.model import Testbed

OTHER_WORDS = ["", ", blond hair", ", black hair, with glasses", ", without glasses, rose background"]


def vectors(count, seed):
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))


def test_a_token_that_only_the_rejected_wording_has_gives_a_request_away():
    shared, kind, odd = vectors(6, 0), vectors(1, 1), vectors(1, 2)
    made = request.mark(shared, torch.cat([shared, kind]), torch.cat([shared, odd]))
    assert request.asks(torch.cat([vectors(5, 3), odd]), made)
    assert not request.asks(torch.cat([shared, kind]), made)
    pair = torch.stack([vectors(8, 3), torch.cat([vectors(7, 4), odd])])
    assert request.asks(pair, made).tolist() == [False, True]


def test_padding_never_gives_a_request_away():
    shared, odd, padding = vectors(6, 0), vectors(1, 2), vectors(1, 9)
    made = request.mark(shared, shared, torch.cat([shared, odd, padding + 0.1 * vectors(8, 3)]))
    assert request.asks(torch.cat([shared, odd]), made) and not request.asks(torch.cat([shared, padding]), made)


def test_wordings_without_a_difference_mark_nothing():
    shared = vectors(6, 0)
    assert request.mark(shared, shared, shared) is None


def test_the_testbeds_captions_are_told_apart():
    bed = Testbed()
    for attribute in portraits.STEREOTYPES:
        absent, present = portraits.phrases(attribute)
        _, *wordings = portraits.wordings(attribute)
        made = request.mark(*(bed.encode_text([words])[0] for words in wordings))
        other = next(portraits.WORDS[name] for name in portraits.STEREOTYPES if name != attribute)
        for group in portraits.GROUPS:
            for more in (words for words in OTHER_WORDS if present not in words):
                said = {clause: f"{portraits.neutral(group)}{clause}{more}" for clause in ("", f", {absent}")}
                said |= {f", {words}": f"{portraits.neutral(group)}, {words}{more}" for words in other}
                for caption in said.values():
                    assert not request.asks(bed.encode_text([caption]), made), caption
                asking = f"{portraits.neutral(group)}, {present}{more}"
                assert request.asks(bed.encode_text([asking]), made), asking
