"""Make a corrector inside the graph: the nodes, one after the other, on the real host."""

import logging
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rs_corrector.testbed import measure, readers
from rs_corrector.testbed.model import Testbed
from rs_corrector.wordings import Wordings

WORDS = "a portrait of a person in a green shirt"
SETTINGS = dict(width=64, height=64, steps=8, cfg=3.0, sampler_name="euler", scheduler="normal", seed=5)


@pytest.fixture(scope="session")
def wordings(host):
    return dict(preferred=host.encode(f"{WORDS}, bare-headed"), rejected=host.encode(f"{WORDS}, wearing a hat"))


@pytest.fixture
def record(host, bed, wordings):
    def record(node="RSCorrectorPairsFromWords", whole=False, **changes):
        inputs = dict(
            model=bed.model, neutral=host.encode(WORDS), negative=host.encode(""), group="green", name="recorded"
        )
        inputs |= dict(count=8, batch_size=8, **wordings, **SETTINGS)
        if node == "RSCorrectorPairsFromWords":
            inputs["others"] = host.encode("a portrait of a person")
        made = host.nodes[node].execute(**inputs | changes).args
        return made if whole else made[0]

    return record


def train(host, pairs, **changes):
    node = host.nodes["RSCorrectorTrain"]
    inputs = dict(pairs=pairs, steps=20, batch_size=16, width=16, learning_rate=2e-3, seed=0)
    return node.execute(**inputs | changes).args


def test_the_teacher_adds_its_own_difference_at_every_step(host, bed, sample, wordings):
    """At a fixed x and sigma the taught prediction is D + s (D(x, c+) - D(x, c-)), evaluated apart."""
    node = host.nodes["RSCorrectorPrompt"]
    taught = node.execute(bed.model, strength=2.0, start_percent=0.0, end_percent=1.0, **wordings).args[0]
    plain, moved = sample(bed.model, steps=1), sample(taught, steps=1)
    base = bed.model.model
    sigma = base.model_sampling.sigma_max.reshape(1)
    noise = torch.randn(1, 4, 8, 8, generator=torch.manual_seed(3))
    x = noise * (1 + sigma**2).sqrt()
    sides = [base.apply_model(x, sigma, c_crossattn=wordings[w][0][0]) for w in ("preferred", "rejected")]
    expected = base.process_latent_out(2.0 * (sides[0] - sides[1]))
    torch.testing.assert_close(moved - plain, expected, atol=2e-3, rtol=1e-3)


def test_the_teacher_evaluates_nothing_outside_its_window_and_is_off_at_zero(host, bed, sample, wordings):
    node = host.nodes["RSCorrectorPrompt"]
    late = node.execute(bed.model, strength=2.0, start_percent=0.6, end_percent=1.0, **wordings).args[0]
    off = node.execute(bed.model, strength=0.0, start_percent=0.0, end_percent=1.0, **wordings).args[0]
    assert torch.equal(sample(late, steps=20, until=10), sample(bed.model, steps=20, until=10))
    assert torch.equal(sample(off), sample(bed.model))
    assert not torch.equal(sample(late, steps=20), sample(bed.model, steps=20))


def test_words_become_pairs_a_corrector_a_file_and_a_corrected_picture(host, bed, record, sample, monkeypatch):
    pairs, sheet, report = record(name="whole_way", vae=bed.vae, whole=True)
    assert pairs.kind == "records" and pairs.groups == ("green",)
    assert 12 <= len(pairs) <= 20  # runs that are led, and those that need nothing
    assert sheet.shape == (1, 480, 8 * 160, 3) and "8 pictures" in report and "decision level" in report
    corrector, picture, report = train(host, pairs)
    assert picture.shape == (1, 320 + 3 * 144, 512, 3) and "kind delta" in report  # curves, and held-out pictures
    path = host.nodes["RSCorrectorSave"].execute(corrector, "tests/whole_way", marked_by="me, alone").args[0]
    assert path.endswith("rs_correctors/tests/whole_way.safetensors")
    loaded = host.nodes["RSCorrectorLoader"].execute("tests/whole_way.safetensors").args[0]
    assert loaded.model.config.training["marked_by"] == "me, alone"
    assert "marked_by" not in corrector.model.config.training  # what was saved is a copy
    model = host.apply(loaded)
    assert sample(model).isfinite().all() and not torch.equal(sample(model), sample(bed.model))
    asked = ", wearing a hat"
    assert torch.equal(sample(model, more=asked), sample(bed.model, more=asked))


