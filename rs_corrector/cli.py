"""The command `rs-corrector`."""

import argparse
import json
import sys
import traceback
from pathlib import Path


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return value


def demo(args):
    from . import demo

    print(json.dumps(demo.run(args.host, args.images, args.out), indent=2))
    print(f"look at {args.out / 'comparison.png'}")


def inspect(args):
    from . import weights

    print(json.dumps(weights.read_header(args.file).asdict(), indent=2))


def train(args):
    from functools import reduce

    from . import card, pairs, recipe

    merged = reduce(lambda one, other: one.merge(other), map(pairs.read, args.pairs))
    checkpoint = args.out.with_name(f"{args.out.stem}.unfinished.safetensors")
    if not args.resume:
        checkpoint.unlink(missing_ok=True)
    corrector, history = recipe.train(
        merged, seed=args.seed, steps=args.steps, batch=args.batch, device=args.device, checkpoint=checkpoint, every=250
    )
    card.save(corrector.cpu(), args.out, marked_by=args.marked_by, contest=args.contest)
    checkpoint.unlink(missing_ok=True)
    print(f"wrote {args.out} and its model card; held-out loss {min(v for _, v in history.validation):.4f}")


def audit(args):
    from .audit import shell

    return shell.run_audit(args)


def wordings(args):
    from . import presets

    if args.preset is None:
        found = {name: presets.read(name) for name in presets.shipped()}
        width = max(map(len, found))
        print("\n".join(f"{name:<{width}}  {preset.group}" for name, preset in found.items()))
    else:
        preset = presets.read(args.preset)
        print(preset.plan() if args.plan else presets.text(preset), end="")


def limit(text):
    from .audit.table import LIMITS

    name, _, value = text.partition("=")
    if name not in LIMITS:
        raise argparse.ArgumentTypeError(f"expected NAME=NUMBER with a name of {', '.join(LIMITS)}, got {text}")
    return name, float(value)


def parser():
    root = argparse.ArgumentParser(prog="rs-corrector", description="Stereotype mitigation for text-to-image models.")
    commands = root.add_subparsers(required=True)
    command = commands.add_parser("demo", help="the testbed drawn with and without its corrector, measured")
    command.add_argument("--host", choices=("auto", "comfyui", "embedded"), default="auto")
    command.add_argument("--images", type=positive, default=64, help="per group (default 64)")
    command.add_argument("--out", type=Path, required=True, help="folder for the pictures and report.json")
    command.set_defaults(run=demo)
    command = commands.add_parser("train", help="train a corrector on recorded pairs")
    command.add_argument("pairs", type=Path, nargs="+", help="folders of pairs; several are merged over groups")
    command.add_argument("-o", "--out", type=Path, required=True, help="corrector file to write, .safetensors")
    command.add_argument("--steps", type=positive, default=3000)
    command.add_argument("--batch", type=positive, help="records an update; by the size of the latents")
    command.add_argument("--device", default="cpu", help="cpu, cuda, mps (default cpu)")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--resume", action="store_true", help="go on with a run of the same settings that was cut off")
    command.add_argument("--marked-by", default="", help="whose preference it is, for the file and its model card")
    command.add_argument("--contest", default="", help="where somebody who is depicted can object, for both")
    command.set_defaults(run=train)
    command = commands.add_parser("wordings", help="documented stereotypes, as wordings to start from")
    command.add_argument("preset", nargs="?", help="a name of the list, or a file: its text")
    command.add_argument("--plan", action="store_true", help="an audit plan made from it instead")
    command.set_defaults(run=wordings)
    command = commands.add_parser("inspect", help="print the header of a corrector file")
    command.add_argument("file", type=Path)
    command.set_defaults(run=inspect)
    command = commands.add_parser("audit", help="how a checkpoint depicts groups, with and without a corrector")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--testbed", action="store_true", help="the testbed model and its shipped corrector")
    which.add_argument("--workflow", type=Path, help="workflow in API format, see the README for its nodes' titles")
    command.add_argument(
        "--plan", type=Path, help="file, or the name of a plan that comes with the pack; the testbed has one of its own"
    )
    command.add_argument(
        "--judge",
        nargs="+",
        action="append",
        metavar=("NAME", "FILE"),
        help="readers (the testbed's own), clip FOLDER, questions FOLDER, or faces DETECTOR CLASSIFIER; of several the "
        "first decides",
    )
    command.add_argument(
        "--labelled",
        type=Path,
        help="folder ATTRIBUTE/shown and ATTRIBUTE/not shown of generated PNG files: how often "
        "the judge that decides is right",
    )
    command.add_argument(
        "--emergence",
        action="store_true",
        help="also at which step attributes show, on the testbed; otherwise Run RS Audit has it",
    )
    comfyui = command.add_mutually_exclusive_group()
    comfyui.add_argument(
        "--server",
        action="append",
        help="URL of a running ComfyUI, several times for several (default: one of its own)",
    )
    comfyui.add_argument(
        "--models", type=Path, help="folder of models for its own, as ComfyUI's: checkpoints, vae, ..."
    )
    command.add_argument("--images", type=positive, default=64, help="of every prompt and group, on the testbed")
    command.add_argument("--shard", default="0/1", help="draw this share of the plan only, as 0/4, and report nothing")
    command.add_argument("--workers", type=positive, default=1, help="draw the testbed on this many Ray workers")
    command.add_argument("--ray-address", help="of a running Ray cluster (default: start one here)")
    command.add_argument("--limit", type=limit, action="append", default=[], help="NAME=NUMBER, for the verdict")
    command.add_argument("--out", type=Path, required=True, help="folder for the pictures and the report")
    command.set_defaults(run=audit)
    return root


def main(argv=None):
    """Exit codes: 0 done, 1 an audit found harm, 2 bad input (one line on standard error, nothing written), 3 an
    audit's judge could not see everything, 4 a fault of the pack itself (its traceback on standard error)."""
    args = parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"rs-corrector: {error}", file=sys.stderr)
        return 2
    except Exception:  # Python's own exit code would be 1, and say harm
        traceback.print_exc()
        return 4
