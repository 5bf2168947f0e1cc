"""Does the testbed model hold its planted stereotypes? `python benchmarks/testbed.py --json FILE`.

Captions that name only the group, and captions that state an attribute as well, on reporting seeds; embedded path,
CFG 3, 20 Euler steps. Residuals are to the nearest drawable portrait, in units of full scale.
"""

import argparse
import json
from pathlib import Path

import torch
from tqdm.auto import tqdm

from rs_corrector.metrics import wilson
from rs_corrector.testbed import measure, portraits, readers
from rs_corrector.testbed.model import Testbed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--images", type=int, default=512, help="per group; a quarter for captions that state an attribute"
    )
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    bed, result = Testbed(), {"images": args.images, "groups": {}, "obeyed": {}}

    def read(caption, count):
        batches = range(measure.REPORTING_SEED, measure.REPORTING_SEED + -(-count // 64))
        images = torch.cat([bed.decode(bed.sample([caption] * 64, seed)) for seed in batches])[:count]
        return readers.read(images)

    residuals = []
    for index, group in enumerate(tqdm(portraits.GROUPS, desc="groups")):
        rows, residual = read(portraits.neutral(group), args.images)
        residuals.append(residual)
        result["groups"][group] = {name: wilson(measure.shown(name, rows)) for name in portraits.STEREOTYPES}
        result["groups"][group]["group"] = wilson(measure.column(rows, "group") == index)
        result["groups"][group]["residual"] = residual.median().item()
    stated = [(name, value, words) for name, said in portraits.WORDS.items() for value, words in enumerate(said)]
    for group in tqdm(portraits.GROUPS, desc="obeyed"):
        for name, value, words in stated:
            rows, _ = read(f"{portraits.neutral(group)}, {words}", args.images // 4)
            result["obeyed"][f"{group}, {words}"] = wilson(measure.column(rows, name) == value)
    attributes, _ = portraits.sample_attributes(args.images, torch.Generator().manual_seed(measure.REPORTING_SEED))
    read_back, drawn = readers.read(bed.decode(bed.encode(portraits.draw(attributes))))
    result["residual"] = {"generated": torch.cat(residuals).median().item(), "reconstructed": drawn.median().item()}
    result["read_back"] = {
        name: (measure.column(read_back, name) == measure.column(attributes, name)).float().mean().item()
        for name in portraits.COLUMN
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