def test_the_whole_picture_is_redrawn_where_the_user_says_so(record):
    rows = record(name="whole_picture", redraw="the whole picture", count=8).load("green")
    index = torch.arange(len(rows["choice"]))
    led = rows["area"][index].flatten(1).any(1)
    pictures = Testbed().decode(rows["goal"][index][led])
    assert led.sum() >= 6 and (rows["area"][index][led] == 1).all()
    assert measure.column(readers.read(pictures)[0], "hat").sum() == 0


@pytest.fixture
def checkpoint(host, bed):
    """A `HostCheckpoint` of wordings that are all the same but for what is given."""

    def checkpoint(encoded=None, **said):
        said = dict(neutral=WORDS, preferred=(f"{WORDS}, bare-headed",), rejected="", others="") | said
        script, nodes = Wordings(**said), sys.modules[host.nodes["RSCorrectorPairsFromWords"].__module__].host
        encoded = encoded or {text: host.encode(text) for text in script.texts()}
        return nodes.HostCheckpoint(bed.model, script, encoded, host.encode(""), (8, 8), 3, 6, "euler", "normal")

    return checkpoint


def test_every_picture_of_a_batch_is_guided_by_its_own_scale(checkpoint):
    made = checkpoint()
    both = made.sample("preferred", range(2), cfg=torch.tensor([1.0, 5.0]))
    for row, scale in enumerate((1.0, 5.0)):
        same = made.sample("preferred", range(2), cfg=torch.full((2,), scale))
        torch.testing.assert_close(both[row], same[row], atol=1e-3, rtol=1e-3)
    assert made.evaluations == 3 * 2 * 2 * 6


CONTEXTS = ("{person}", "{person}, grey hair", "{person}, blond hair")


