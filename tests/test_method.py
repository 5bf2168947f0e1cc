"""From words to records, in a world whose every probability is known."""

from functools import cache

import pytest
import torch

from rs_corrector import bridge, counterparts, method
from rs_corrector.pairs import RECORDS, Pairs, PairsError, Writer, read
from rs_corrector.recording import recorded, report
from rs_corrector.testbed import portraits
from rs_corrector.testbed.checkpoint import Embedded
from rs_corrector.testbed.exact import PLANTED, World, captions, drawing
from rs_corrector.wordings import Wordings

COUNT, CFG = 16, 3.0
BATCH = range(COUNT)


@cache
def world(grid=8, rates="strong"):
    return World(grid, rates=rates)


def wordings(kind="hat", **changes):
    _, neutral, preferred, rejected = portraits.wordings(kind, PLANTED)
    said = dict(neutral=neutral, preferred=(preferred,), rejected=rejected, others=portraits.OTHERS)
    return Wordings(**said | changes)


def checkpoint(kind="hat", grid=8, rates="strong", **changes):
    return Embedded(world(grid, rates).denoise, captions.levels, wordings(kind, **changes), grid, seed=1 << 22)


def read_kind(pictures, kind, grid=8):
    column = world(grid).column[kind]
    return world(grid).read(pictures).attributes[:, column]


def record(bed):
    """(`Batch`, `Measured`, rows of the preferred wording)."""
    measured, spared = method.prefer(bed, [BATCH], CFG)
    return method.record(bed, BATCH, CFG, measured), measured, spared


@cache
def made(kind="hat", grid=8, rates="strong"):
    return record(checkpoint(kind, grid, rates))


@pytest.mark.parametrize(
    ("share", "level"),
    [
        ([0.0, 0.0, 0.5, 1.0, 1.0], 4.0),
        ([0.4, 0.4, 0.7, 1.0, 1.0], 4.0),
        ([0.0, 0.0, 0.0, 1.0, 1.0], 2**1.5),
        ([0.6, 0.6, 0.7, 0.8, 0.8], 4.0),
        ([0.95, 0.97, 1.0, 1.0, 1.0], 16.0),
        ([0.8, 0.7, 0.6, 0.7, 0.8], 16.0),
    ],
    ids=["halfway to 1", "from what words give", "between levels", "to what it reaches", "capped", "no way up"],
)
def test_the_decision_level_is_where_the_picture_is_halfway_to_deciding(share, level):
    found = counterparts.decision_level([16.0, 8.0, 4.0, 2.0, 1.0], share, [1.0] * 5)
    assert found == pytest.approx(level)


def test_levels_at_which_the_wordings_say_the_same_are_not_asked():
    assert counterparts.decision_level([16.0, 8.0, 4.0], [0.0, 0.5, 9.0], [1.0, 1.0, 0.01]) == pytest.approx(128**0.5)


def test_the_decision_level_grows_with_the_grid():
    small, large = (made(grid=grid)[1].level for grid in (8, 16))
    assert 2 < small < 5 and 4.5 < large < 9


class Recoloured:
    """A checkpoint whose preferred wordings, one a picture in turn, are so far from the rejected one in two pixels."""

    top = 10.0

    def __init__(self, *distances):
        self.wordings, self.distances = self, distances

    def choice(self, number):
        return number % len(self.distances)

    def predict(self, x, sigma, wordings, batch):
        rejected = torch.tensor([[[[0.0, 1.0, 0.0]]]]).expand(len(x), 1, 1, 3)
        far = torch.tensor([self.distances[self.choice(number)] for number in batch]).view(-1, 1, 1, 1)
        return [rejected + far * torch.tensor([1.0, 1.0, 0.0]), rejected]


def test_a_depiction_that_is_like_the_rejected_one_does_not_make_it_a_wash():
    """Blond hair is so like grey that much looks in place; that black hair is not says that hair is what differs."""

    def found(*distances):
        bed, z = Recoloured(*distances), torch.zeros(4, 1, 1, 3)
        return counterparts.in_place(bed, z, range(4), 1.0, torch.Generator())

    assert found(0.5) > counterparts.IN_PLACE > found(5.0)
    assert found(0.5, 5.0) == pytest.approx(found(5.0))


