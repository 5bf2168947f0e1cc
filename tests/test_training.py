"""The training loop: it learns, repeats itself, and resumes exactly."""

import pytest
import torch

from rs_corrector.training import fit, learning_rate


def problem():
    torch.manual_seed(0)
    module = torch.nn.Linear(4, 1)

    def loss(generator):
        x = torch.randn(32, 4, generator=generator)
        return (module(x) - x.sum(1, keepdim=True)).square().mean()

    return module, loss


SETTINGS = dict(lr=0.05, seed=1, warmup=5, decay=0.9)


def test_it_learns():
    module, loss = problem()
    losses = fit(module, loss, steps=200, **SETTINGS).losses
    assert losses[-1] < 1e-3 * losses[0]


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_at", [1, 7, 12, 19])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, killed_at):
    whole, loss = problem()
    fit(whole, loss, steps=20, **SETTINGS)
    module, loss = problem()
    left = iter(range(killed_at))

    def mortal(generator):
        if next(left, None) is None:
            raise Killed
        return loss(generator)

    checkpoint = tmp_path / "c.safetensors"
    with pytest.raises(Killed):
        fit(module, mortal, steps=20, checkpoint=checkpoint, every=5, **SETTINGS)
    module, loss = problem()
    fit(module, loss, steps=20, checkpoint=checkpoint, every=5, **SETTINGS)
    assert torch.equal(module.weight, whole.weight) and torch.equal(module.bias, whole.bias)


def test_the_learning_rate_warms_up_and_comes_to_rest():
    rates = [learning_rate(step, 100, 1.0, 10) for step in range(101)]
    assert max(rates) == pytest.approx(rates[9], rel=0.03) and rates[0] < 0.2 and rates[-1] == pytest.approx(0)


def test_it_stops_early_once_validation_no_longer_improves():
    module, loss = problem()
    values = iter([3.0, 2.0, 2.5, 2.3, 1.0])
    history = fit(module, loss, steps=100, every=5, validate=lambda: next(values), patience=2, **SETTINGS)
    assert history.validation == [(5, 3.0), (10, 2.0), (15, 2.5), (20, 2.3)] and len(history.losses) == 20


def test_the_best_validated_average_is_kept():
    module, loss = problem()
    seen, values = [], iter([3.0, 1.0, 2.0, 2.5])

    def validate():
        seen.append(module.weight.detach().clone())
        return next(values)

    fit(module, loss, steps=20, every=5, validate=validate, **SETTINGS)
    assert torch.equal(module.weight, seen[1]) and not torch.equal(seen[1], seen[3])


def test_validation_leaves_training_alone_and_every_step_can_be_watched():
    module, loss = problem()
    fit(module, loss, steps=20, **SETTINGS)
    watched, loss = problem()
    seen = []
    falling = iter([3.0, 2.0, 1.0, 0.0])
    fit(
        watched,
        loss,
        steps=20,
        every=5,
        validate=lambda: next(falling),
        watch=lambda step, _: seen.append(step),
        **SETTINGS,
    )
    assert torch.equal(module.weight, watched.weight) and seen == list(range(20))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    module, loss = problem()
    fit(module, loss, steps=5, checkpoint=tmp_path / "c.safetensors", **SETTINGS)
    with pytest.raises(ValueError, match="expected a run of the same settings"):
        fit(module, loss, steps=5, checkpoint=tmp_path / "c.safetensors", **SETTINGS | dict(seed=2))
    with pytest.raises(ValueError, match="expected a run of the same settings"):
        fit(module, loss, steps=5, checkpoint=tmp_path / "c.safetensors", identity="other data", **SETTINGS)