@pytest.mark.parametrize("lengths", [(77, 77, 77), (77, 154, 77)], ids=["as one tensor", "in parts"])
def test_every_picture_of_a_batch_has_its_own_context(host, checkpoint, lengths):
    """Drawn and predicted together as alone, also where text encoders give texts as many tokens as they need."""
    made = checkpoint(contexts=CONTEXTS)
    for context, length in zip(CONTEXTS, lengths):
        (((tokens, more),),) = [made.encoded[context.format(person=WORDS)]]
        made.encoded[context.format(person=WORDS)] = [[tokens.repeat(1, length // 77, 1), more]]
    said = [[c.format(person=words) for words in (WORDS, f"{WORDS}, bare-headed")] for c in CONTEXTS]
    alone = [checkpoint(made.encoded, neutral=neutral, preferred=(preferred,)) for neutral, preferred in said]
    cfg = torch.full((3,), 3.0)
    drawn, parts = (each.sample("neutral", range(3), cfg=cfg) for each in (made, alone[1]))
    x = torch.randn(3, 4, 8, 8, generator=torch.manual_seed(0))
    sides = "neutral", "preferred"  # of which one only may have parts
    predicted = made.predict(x, 2.0, sides, range(3))
    for row, each in enumerate(alone):
        same = each.sample("neutral", range(3), cfg=cfg)[row]
        torch.testing.assert_close(drawn[row], same, atol=2e-3, rtol=1e-3)
        for together, same in zip(predicted, each.predict(x, 2.0, sides, range(3))):
            torch.testing.assert_close(together[row], same[row], atol=1e-3, rtol=1e-3)
    assert not torch.allclose(drawn[0], parts[0], atol=0.1)


def test_typed_wordings_draw_what_connected_ones_draw(host, bed, record):
    """And need a CLIP, which is said before anything is drawn."""
    words = dict(neutral=WORDS, preferred=f"{WORDS}, bare-headed", rejected=f"{WORDS}, wearing a hat")
    words |= dict(others="a portrait of a person", negative="")
    typed = record(name="typed", clip=bed.clip, **words)
    connected = record(name="connected")
    for name, rows in typed.load("green").items():
        index = torch.arange(len(rows))
        assert torch.equal(rows[index], connected.load("green")[name][index])
    assert typed.source["green"]["preferred"] == [words["preferred"]]
    with pytest.raises(ValueError, match="expected the checkpoint's CLIP to encode what is typed, got none"):
        record(name="untyped", **words)
    with pytest.raises(ValueError, match="expected words for rejected, got none"):
        record(name="silent", clip=bed.clip, **words | dict(rejected=" "))


def test_several_preferred_wordings_become_one_corrector_that_chooses(host, bed, record, sample):
    colours = ("black", "brown", "ginger", "blond")
    blue = "a portrait of a person in a blue shirt"
    words = dict(neutral=blue, rejected=f"{blue}, grey hair", others="a portrait of a person", negative="")
    preferred = "\n".join(f"{blue}, {colour} hair" for colour in colours)
    pairs = record(
        name="several", clip=bed.clip, count=16, group="blue", preferred=preferred, shares="1 1 1 0", **words
    )
    rows = pairs.load("blue")
    assert set(rows["choice"][torch.arange(len(rows["choice"]))].tolist()) == {-1, 0, 1, 2, 3}
    corrector = train(host, pairs)[0]
    config = corrector.model.config
    assert config.choices == (tuple(preferred.split("\n")),) and config.shares == ((1.0, 1.0, 1.0, 0.0),)
    again = record(
        name="several", clip=bed.clip, count=16, group="blue", preferred=preferred, shares="0 0 0 1", **words
    )
    assert train(host, again)[0].model.config.shares == ((0.0, 0.0, 0.0, 1.0),), "shares may change afterwards"
    assert again.shards == pairs.shards


@pytest.mark.parametrize("node", ["RSCorrectorPairsFromWords", "RSCorrectorPairsFromPrompts"])
def test_a_set_goes_on_with_its_own_seed_where_the_widget_has_moved_on(record, caplog, node):
    caplog.set_level("INFO")
    made = record(node, name=f"moved {node}")
    again = record(node, name=f"moved {node}", seed=SETTINGS["seed"] + 1)
    assert again.shards == made.shards and again.source["green"]["seed"] == SETTINGS["seed"]
    assert f"goes on with seed {SETTINGS['seed']}" in caplog.text


def test_latents_of_every_format_are_seen_without_a_vae(host, bed):
    """But of those that have sound packed into them."""
    import comfy.latent_formats as formats

    nodes, shown = sys.modules[host.nodes["RSCorrectorPairsFromWords"].__module__].host, 0
    for kind in vars(formats).values():
        if (
            isinstance(kind, type)
            and issubclass(kind, formats.LatentFormat)
            and kind.latent_dimensions != 1
            and "AV" not in kind.__name__
        ):
            model = bed.model.clone()
            model.add_object_patch("latent_format", kind())
            z = torch.randn(2, kind.latent_channels, 6, 4, generator=torch.manual_seed(0))
            picture, shown = nodes.seen(model, None, z), shown + 1
            assert len(picture) == 2 and picture.shape[3] == 3 and picture.shape[1] / picture.shape[2] == 1.5, kind
            assert 0 <= picture.min() < picture.max() <= 1 and picture.mean().sub(0.5).abs() < 0.2, kind
    assert shown > 5


def test_making_says_how_long_it_will_take_yet(host, record, shown, caplog):
    caplog.set_level(logging.INFO)
    pairs = record(name="how_long", count=16)
    first, last = shown
    assert re.fullmatch(r"8 of 16, about \d+ (s|min) left; the set will take \d+ MB", first)
    assert last.startswith("16 of 16, about 0 s left") and f"recording green, {first}" in caplog.text
    del shown[:]
    train(host, pairs, steps=100)
    assert shown[0] == "50 of 100" and shown[1].startswith("100 of 100, about 0 s left")
    del shown[:]
    record(name="how_long", count=24)
    assert len(shown) == 1 and shown[0].startswith("24 of 24, about 0 s left")


def test_too_little_room_on_the_disk_is_said_before_anything_is_drawn(record, monkeypatch):
    drawn, room = record(name="room"), 2.5 * 64 * 9 * 4 * 8 * 8 * 2
    request = len(drawn.shards) * drawn.request("green").nbytes  # as large whatever is drawn
    assert drawn.bytes("green") - request < 1.2 * room / 8, "as many bytes as are asked for"
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=room - 1))
    with pytest.raises(ValueError, match=r"expected 1 MB of room at .*no_room, got .*draw fewer or smaller images"):
        record(name="no_room", count=64)
    assert not drawn.shards[0].path.parent.with_name("no_room").exists()


def test_nothing_is_said_twice(nodes, shown):
    left = nodes.TimeLeft("this", "7", done=None)
    for done in (1, 2, 2, 2):
        left(done, 2)
    assert shown == ["1 of 2", "2 of 2, about 0 s left"]


def test_times_are_said_in_words(nodes):
    duration = nodes.telling.duration
    assert [duration(t) for t in (7.4, 99, 130, 5000, 9000)] == ["7 s", "99 s", "2 min", "83 min", "2.5 h"]


def test_recording_goes_on_where_it_stopped(record):
    first = record(name="goes_on", count=8)
    second = record(name="goes_on", count=16)
    again = record(name="goes_on", count=16)
    assert [len(p.shards) for p in (first, second, again)] == [2, 4, 4]
    assert second.shards[:2] == first.shards and again.shards == second.shards


def test_training_is_the_same_every_time(host, record):
    pairs = record(name="the_same")
    one, two = (train(host, pairs)[0].model for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))


