"""What the shipped corrector has people drawn with instead: `python benchmarks/depictions.py --json FILE`.

On the real ComfyUI, in this process, on the reporting seeds: every kind under strong guidance, and in captions that
state combinations of other attributes which were never recorded; and, where there are several depictions, with `keep`
at the other groups' rate over the group's own, by the tuning seeds, as from an audit.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from inprocess import Host
from quality import SAMPLING, after_only, chunks, save
from rivals import CASES
from tqdm.auto import tqdm

from rs_corrector import weights
from rs_corrector.files import digest
from rs_corrector.testbed import comparison, measure, portraits, readers
from rs_corrector.wordings import PLACE, placed

STRONG = 7.0


def pictures(host, model, count, seed=measure.REPORTING_SEED, contexts=(PLACE,), **sampling):
    """{group: (N, 3, 64, 64)}, picture after picture in the next context."""
    drawn = {}
    for group in portraits.GROUPS:
        batches, first = [], 0
        for size, own in chunks(count, seed):
            captions = [placed(portraits.neutral(group), contexts[(first + i) % len(contexts)]) for i in range(size)]
            batches.append(host.sample(model, host.encode_each(captions), size, own, **SAMPLING | sampling))
            first += size
        drawn[group] = host.decode(torch.cat(batches))
    return drawn


def compared(attribute, before, after, read_before):
    return after_only(measure.report(attribute, before, after, read_before, portraits.others(attribute)))


def run(host, count, path):
    (corrector,) = host.run("RSCorrectorLoader", corrector_name=weights.SHIPPED.name)
    result = {"host": host.version, "images": count, "weights": digest(weights.SHIPPED), "base": host.fingerprint}
    draw = partial(pictures, host, count=count)
    tuning = {g: readers.read(z)[0] for g, z in draw(host.model, seed=measure.TUNING_SEED).items()}
    plain, strong = draw(host.model), draw(host.model, cfg=STRONG)
    read = [comparison.readings(measure.WORLD, each) for each in (plain, strong)]
    for name, case in tqdm(CASES.items()):
        ours = host.apply(corrector, case.group)
        held_out = dict(contexts=portraits.contexts(name, held_out=True))
        cells = result[name] = {f"cfg {STRONG:g}": compared(name, strong, draw(ours, cfg=STRONG), read[1])}
        before = draw(host.model, **held_out)
        cells["held out"] = compared(name, before, draw(ours, **held_out), None)
        if len(portraits.others(name)) > 1:
            share = comparison.as_others(measure.WORLD, name, tuning)
            after = draw(host.apply(corrector, case.group, keep=share))
            cells["as others"] = {"keep": share} | compared(name, plain, after, read[0])
        save(result, path)
    return result


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256, help="a group")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args(argv)
    result = run(Host(), args.images, args.json)
    for name in CASES:
        for label, cell in result[name].items():
            print(name, label, {key: cell[key] for key in ("stereotype_rate", "stereotype_gap", "content_kept")})


if __name__ == "__main__":
    main()
