"""Sets of preference pairs: whole on disk, mapped into memory, merged only where they match."""

import gc
import json
from pathlib import Path

import pytest
import torch

from rs_corrector import weights
from rs_corrector.cli import main
from rs_corrector.pairs import RECORDS, SIDES, Pairs, PairsError, Writer, read
from rs_corrector.recipe import train

BASE = {"name": "a model", "fingerprint": "0" * 16, "sigma_min": 0.03, "sigma_max": 14.6}
SHAPE = (4, 8, 8)


def sides(count, shape=SHAPE, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {"latents": torch.randn(count, *shape, generator=g), "side": torch.arange(count) % 2}


def runs(count, shape=SHAPE, seed=0, steps=6):
    g = torch.Generator().manual_seed(seed)
    goal, denoised = torch.randn(count, *shape, generator=g), torch.randn(count, steps, *shape, generator=g)
    level, choice = torch.linspace(5, 0.1, steps).expand(count, steps), torch.zeros(count, dtype=torch.int64)
    return {"goal": goal, "denoised": denoised, "level": level, "area": torch.ones(count, 1, 8, 8), "choice": choice}


def writer(folder, kind=SIDES, **changes):
    return Writer(folder, Pairs(**dict(kind=kind, latent_format="SD15", base=BASE) | changes))


def test_rows_come_back_as_they_went(tmp_path):
    w = writer(tmp_path)
    shards = [sides(10, seed=i) for i in range(3)]
    for shard in shards:
        w.append("ana", **shard)
    w.append("bo", **sides(4))
    pairs = read(tmp_path)
    assert pairs == w.pairs and pairs.groups == ("ana", "bo") and len(pairs) == 34 and pairs.count("ana") == 30
    pick = torch.tensor([29, 0, 9, 10, 15])
    expected = torch.cat([s["latents"] for s in shards])[pick].half().float()
    assert torch.equal(pairs.load("ana")["latents"][pick], expected)
    assert pairs.load("ana")["side"][pick].tolist() == [1, 0, 1, 0, 1]


def test_a_cut_off_run_keeps_its_shards_and_goes_on(tmp_path, monkeypatch):
    from rs_corrector import pairs as module

    w = writer(tmp_path)
    w.append("ana", **sides(8))
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            w.append("ana", **sides(8))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ana-00000.safetensors", "manifest.json"]
    again = writer(tmp_path)
    again.append("ana", **sides(8, seed=1))
    assert len(read(tmp_path)) == 16 and len({s.path for s in again.pairs.shards}) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(kind=RECORDS), "one kind, got"),
        (dict(latent_format="SDXL"), "one latent format, got SD15 and SDXL"),
        (dict(base={"name": "another"}), "one base, got"),
    ],
)
def test_sets_that_differ_are_not_merged(tmp_path, change, said):
    one, other = writer(tmp_path / "one"), writer(tmp_path / "other", **change)
    one.append("ana", **sides(8))
    with pytest.raises(PairsError, match=said):
        one.pairs.merge(other.pairs)


def test_sets_of_other_sizes_are_not_merged(tmp_path):
    one, other = writer(tmp_path / "one"), writer(tmp_path / "other")
    one.append("ana", **sides(8))
    other.append("bo", **sides(8, shape=(4, 8, 16)))
    with pytest.raises(PairsError, match="latents of one shape"):
        one.pairs.merge(other.pairs)


def test_sets_of_one_kind_merge_over_groups(tmp_path):
    one, other = writer(tmp_path / "one"), writer(tmp_path / "other")
    one.append("ana", **sides(8))
    other.append("bo", **sides(8))
    assert one.pairs.merge(other.pairs).groups == ("ana", "bo")


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (dict(latents=torch.full((2, *SHAPE), float("nan")), side=torch.zeros(2)), "finite numbers in latents"),
        (dict(latents=torch.zeros(2, *SHAPE), side=torch.zeros(3)), "one length above 0"),
        (dict(latents=torch.zeros(0, *SHAPE), side=torch.zeros(0)), "one length above 0"),
        (dict(latents=torch.zeros(2, *SHAPE)), r"expected tensors \('latents', 'side'\)"),
    ],
)
def test_bad_pairs_are_refused_and_nothing_is_written(tmp_path, tensors, said):
    with pytest.raises(PairsError, match=said):
        writer(tmp_path / "set").append("ana", **tensors)
    assert not (tmp_path / "set").exists()