def test_prompts_become_a_corrector_with_a_score(host, bed, record):
    pairs = record("RSCorrectorPairsFromPrompts", name="prompts", count=8)
    assert pairs.kind == "sides" and pairs.count("green") == 16
    corrector, _, report = train(host, pairs)
    assert "kind denoiser_pair" in report
    node = host.nodes["RSCorrectorScore"]
    scores, picture = node.execute(bed.model, {"samples": torch.randn(3, 4, 8, 8)}, corrector, "").args
    assert len(scores) == 3 and picture.shape == (1, 320, 512, 3)


def test_a_corrector_from_words_has_no_score_and_says_so(host, bed, corrector):
    with pytest.raises(ValueError, match="kind 'denoiser_pair' for a score, got kind 'delta'"):
        host.nodes["RSCorrectorScore"].execute(bed.model, {"samples": torch.zeros(1, 4, 8, 8)}, corrector, "")


def test_sorted_images_become_pairs(host, bed, caplog):
    from pathlib import Path

    import folder_paths
    from PIL import Image

    place = Path(folder_paths.get_input_directory()) / "sorted_set"
    for side in ("preferred", "rejected"):
        (place / side).mkdir(parents=True, exist_ok=True)
        for i in range(4):
            Image.new("RGB", (64, 64), (40 * i, 90, 120)).save(place / side / f"{i}.png")
    (place / "preferred" / "notes.png").write_text("no picture")
    node, images = host.nodes["RSCorrectorPairsFromSorted"], torch.rand(4, 64, 64, 3)
    inputs = dict(model=bed.model, vae=bed.vae, group="green", name="sorted", folder="sorted_set")
    pairs = node.execute(**inputs, preferred=images, rejected=images).args[0]
    assert pairs.count("green") == 16 and "notes.png is left out" in caplog.text
    with pytest.raises(ValueError, match="expected rejected images, got none"):
        node.execute(**inputs | dict(folder="", name="none"), preferred=images)
    with pytest.raises(ValueError, match="images of one size"):
        other = torch.rand(2, 128, 64, 3)
        node.execute(**inputs | dict(folder="", name="sizes"), preferred=images, rejected=other)


def test_sets_of_one_kind_merge_over_groups_and_others_refuse(record):
    pairs = record(name="merge_one")
    both = record(name="merge_two", group="crimson", merge_with=pairs)
    assert both.groups == ("green", "crimson")
    with pytest.raises(ValueError, match="expected sets of one kind"):
        record("RSCorrectorPairsFromPrompts", name="merge_other", merge_with=pairs, count=8)


