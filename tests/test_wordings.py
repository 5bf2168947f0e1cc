"""What is said of every picture: wordings in contexts, a preferred one a picture."""

import pytest

from rs_corrector import wordings
from rs_corrector.wordings import Wordings


def said(**changes):
    usual = dict(neutral="a nurse", preferred=("a nurse in scrubs",), rejected="a nurse in a cap", others="a person")
    return Wordings(**usual | changes)


def test_the_wordings_of_a_picture_share_a_context_and_the_next_picture_has_the_next():
    script = said(contexts=("{person} in the rain", "a painting of {person}"))
    assert [script.said("neutral", i) for i in range(3)] == [
        "a nurse in the rain",
        "a painting of a nurse",
        "a nurse in the rain",
    ]
    assert script.said("rejected", 1) == "a painting of a nurse in a cap"
    assert script.said("others", 0) == "a person in the rain"


def test_every_text_that_is_said_is_known_beforehand():
    script = said(preferred=("a nurse in scrubs", "a nurse in a shirt"), contexts=("{person}, far away", "{person}"))
    names = ("neutral", "preferred", "rejected", "others")
    assert {script.said(name, number) for name in names for number in range(20)} <= set(script.texts())


@pytest.mark.parametrize("contexts", [1, 2, 24, 31])
def test_every_preferred_wording_is_recorded_equally_often_in_every_context(contexts):
    script = said(preferred=tuple("abc"), contexts=("{person}",) * contexts)
    for context in range(contexts):
        choices = [script.choice(number) for number in range(context, 64 * contexts, contexts)]
        assert all(18 <= choices.count(k) <= 25 for k in range(3))


def test_conditionings_are_said_as_they_are():
    neutral, *rest = ([[f"tensor {i}", {}]] for i in range(4))
    script = Wordings(neutral, (rest[0],), rest[1], rest[2], contexts=("{person} in the rain",))
    assert script.said("neutral", 5) is neutral and not script.texts()
    assert script.facts() == {"preferred": [""], "shares": []}


def test_the_shipped_contexts_show_people_in_many_ways():
    contexts = wordings.shipped()
    assert len(set(contexts)) == len(contexts) >= 24
    assert said(contexts=contexts).texts()


def test_lines_that_say_nothing_and_remarks_are_left_out():
    assert wordings.lines(" one, #1\n\n # nothing\ntwo ") == ("one, #1", "two")


def test_shares_are_numbers_a_preferred_wording_each():
    assert wordings.shares(" 2, 1 .5") == (2.0, 1.0, 0.5) and wordings.shares("") == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(contexts=("in the rain",)), "expected {person} in every context, got 'in the rain'"),
        (dict(contexts=()), "expected at least one context"),
        (dict(neutral=[["tensor", {}]]), "typed, or a conditioning connected to each of them, got some of either"),
        (dict(preferred=("a", "a")), "got 'a' twice"),
        (dict(rejected="a nurse in scrubs"), "got 'a nurse in scrubs' twice"),
        (dict(shares=(1.0, 2.0)), "a share for each of 1 preferred wordings, got 2"),
        (dict(preferred=("a", "b"), shares=(1.0, -2.0)), "expected shares of 0 and above"),
        (dict(preferred=("a", "b"), shares=(0.0, 0.0)), "expected shares of 0 and above"),
        (dict(preferred=("a", "b"), shares=(1.0, float("nan"))), "expected shares of 0 and above"),
    ],
)
def test_what_cannot_be_recorded_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        said(**changes)


def test_shares_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="expected numbers as shares, such as '1, 1, 2', got 'half'"):
        wordings.shares("half")