def test_a_broken_set_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no manifest.json there"):
        read(tmp_path)
    w = writer(tmp_path)
    w.append("ana", **sides(8))
    manifest = tmp_path / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(whole[:50])
    with pytest.raises(PairsError, match="a whole manifest"):
        read(tmp_path)
    for version in (1, 9):  # 1 is of RS-Corrector 0.1.0
        manifest.write_text(json.dumps(json.loads(whole) | {"format_version": version}))
        with pytest.raises(PairsError, match="expected rs-corrector-pairs version 3.*run the node that made it"):
            read(tmp_path)
    manifest.write_text(whole)
    shard = tmp_path / "ana-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(PairsError, match="a whole shard"):
        read(tmp_path).load("ana")
    shard.unlink()
    with pytest.raises(PairsError, match="expected the shard"):
        read(tmp_path)


def test_a_manifest_names_files_beside_it_only(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    writer(tmp_path / "set").append("ana", **sides(8))
    manifest = tmp_path / "set" / "manifest.json"
    whole = manifest.read_text()
    for forged in ("../victim", str(victim)):
        manifest.write_text(whole.replace("ana-00000.safetensors", forged))
        with pytest.raises(PairsError, match="expected shards beside"):
            writer(tmp_path / "set").drop("ana")
    manifest.write_text("[" * 100_000)
    with pytest.raises(PairsError, match="a whole manifest"):
        read(tmp_path / "set")
    assert victim.read_bytes() == b"mine"


def test_groups_that_differ_in_case_only_have_files_that_differ_in_more(tmp_path):
    w = writer(tmp_path)
    for group in ("Green", "green"):
        w.append(group, **sides(8))
    names = {shard.path.name.lower() for shard in w.pairs.shards}
    assert len(names) == 2 and read(tmp_path).groups == ("Green", "green")


@pytest.mark.parametrize(("kind", "make"), [(SIDES, sides), (RECORDS, runs)])
def test_training_twice_and_resuming_give_the_same_weights(tmp_path, kind, make):
    w = writer(tmp_path / "set", kind)
    for group in ("ana", "bo"):
        w.append(group, {"level": 3.0}, **make(16))
    settings = dict(steps=6, batch=8, width=8, every=2, seed=3)

    class Killed(Exception):
        pass

    def kill(step, history):
        if step == 3:
            raise Killed

    one, history = train(w.pairs, **settings)
    with pytest.raises(Killed):
        train(w.pairs, checkpoint=tmp_path / "c.safetensors", watch=kill, **settings)
    two, resumed = train(w.pairs, checkpoint=tmp_path / "c.safetensors", **settings)
    assert one.config == two.config and history == resumed
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says which files are mapped")
def test_no_file_stays_mapped(tmp_path):
    """Windows replaces and deletes no file that a program has mapped."""

    def mapped():
        gc.collect()
        return [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]

    w = writer(tmp_path / "set", RECORDS)
    w.append("ana", {"level": 3.0}, **runs(16))
    rows = w.pairs.load("ana")
    assert mapped()
    settings = dict(steps=6, batch=8, width=8, every=2, checkpoint=tmp_path / "training.safetensors")

    def stop(step, _):
        if step == 3:
            raise KeyboardInterrupt

    def look(step, _):
        assert not [path for path in mapped() if "training" in path], "what it goes on from is replaced as it goes on"

    with pytest.raises(KeyboardInterrupt):
        train(w.pairs, watch=stop, **settings)
    corrector, _ = train(w.pairs, watch=look, **settings)
    del rows
    weights.save(corrector, tmp_path / "corrector.safetensors")
    loaded = weights.load(tmp_path / "corrector.safetensors")
    assert not mapped()
    weights.save(loaded, tmp_path / "corrector.safetensors")


def test_held_out_sides_say_whether_the_preference_was_learnt(tmp_path):
    """Error under the marked side over that under the other: 1 for sides that do not differ, less for those that do."""
    found = {}
    for apart in (0.0, 2.0):
        w = writer(tmp_path / f"{apart}")
        tensors = sides(64)
        w.append("ana", **tensors | {"latents": tensors["latents"] + apart * tensors["side"].view(-1, 1, 1, 1)})
        found[apart] = train(w.pairs, steps=150, batch=32, width=8, every=50)[1].validation[-1][1]
    assert found[0.0] == pytest.approx(1.0, abs=0.05) and found[2.0] < 0.9


def test_too_few_pairs_and_an_empty_side_are_refused(tmp_path):
    few = writer(tmp_path / "few")
    few.append("ana", **sides(7))
    with pytest.raises(PairsError, match="at least 8 pairs of 'ana', got 7"):
        train(few.pairs, steps=1)
    lopsided = writer(tmp_path / "lopsided")
    lopsided.append("ana", latents=torch.zeros(12, *SHAPE), side=torch.zeros(12, dtype=torch.long))
    with pytest.raises(ValueError, match="rejected latents of 'ana', got none"):
        train(lopsided.pairs, steps=1)
    with pytest.raises(PairsError, match="got an empty set"):
        train(writer(tmp_path / "empty").pairs, steps=1)


def test_a_large_set_stays_on_disk(tmp_path):
    def private_memory():
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        return int(status["RssAnon"].split()[0]) / 1024

    w = writer(tmp_path)
    for i in range(8):
        w.append("ana", **sides(512, shape=(4, 64, 64), seed=i))
    rows = read(tmp_path).load("ana")["latents"]
    before = private_memory()
    batch = rows[torch.randint(len(rows), (64,))]
    assert batch.shape == (64, 4, 64, 64)
    assert private_memory() - before < 32  # MiB; the set is 128, the batch 4


def test_the_train_command_writes_a_corrector_and_its_card(tmp_path, capsys):
    w = writer(tmp_path / "set", RECORDS)
    w.append("ana", {"preferred": "a", "rejected": "b", "neutral": "c", "level": 3.0}, **runs(32))
    out = tmp_path / "mine.safetensors"
    arguments = ["train", str(tmp_path / "set"), "-o", str(out), "--steps", "4", "--batch", "8"]
    arguments += ["--marked-by", "Ana", "--contest", "ana@example.org"]
    assert main(arguments) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.md", "mine.safetensors", "set"]
    assert weights.read_header(out).training["ana"]["preferred"] == "a"
    assert weights.read_header(out).training["marked_by"] == "Ana"
    card = out.with_suffix(".md").read_text()
    assert all(line in card for line in ("perceived groups: ana", "Marked by: Ana", "To contest it: ana@example.org"))
    first = out.read_bytes()
    assert main(arguments) == 0 and out.read_bytes() == first
    assert main(["train", str(tmp_path / "nowhere"), "-o", str(tmp_path / "x.safetensors")]) == 2
    assert "no manifest.json there" in capsys.readouterr().err and not (tmp_path / "x.safetensors").exists()


def test_a_set_merged_with_itself_stays_as_it_is(tmp_path):
    w = writer(tmp_path)
    w.append("ana", **sides(8))
    assert w.pairs.merge(w.pairs) == w.pairs


def test_a_group_needs_a_name(tmp_path):
    with pytest.raises(PairsError, match="expected a named group"):
        writer(tmp_path / "set").append(" ", **sides(8))
    assert not (tmp_path / "set").exists()


def test_words_that_make_no_difference_are_refused(tmp_path):
    w = writer(tmp_path, RECORDS)
    w.append("ana", {"level": 3.0}, **runs(32) | {"area": torch.zeros(32, 1, 8, 8)})
    with pytest.raises(ValueError, match="expected two wordings that differ"):
        train(w.pairs, steps=1)


def test_a_tenth_of_the_runs_of_either_sort_is_held_out_whole():
    from rs_corrector.recipe import _split

    area = torch.zeros(40, 1, 8, 8)
    area[25:] = 1
    keep, rest = _split(RECORDS, {"level": torch.zeros(40, 6), "area": area})
    assert rest.tolist() == [2, 12, 22, 27, 37] and sorted([*keep.tolist(), *rest.tolist()]) == list(range(40))


def test_a_step_of_a_run_comes_alone(tmp_path):
    w, parts = writer(tmp_path, RECORDS), [runs(10, seed=0), runs(5, seed=1)]
    for part in parts:
        w.append("ana", **part)
    run, step = torch.tensor([12, 0, 9]), torch.tensor([5, 0, 3])
    found = read(tmp_path).load("ana")["denoised"][run, step]
    assert torch.equal(found, torch.cat([p["denoised"] for p in parts])[run, step].half().float())