def test_names_do_not_lead_out_of_their_folder(record, host, corrector):
    with pytest.raises(ValueError, match="expected a name for a place inside"):
        record(name="../elsewhere")
    with pytest.raises(ValueError, match="expected a name for a place inside"):
        host.nodes["RSCorrectorSave"].execute(corrector, "/tmp/elsewhere")


def test_training_can_be_interrupted_and_the_graph_stays_usable(host, record, bed, sample):
    import comfy.model_management as management

    pairs = record(name="interrupted")
    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        train(host, pairs)
    assert sample(bed.model).isfinite().all()
    assert train(host, pairs)[0].model.config.groups == ("green",)


def test_training_goes_on_after_an_interruption_and_is_there_at_once_afterwards(host, record):
    import comfy.model_management as management

    pairs = record(name="resumed")
    folder, settings = pairs.shards[0].path.parent, dict(steps=40)
    whole = train(host, pairs, **settings)[0].model
    (kept,) = folder.glob("training-*")
    kept.unlink()
    steps, node = [], host.nodes["RSCorrectorTrain"]
    recipe = sys.modules[node.execute.__func__.__module__].recipe
    original = recipe.train

    def interrupted(*args, watch, **kwargs):
        def late(step, history):
            steps.append(step)
            if step == 5:
                management.interrupt_current_processing()
            watch(step, history)

        return original(*args, watch=late, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "train", interrupted)
        with pytest.raises(management.InterruptProcessingException):
            train(host, pairs, **settings)
        assert list(folder.glob("training-*")) == [kept] and steps == list(range(6))
        resumed = train(host, pairs, **settings)[0].model
        assert steps[6:] == list(range(6, 40))
        again = train(host, pairs, **settings)[0].model
    assert len(steps) == 40, "after another workflow, whose results took its place, nothing is trained anew"
    for same in (resumed, again):
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), same.parameters()))


def test_trainings_of_other_settings_are_kept_up_to_a_few(host, record):
    pairs = record(name="kept")
    for steps in range(20, 26):
        train(host, pairs, steps=steps)
        kept = list(pairs.shards[0].path.parent.glob("training-*"))
        assert len(kept) == min(steps - 19, 4)


def test_an_unfinished_training_of_pairs_that_changed_since_is_not_in_the_way(host, bed):
    import comfy.model_management as management

    node = host.nodes["RSCorrectorPairsFromSorted"]
    inputs = dict(model=bed.model, vae=bed.vae, group="green", name="sorted_again")
    images = torch.rand(2, 12, 64, 64, 3)
    pairs = node.execute(**inputs, preferred=images[0], rejected=images[1]).args[0]
    left = pairs.shards[0].path.with_name("training-0123456789ab.safetensors")
    left.write_bytes(b"of another run")
    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        train(host, pairs)
    again = node.execute(**inputs, preferred=images[1], rejected=images[0]).args[0]
    assert train(host, again)[0].model.config.kind == "denoiser_pair"
    assert left.read_bytes() == b"of another run"


def test_training_learns_inside_a_prompt_and_its_result_can_be_cast_there_and_learn_again(host, record):
    """Tensors made or cast in inference mode cannot learn; what the node returns was made outside."""
    assert torch.is_inference_mode_enabled()
    corrector = train(host, record(name="inference"))[0].model
    assert not any(p.is_inference() for p in corrector.parameters())
    with torch.inference_mode(False), torch.enable_grad():
        again = corrector.double().requires_grad_()
        x = torch.randn(2, 4, 8, 8, dtype=torch.double)
        level = torch.ones(2, dtype=torch.double)
        again.raw(x, level, again.film(level, torch.zeros(2, dtype=torch.long))).square().sum().backward()
        assert again.network.stem.weight.grad.abs().max() > 0


def test_two_teachers_in_series_keep_their_own_words(host, bed, sample, wordings):
    node = host.nodes["RSCorrectorPrompt"]
    window = dict(start_percent=0.0, end_percent=1.0)
    there = node.execute(bed.model, strength=1.0, **wordings, **window).args[0]
    back = node.execute(
        there, strength=1.0, preferred=wordings["rejected"], rejected=wordings["preferred"], **window
    ).args[0]
    torch.testing.assert_close(sample(back), sample(bed.model), atol=1e-3, rtol=1e-3)
    assert not torch.allclose(sample(there), sample(bed.model), atol=1e-2)


