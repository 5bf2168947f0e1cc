"""Node texts in every language: `python locales/translate.py [--check]`.

`LANGUAGE.json` is a catalogue from English to that language, kept by hand. From it and the nodes' own texts comes
`LANGUAGE/nodeDefs.json`, the form that ComfyUI reads.
"""

import argparse
import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
LANGUAGES = ("en", "es", "fr", "ja", "ko", "zh")
#: The editor reads these as its own syntax.
SYNTAX = "{}|@"


def texts(nodes):
    """{node id: texts in English, as `nodeDefs.json` has them} of the pack's nodes among a host's."""
    found = {}
    for name in sorted(n for n in nodes if n.startswith("RSCorrector")):
        info = nodes[name].GET_NODE_INFO_V1()
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        outputs = zip(info["output_name"], info["output_tooltips"])
        found[name] = {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": {key: {"name": key, "tooltip": options["tooltip"]} for key, (_, options) in inputs.items()},
            "outputs": {str(i): {"name": key, "tooltip": tooltip} for i, (key, tooltip) in enumerate(outputs)},
        }
    return found


def strings(tree):
    """Every text in a tree of dicts."""
    for value in tree.values():
        yield from strings(value) if isinstance(value, dict) else [value]


def translated(tree, catalogue):
    return {k: translated(v, catalogue) if isinstance(v, dict) else catalogue[v] for k, v in tree.items()}


def catalogue(language):
    """{English: translation}; English needs none."""
    return None if language == "en" else json.loads((FOLDER / f"{language}.json").read_text())


def problems(english, language):
    """What keeps a language from being complete and up to date."""
    wanted, known = set(strings(english)), catalogue(language)
    known = {text: text for text in wanted} if known is None else known
    yield from (f"missing: {text}" for text in sorted(wanted - known.keys()))
    yield from (f"no longer used: {text}" for text in sorted(known.keys() - wanted))
    yield from (f"empty or with one of {SYNTAX}: {t}" for t in known.values() if not t.strip() or set(t) & set(SYNTAX))


def render(english, language):
    """The text of a language's `nodeDefs.json`."""
    known = catalogue(language)
    made = english if known is None else translated(english, known)
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def main():
    sys.path.insert(0, str(FOLDER.parent / "benchmarks"))
    from inprocess import Host

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 where a file is not up to date")
    check, english, wrong = parser.parse_args().check, texts(Host().nodes), []
    for language in LANGUAGES:
        if found := list(problems(english, language)):
            wrong += [f"{language}: {problem}" for problem in found]
            continue
        path, text = FOLDER / language / "nodeDefs.json", render(english, language)
        if check and not (path.is_file() and path.read_text() == text):
            wrong.append(f"{path} is not up to date")
        elif not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
