"""Every method of the quality benchmark runs on the real host, and the benchmark reads what it did."""

import pytest
import quality
import torch
from rivals import CASES, METHODS, heads, method, sides

CASE = CASES["attribute"]
QUICK = {"gradient_noise_aware": {"steps": 30}, "gradient_clean": {"steps": 30}}
ADDED = {"sega": 2, "prompt_teacher": 2}


@pytest.fixture(scope="module")
def bench(host):
    return quality.Bench(host, CASE, 8, seed=5)


@pytest.fixture(scope="module", autouse=True)
def little_data():
    """Directions and heads from 64 images a side."""
    from rivals import latent_direction

    kept = [(m, name, getattr(m, name)) for m, name in ((heads, "sides"), (latent_direction, "direction"))]
    for module, name, function in kept:
        setattr(module, name, lambda *a, function=function: function(*a, count=64))
    yield
    for module, name, function in kept:
        setattr(module, name, function)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_draws_and_is_measured(name, host, bench):
    best = method(name).GRID[-1] | QUICK.get(name, {})
    setting = {k: v for k, v in best.items() if k != "strength"}
    weights = {k: v.clone() for k, v in host.model.model.state_dict().items()}
    draw = method(name).prepare(host, CASE, **setting)
    found = bench.measure(draw, method(name).STRENGTHS[-1])
    assert set(quality.COLUMNS) - found.keys() == {"added_cost"}
    changed = not torch.equal(bench.images(draw, CASE.neutral, 1.0, 8), bench.before["green"])
    assert changed == (name != "none")
    cost = bench.added_cost(draw, 1.0, repeats=1)
    assert cost["evaluations"] == ADDED.get(name, 0)
    for key, value in host.model.model.state_dict().items():
        assert torch.equal(value, weights[key]), key


def test_the_rivals_learn_from_what_the_words_draw(host):
    preferred, rejected = sides(host, CASE, count=64)
    assert preferred.shape == rejected.shape == (64, 4, 8, 8) and not torch.equal(preferred, rejected)