@pytest.mark.parametrize("kind", ["hat", "hair"])
def test_the_wordings_tell_who_shows_the_rejected_depiction(kind):
    """In pictures of anybody, most of whom show another value than either wording names."""
    bed, (_, measured, _) = checkpoint(kind), made(kind)
    pictures = bed.sample("others", range(48), cfg=torch.full((48,), CFG))
    generator = torch.Generator().manual_seed(0)
    against = counterparts.evidence(bed, pictures, range(48), measured.level, generator)
    told = against < counterparts.SHOWN * measured.evidence
    truth = read_kind(pictures, kind) == PLANTED[kind][1]
    assert 4 < truth.sum() < 44 and told[truth].all(), "all who show it"
    assert told[~truth].float().mean() < 0.12, "and few others: those are not learnt from, which harms nobody"


@pytest.mark.parametrize("kind", ["hat", "hair", "background", "distorted"])
def test_others_who_show_it_by_right_are_spared_and_the_group_is_not(kind):
    """At moderate rates, where among pictures of anybody more of those who show it are others than are of the group."""
    bed, (_, measured, _) = checkpoint(kind, rates="moderate"), made(kind, rates="moderate")
    pictures = bed.sample("others", range(64), cfg=torch.full((64,), CFG))
    spared = counterparts.spared(bed, pictures, range(64), measured, torch.Generator().manual_seed(0))
    shows = read_kind(pictures, kind) == PLANTED[kind][1]
    own = read_kind(pictures, "group") == world().groups.index(PLANTED[kind][0])
    assert (shows & own).sum() > 4 and not spared[shows & own].any()
    assert (shows & ~own).sum() > 8 and spared[shows & ~own].float().mean() > 0.7


def test_only_a_wash_over_everything_leaves_everything_in_its_place():
    shares = {kind: made(kind)[1].in_place for kind in ("hat", "hair", "background", "distorted")}
    assert shares.pop("distorted") > counterparts.IN_PLACE > max(shares.values())


def test_counterparts_are_the_same_pictures_without_what_was_rejected():
    batch, *_ = made("hat", 16)
    assert batch.shown.sum() > 12 and not batch.dropped.any()
    assert (read_kind(batch.goal[batch.shown], "hat", 16) == 0).all()
    before, after = (world(16).read(z).attributes for z in (batch.drawn, batch.goal))
    for name in ("skin", "background", "glasses"):
        column = world(16).column[name]
        assert ((before - after)[:, column].abs() <= world(16).content[name]).float().mean() > 0.9
    far = (counterparts.grown(batch.area, 1) == 0).expand_as(batch.drawn)
    torch.testing.assert_close(batch.goal[far], batch.drawn[far])


def test_a_wash_is_undone_and_everything_else_stays():
    batch, measured, _ = made("distorted", 16)
    assert batch.shown.sum() > 12 and not batch.dropped.any() and (batch.area[batch.shown] == 1).all()
    washed, clear = (world(16).read(z[batch.shown]).attributes for z in (batch.drawn, batch.goal))
    kept = (washed == clear).float().mean(0)
    assert (clear[:, world(16).column["distorted"]] == 0).all()
    assert min(kept[world(16).column[name]] for name in ("skin", "hair", "background", "glasses", "hat")) > 0.9
    spread = torch.tensor(measured.scale).log().mean().exp()
    assert spread == pytest.approx(1 / (1 - drawing.WASH), rel=0.15), "colours are so many times further apart"


def test_a_picture_goes_over_no_higher_than_it_has_to(monkeypatch):
    """Wordings that do not leave things in place find them at a higher level, or not at all."""
    bed, (batch, measured, _) = checkpoint("hat"), made("distorted")
    asked = []
    monkeypatch.setattr(bridge, "bridge", lambda checkpoint, z, batch, sigma, measured: asked.append(sigma) or z)
    wanted = torch.ones(COUNT, dtype=torch.bool)
    goal, found = bridge.bridged(bed, batch.drawn, BATCH, measured, wanted, lambda z: torch.arange(COUNT) < len(asked))
    assert asked == pytest.approx([m * measured.level for m in bridge.TURNS]) and found.sum() == len(bridge.TURNS)
    assert torch.equal(goal, batch.drawn)


def test_part_of_a_run_takes_the_usual_levels_and_of_a_run_of_few_steps_others():
    bed = checkpoint()
    assert torch.equal(counterparts.part(bed, 3.0), bed.levels[bed.levels <= 3.0])
    bed.levels = bed.levels[[0, 10, 20]]
    others = counterparts.part(bed, 3.0)
    assert len(others) == 1 + counterparts.FEWEST_STEPS and (others.diff() < 0).all()
    assert [float(others[i]) for i in (0, -2, -1)] == pytest.approx([3.0, bed.bottom, 0.0])


