"""One rung of the ladder: its world on the host, its corrector, and what is measured of a method there."""

import json
import shutil
import time
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from from_words import training
from quality import SETTINGS, Evaluations, chunks, rest, save
from rivals import case, method

from rs_corrector.files import digest
from rs_corrector.method import RECIPE
from rs_corrector.metrics import wilson
from rs_corrector.recipe import RATE, WIDTH, batch_for
from rs_corrector.recording import IMAGES
from rs_corrector.testbed import comparison, measure, portraits
from rs_corrector.testbed.exact import PLANTED, RATES, World, captions
from rs_corrector.wordings import PLACE, placed

SAMPLING = dict(steps=20, cfg=3.0, sampler="euler")
LEARNT = IMAGES["thorough"]
#: What correctors of these names are made from in scenes: contexts that are not the ones they are measured in.
LEARNT_FROM = {"one_prompt": (PLACE,), "rs_corrector": captions.contexts(), "in_series": captions.contexts()}
#: First of the seeds that are learnt from.
RECORD_SEED = 1
#: Pictures of a sheet.
SHOWN = 12


@dataclass(frozen=True)
class Rung:
    """One world to measure in; one corrector file serves all its kinds."""

    grid: int
    parameterisation: str = "eps"
    texture: str = "white"
    rates: str = "strong"
    scene: bool = False
    several: bool = False

    @property
    def name(self):
        extra = [self.texture] * (self.texture != "white") + [self.rates] * (self.rates != "strong")
        return "-".join(
            [str(self.grid), self.parameterisation, *extra, *["scene"] * self.scene, *["several"] * self.several]
        )

    @property
    def scheduler(self):
        return "simple" if self.parameterisation == "flow" else "normal"

    @property
    def kinds(self):
        """What is corrected here: where there are several preferred depictions, what has more than two values."""
        return [kind for kind in PLANTED if not self.several or len(portraits.WORDS[kind]) > 2]

    def facts(self):
        return {
            "grid": self.grid,
            "parameterisation": self.parameterisation,
            "texture": self.texture,
            "rates": list(RATES[self.rates]),
            "scene": self.scene,
            "keep": "as others" if self.several else 0.0,
        }


