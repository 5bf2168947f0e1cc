"""What the quality benchmark promises: seeds that are never mixed, as many trials for every rival as for ours."""

import json
import sys

import torch

from rs_corrector import counterparts
from rs_corrector.comfyui import PACK
from rs_corrector.testbed import distil, portraits

sys.path.insert(0, str(PACK / "benchmarks"))
import from_words  # noqa: E402
import ladder_bench  # noqa: E402
import quality  # noqa: E402
import rivals  # noqa: E402


def recorded_seeds(first, images):
    """What a recording may draw noise from: its batches' seeds and those of their redraws."""
    return range(first, counterparts.noise_seed(first, range(images, images)))


def test_seeds_for_tuning_reporting_and_learning_are_disjoint():
    first = {**quality.SEEDS, "sorted": from_words.SORTED_SEED}
    used = {name: {seed for _, seed in quality.chunks(4096, seed)} for name, seed in first.items()}
    used["rivals"] = {seed for _, seed in rivals.learning_batches()}
    used["records"] = set(recorded_seeds(1 << 20, distil.parse_args([]).images))
    assert sum(map(len, used.values())) == len(set().union(*used.values()))


def test_the_ladder_learns_from_other_seeds_than_it_reports():
    learnt = set(recorded_seeds(ladder_bench.RECORD_SEED, ladder_bench.LEARNT))
    assert learnt.isdisjoint(seed for first in quality.SEEDS.values() for _, seed in quality.chunks(4096, first))


def test_a_cell_has_as_many_images_as_it_says():
    assert [size for size, _ in quality.chunks(150, 0)] == [64, 64, 22]
    assert len({seed for _, seed in quality.chunks(150, 0)}) == 3


def test_every_case_names_a_planted_stereotype_that_the_shipped_corrector_knows():
    assert {case.attribute for case in rivals.CASES.values()} == set(portraits.STEREOTYPES)
    for case in rivals.CASES.values():
        assert case.preferred.endswith(case.preferred_words) and case.rejected.endswith(case.rejected_words)


def test_every_rival_was_tuned_with_as_many_trials_as_ours():
    settings = json.loads(quality.SETTINGS.read_text())
    assert settings.keys() <= rivals.CASES.keys()
    for name in settings:
        assert settings[name].keys() == set(rivals.METHODS)
        trials = {method: len(found["trials"]) for method, found in settings[name].items()}
        assert trials.pop("none") == 1 and len(set(trials.values())) == 1, trials
        for method, found in settings[name].items():
            grid, trials = rivals.method(method).GRID, found["trials"]
            assert all(setting.items() <= trial.items() for setting, trial in zip(grid, trials, strict=False)), method
            best = min(trials, key=lambda trial: trial["objective"])
            assert found["best"].items() <= best.items()


def test_conditionings_are_mixed_as_shares():
    one, other = ([[torch.full((1, 3, 2), value), {}]] for value in (0.0, 2.0))
    assert rivals.mixed(one, other, 0.25)[0][0].unique().tolist() == [0.5]