@pytest.mark.parametrize(
    ("levels", "kept"),
    [
        ([9.0, 4.0, 2.0, 1.0, 0.5], [4.0, 2.0, 1.0, 0.5]),
        ([9.0, 4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 0.5], [4.0, 2.0, 1.0, 0.5]),
        ([9.0, 5.0, 1.0, 0.5], [9.0, 5.0, 1.0, 0.5]),
    ],
    ids=["a level a step", "two evaluations a step", "too few within"],
)
def test_of_a_run_the_steps_are_kept_at_which_a_correction_acts(levels, kept):
    recorder, z = method.Recorder(), torch.zeros(1, 4, 8, 8)
    for level in levels:
        recorder(z, torch.tensor([level]), z)
    rows = recorder.rows(torch.tensor([True]), torch.tensor([4.0, 2.0, 1.0, 0.5, 0.0]))
    assert rows["level"].flatten().tolist() == kept


def test_a_picture_that_shows_nothing_rejected_is_its_own_counterpart():
    batch, *_ = made("hair", 8, "moderate")
    assert torch.equal(batch.shown, read_kind(batch.drawn, "hair") == PLANTED["hair"][1])
    spared = ~batch.shown
    assert 0 < spared.sum() < COUNT
    assert torch.equal(batch.goal[spared], batch.drawn[spared]) and not batch.area[spared].any()


def test_records_are_runs_of_predictions_and_others_with_the_depiction_are_left_out():
    batch, measured, spared = made()
    bed, rows = checkpoint(), batch.rows
    steps = len(counterparts.part(bed, method.RECORDED * measured.level)) - 1
    for kept in (rows, spared):
        assert {name: tuple(t.shape[1:]) for name, t in kept.items()} == {
            "denoised": (steps, 4, 8, 8), "level": (steps,), "goal": (4, 8, 8), "area": (1, 8, 8), "choice": (),
        }  # fmt: skip
        assert (kept["level"][:, 0] <= method.RECORDED * measured.level).all()
    led = rows["area"].flatten(1).any(1)
    assert led.sum() == (batch.shown & ~batch.dropped).sum() > 12
    assert not spared["area"].any() and len(spared["goal"]) > 12
    others = rows["goal"][~led]
    assert COUNT // 2 < len(others) < COUNT + (~batch.shown).sum()
    green = read_kind(others, "group") == world().groups.index("green")
    assert all((read_kind(goal, "hat") == 0).all() for goal in (others[green], spared["goal"]))


def test_records_know_which_preferred_wording_they_show_and_anybody_shows_none():
    preferred = wordings("hair").preferred[0]
    preferred = (preferred, preferred.replace("black", "blond"))
    batch, _, spared = record(checkpoint("hair", preferred=preferred))
    rows = {name: torch.cat([each, spared[name]]) for name, each in batch.rows.items()}
    led, values = rows["area"].flatten(1).any(1), read_kind(rows["goal"], "hair")
    for choice, value in enumerate(portraits.WORDS["hair"].index(f"{colour} hair") for colour in ("black", "blond")):
        mine = rows["choice"] == choice
        assert (values[mine] == value).float().mean() > 0.9
        assert (mine & led).sum() > 4 and (mine & ~led).sum() > 4, "pictures that are led there, and drawn so"
    assert (rows["choice"] == method.ANY).sum() > COUNT // 2 and not led[rows["choice"] == method.ANY].any()


def test_a_run_is_led_by_a_share_of_the_way():
    goal, area = torch.ones(3, 4, 8, 8), torch.ones(3, 1, 8, 8)
    recorder = method.Recorder(goal, area, (0.0, None), torch.Generator().manual_seed(0))
    nothing = torch.zeros(3, 4, 8, 8)
    out = recorder(nothing, torch.full((3,), 2.0), nothing)
    assert torch.equal(out, recorder.share.view(-1, 1, 1, 1).expand_as(out)) and (recorder.share == 1).any()
    rows = recorder.rows(torch.tensor([True, False, True]), torch.tensor([2.0, 0.0]))
    assert torch.equal(rows["denoised"], nothing[:2, None])