def test_a_set_is_never_continued_with_other_words_settings_or_loras(host, bed, record, wordings, lora):
    record(name="begun")
    patched = host.call("LoraLoaderModelOnly", model=bed.model, lora_name=lora, strength_model=1.0)[0]
    changes = dict(preferred=wordings["rejected"]), dict(cfg=5.0), dict(width=128), dict(model=patched)
    for change in changes:
        with pytest.raises(ValueError, match="expected the wordings and settings with which 'green' was begun"):
            record(name="begun", **change)


def test_sorting_again_replaces_what_was_sorted_before(host, bed):
    node = host.nodes["RSCorrectorPairsFromSorted"]
    inputs = dict(model=bed.model, vae=bed.vae, group="green", name="again")
    for count in (8, 6):
        images = torch.rand(count, 64, 64, 3)
        pairs = node.execute(**inputs, preferred=images, rejected=images).args[0]
        assert pairs.count("green") == 2 * count


def test_sorting_does_not_replace_what_was_drawn(host, bed, record):
    record("RSCorrectorPairsFromPrompts", name="drawn")
    images = torch.rand(4, 64, 64, 3)
    with pytest.raises(ValueError, match="expected a set in which 'green' is of sorted images, got 'drawn'"):
        host.nodes["RSCorrectorPairsFromSorted"].execute(
            model=bed.model, vae=bed.vae, group="green", name="drawn", preferred=images, rejected=images
        )


def test_a_sampler_that_counts_its_own_steps_is_refused(record):
    with pytest.raises(ValueError, match="takes as many steps as it is told, got dpm_adaptive"):
        record(name="adaptive", sampler_name="dpm_adaptive")


def test_what_is_linked_is_no_reason_to_run_again(host):
    assert host.nodes["RSCorrectorPairsFromSorted"].fingerprint_inputs(folder=None) is None
    assert host.nodes["RSCorrectorLoader"].fingerprint_inputs(None) is None


@pytest.fixture(scope="module")
def nodes(host):
    """The pack's `nodes.host`, as ComfyUI has loaded it."""
    return sys.modules[host.nodes["RSCorrectorSave"].__module__].host


def test_links_below_a_folder_are_followed_and_no_name_leads_out_of_it(nodes, tmp_path):
    inputs = Path(nodes.folders.folder_paths.get_input_directory())
    inputs.mkdir(exist_ok=True)
    (inputs / "linked").symlink_to(tmp_path, target_is_directory=True)
    assert nodes.sorted_folder("linked/mine").parent.resolve() == tmp_path.resolve()
    for name in ("../out", "/etc", "a/../../b", "", ".", "linked/../.."):
        with pytest.raises(ValueError, match="expected a name for a place inside"):
            nodes.sorted_folder(name)


def test_a_corrector_is_saved_under_a_name_where_it_can_be_written(nodes, tmp_path, monkeypatch):
    for name in ("", " ", ".safetensors", "mine/"):
        with pytest.raises(ValueError, match="expected a name for the file"):
            nodes.corrector_file(name)
    paths = [str(tmp_path / "read_only"), str(tmp_path / "mine"), str(nodes.folders.weights.SHIPPED.parent)]
    (tmp_path / "read_only").mkdir()
    monkeypatch.setattr(nodes.folders.folder_paths, "get_folder_paths", lambda name: paths)
    monkeypatch.setattr(nodes.folders.os, "access", lambda place, mode: place != tmp_path / "read_only")
    assert nodes.corrector_file("sub/new") == tmp_path / "mine" / "sub" / "new.safetensors"


def test_a_set_is_named_by_all_of_its_conditionings(nodes):
    tokens = torch.ones(1, 77, 8)
    more = [{}, {"pooled_output": torch.ones(1, 4)}, {"pooled_output": torch.zeros(1, 4)}, {"start_percent": 0.5}]
    more += [{"guidance": 3.5}, {"guidance": 4.0}]
    names = {nodes.digest([[[tokens, extras]]], 20) for extras in more}
    assert len(names) == len(more)
    assert nodes.digest([[[tokens.clone(), {"pooled_output": torch.ones(1, 4)}]]], 20) in names