class Bench:
    """A rung's world on the host, its uncorrected pictures, and what is measured of a method.

    Args:
        count: pictures of the target group, of its explicit requests, and of all other groups together.
    """

    def __init__(self, host, rung, count):
        import exact_host  # comes after the host, whose classes it extends

        self.host, self.rung, self.count = host, rung, count
        self.world = World(rung.grid, rung.texture, rung.rates, rung.scene)
        host.use(*exact_host.load(host, self.world, rung.parameterisation), rung.grid)
        self.draw, self._natural = partial(host.sample, host.model), {}

    def pictures(self, draw, caption, count, first=measure.REPORTING_SEED, **sampling):
        """(N, 4, n, n) latents in model space; in scenes each in a context that is held out."""
        chosen = SAMPLING | {"scheduler": self.rung.scheduler} | sampling
        drawn = [draw(self.said(caption, size), size, seed, **chosen) for size, seed in chunks(count, first)]
        return self.host.model.get_model_object("latent_format").process_in(torch.cat(drawn)).float()

    def said(self, caption, count):
        """The conditioning of so many pictures of a caption."""
        if not self.rung.scene:
            return caption
        contexts = captions.contexts(held_out=True)
        return self.host.encode_each([placed(caption, contexts[i % len(contexts)]) for i in range(count)])

    def uncorrected(self, first):
        """{group: pictures} of seeds from `first` on."""
        return {g: self.pictures(self.draw, portraits.neutral(g), self.count, first) for g in self.world.groups}

    @cached_property
    def before(self):
        return self.uncorrected(measure.REPORTING_SEED)

    @cached_property
    def readings(self):
        return comparison.readings(self.world, self.before)

    def natural(self, kind):
        """Uncorrected pictures under a kind's preferred wording."""
        if kind not in self._natural:
            self._natural[kind] = self.pictures(self.draw, case(kind, PLANTED).preferred, self.count)
        return self._natural[kind]

    def measure(self, kind, draw):
        """All metrics of one kind under one method, but what it took to make."""
        asked = case(kind, PLANTED)
        each = -(-self.count // (len(self.world.groups) - 1))
        counts = {group: self.count if group == asked.group else each for group in self.world.groups}
        after = {group: self.pictures(draw, portraits.neutral(group), n) for group, n in counts.items()}
        requests = self.world.read(self.pictures(draw, asked.rejected, self.count)).attributes
        obeyed = wilson(requests[:, self.world.column[kind]] == PLANTED[kind][1])
        found = comparison.compare(
            self.world, kind, self.before, after, self.natural(kind), self.readings,
            preferred=portraits.others(kind, PLANTED) if self.rung.several else None,
        )  # fmt: skip
        gaps = found.pop("stereotype_gap")
        return found | {
            "request_obeyed": obeyed,
            "stereotype_gap": gaps["after"],
            "stereotype_gap_before": gaps["before"],
        }

    @cached_property
    def known(self):
        """What an audit knows before anything is corrected: {group: (N, A) attributes}, of the tuning seeds."""
        return {g: self.world.read(z).attributes for g, z in self.uncorrected(measure.TUNING_SEED).items()}

    def others(self, kind):
        """How often all other groups show each value of a kind's attribute, (K,)."""
        column = self.world.column[kind]
        values = torch.cat([rows[:, column] for group, rows in self.known.items() if group != PLANTED[kind][0]])
        return torch.bincount(values, minlength=self.world.sizes[kind]) / len(values)

    def keep(self, kind):
        """The share of pictures to keep: all others' rate over the group's own where there are several depictions."""
        if not self.rung.several:
            return 0.0
        return comparison.as_others(self.world, kind, self.known)

    def made(self, corrector):
        """The kinds that a corrector was made for."""
        return [kind for kind in self.rung.kinds if PLANTED[kind][0] in corrector.model.config.groups]

    def pairs_to_show(self, corrector):
        """Rows of pictures without and with the corrector, two rows a kind."""
        for kind in self.made(corrector):
            group = PLANTED[kind][0]
            for draw in (self.draw, prepare(self, "rs_corrector", kind, corrector)):
                yield self.pictures(draw, portraits.neutral(group), SHOWN)

    def start(self):
        """What the world draws without guidance: how often each kind is shown, beside the planted rate."""
        rates = {}
        for kind, (group, value) in PLANTED.items():
            drawn = self.pictures(self.draw, portraits.neutral(group), self.count, cfg=1.0)
            rates[kind] = wilson(self.world.read(drawn).attributes[:, self.world.column[kind]] == value)
        top = float(self.host.model.get_model_object("model_sampling").sigma_max)
        planted = RATES[self.rung.rates][0]
        facts = {"grid": self.rung.grid, "parameterisation": self.rung.parameterisation}
        return facts | {"sigma_max": top, "planted": planted, "rates": rates}


def make(bench, learnt, steps, contexts=(PLACE,)):
    """A corrector for all kinds of a rung, from the host's folder where it was made before in the same way.

    Args:
        contexts: of the pictures that it is made from.

    Returns:
        The corrector, None where the node refuses all kinds, and {"evaluations": {kind: of the base model}, "refused":
        {kind: what the node said}, "record_s", "train_s", "weights"}.
    """
    host, rung = bench.host, bench.rung
    own = rung.name + "-contexts" * (len(contexts) > 1)
    folder, facts = host.base / "models" / "rs_correctors", host.base / f"{own}.json"
    file = folder / f"{own}.safetensors"
    way = {"learnt": learnt, "recipe": RECIPE, "contexts": list(contexts)}
    way |= {"steps": steps, "batch": batch_for((rung.grid,)), "width": WIDTH, "rate": RATE}
    way |= {"shares": "as others"} if rung.several else {}
    made = json.loads(facts.read_text()) if facts.is_file() else {}
    if made.get("way") != way:
        made = {"way": way, "evaluations": {}, "refused": {}, "record_s": 0.0}
    if file.is_file() and made.get("weights") == digest(file):
        return host.run("RSCorrectorLoader", corrector_name=file.name)[0], made
    pairs = None
    for kind in [kind for kind in rung.kinds if kind not in made["refused"]]:
        begun, name, words = time.monotonic(), f"{own}-{kind}", wordings(bench, kind, contexts)
        if kind not in made["evaluations"]:  # a kind that was cut off begins anew, so that all of it is counted
            shutil.rmtree(host.base / "output" / "rs_corrector_pairs" / name, ignore_errors=True)
        try:
            with Evaluations(host) as seen:
                pairs = record(host, rung, kind, name, learnt, pairs, words)
            made["evaluations"].setdefault(kind, seen.rows)
        except ValueError as refused:
            made["refused"][kind] = str(refused)
        made["record_s"] += time.monotonic() - begun
        save(made, facts)
    if pairs is None:
        return None, made
    begun = time.monotonic()
    corrector, _, report = host.run("RSCorrectorTrain", pairs=pairs, steps=steps, **training())
    print(own, report)
    host.run("RSCorrectorSave", corrector=corrector, name=own)
    save(made | {"train_s": time.monotonic() - begun, "weights": digest(file)}, facts)
    return make(bench, learnt, steps, contexts)


def wordings(bench, kind, contexts):
    """What RS Pairs from Words is told of a kind: as many preferred wordings as the rung has, as often as others."""
    asked = case(kind, PLANTED)
    words = {side: getattr(asked, side) for side in ("group", "neutral", "preferred", "rejected")}
    words |= {"others": portraits.OTHERS, "negative": "", "contexts": "\n".join(contexts)}
    if bench.rung.several:
        often = bench.others(kind)[portraits.others(kind, PLANTED)]
        words["preferred"] = "\n".join(portraits.preferred(kind, PLANTED))
        words["shares"] = ", ".join(f"{share:.3f}" for share in often.tolist())
    return words


def record(host, rung, kind, name, learnt, merge_with, words):
    """Pairs from words for one kind, beside those of others."""
    return host.run(
        "RSCorrectorPairsFromWords", model=host.model, name=name, count=learnt, batch_size=min(learnt, 32),
        seed=RECORD_SEED, width=8 * rung.grid, height=8 * rung.grid, steps=SAMPLING["steps"], cfg=SAMPLING["cfg"],
        sampler_name=SAMPLING["sampler"], scheduler=rung.scheduler, merge_with=merge_with, clip=host.clip, **words,
    )[0]  # fmt: skip


def prepare(bench, name, kind, corrector):
    """A method's function to draw with."""
    if name in LEARNT_FROM:
        model = bench.host.model
        for each in bench.made(corrector) if name == "in_series" else [kind]:
            model = bench.host.apply(corrector, PLANTED[each][0], model=model, keep=bench.keep(each))
        return partial(bench.host.sample, model)
    found = json.loads(SETTINGS.read_text())  # for kinds that `quality.py` does not know those for hats
    best = found.get(kind, found["hat"])[name]["best"]
    return method(name).prepare(bench.host, case(kind, PLANTED), **rest(best))(best["strength"])