def test_equal_wordings_are_refused_before_anything_is_redrawn():
    bed = checkpoint(preferred=("a portrait of a person",), rejected="a person on a portrait")
    with pytest.raises(ValueError, match="predictions that do not differ; word the preferred and the rejected"):
        record(bed)


def test_a_preferred_wording_that_the_checkpoint_does_not_draw_is_refused():
    bed = checkpoint(preferred=(wordings().rejected,), rejected=wordings().preferred[0])
    bed.sample = lambda wording, batch, **how: Embedded.sample(bed, "rejected", batch, **how)
    with pytest.raises(ValueError, match="expected the checkpoint to draw the preferred depiction"):
        record(bed)


def a_set(folder):
    return Writer(folder, Pairs(RECORDS, "SD15", {"name": "exact"}))


HOW = dict(count=12, batch_size=8, cfg=CFG, begun="these words")


@pytest.mark.parametrize("kind", ["hat", "distorted"])
def test_a_recording_that_is_cut_off_goes_on_to_the_same_records(kind, tmp_path):
    list(recorded(checkpoint(kind), a_set(tmp_path / "whole"), "green", **HOW))
    next(recorded(checkpoint(kind), a_set(tmp_path / "cut"), "green", **HOW))
    list(recorded(checkpoint(kind), a_set(tmp_path / "cut"), "green", **HOW))
    whole, cut = (read(tmp_path / name) for name in ("whole", "cut"))
    assert whole.source == cut.source and whole.source["green"]["images"] == 12
    for name, rows in whole.load("green").items():
        index = torch.arange(len(rows))
        assert torch.equal(rows[index], cut.load("green")[name][index])
    assert "12 pictures" in report(whole.source["green"]) and "decision level" in report(whole.source["green"])
    with pytest.raises(PairsError, match="expected the wordings and settings"):
        list(recorded(checkpoint(kind), a_set(tmp_path / "cut"), "green", **HOW | dict(begun="other words")))


def test_fewer_pictures_at_once_are_drawn_where_more_do_not_fit_into_memory(tmp_path, caplog):
    bed, shards = checkpoint(), []

    def sample(wording, batch, **how):
        if len(batch) > 4:
            raise torch.cuda.OutOfMemoryError("of eight pictures")
        return Embedded.sample(bed, wording, batch, **how)

    bed.sample = sample
    for batch in recorded(bed, a_set(tmp_path), "green", **HOW):
        shards.append(len(batch.drawn))
    assert shards == [4, 4, 4] and "going on with 4" in caplog.text
    bed.sample = lambda *_, **__: sample(None, range(8))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        list(recorded(bed, a_set(tmp_path), "green", **HOW | dict(count=16)))


def test_a_set_with_more_dropped_than_kept_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(counterparts, "redrawn", lambda checkpoint, z, *rest: z)
    with pytest.raises(PairsError, match=r"redraws that show the preferred depiction, got (\d+) of \1 that do not"):
        for batch in recorded(checkpoint(), a_set(tmp_path), "green", **HOW):
            assert batch.dropped.sum() * 2 > batch.shown.sum(), "the pictures are there to be looked at"
    assert read(tmp_path).source["green"]["images"] == HOW["batch_size"], "and are not kept"


def test_a_group_without_a_name_is_refused_before_anything_is_drawn(tmp_path):
    bed = checkpoint()
    with pytest.raises(PairsError, match="expected a named group"):
        list(recorded(bed, a_set(tmp_path), "", **HOW))
    assert bed.evaluations == 0


def test_a_group_that_never_shows_the_rejected_depiction_is_refused(tmp_path):
    bed = checkpoint(neutral=wordings().preferred[0])
    with pytest.raises(PairsError, match="got none in 16; there is nothing to correct"):
        list(recorded(bed, a_set(tmp_path), "green", **HOW | dict(count=16)))


def test_a_majority_that_everybody_stands_for_is_no_contradiction(tmp_path):
    """Pictures of anybody that show the rejected depiction are left out, even if they are the very same."""
    bed = checkpoint(others=wordings().neutral)
    list(recorded(bed, a_set(tmp_path), "green", **HOW))
    rows = read(tmp_path).load("green")
    index = torch.arange(len(rows["choice"]))
    spared = rows["goal"][index][~rows["area"][index].flatten(1).any(1)]
    assert (read_kind(spared, "hat") == 0).all()
