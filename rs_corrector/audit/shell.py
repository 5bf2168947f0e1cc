"""`rs-corrector audit`: draw, judge, report, and an exit code for pipelines."""

import json
from contextlib import contextmanager

from tqdm.auto import tqdm

from .. import comfyui, weights
from ..files import digest
from ..testbed import audit as testbed
from ..testbed.audit import ReaderJudge, testbed_sampler
from . import report, run, scale
from .faces import FaceJudge
from .plan import PlanError, parse
from .workflow import Workflow


def run_audit(args):
    """Draw what is missing; then, unless this is one shard of several, judge all and write the report.

    Returns:
        Exit code: 0, or 1 where the correction does harm beyond the limits.

    Raises:
        AuditError: several workers for a workflow, which is drawn by its server.
    """
    shard, of = _shard(args.shard)
    plan = _plan(args)
    if args.workers == 1:
        with _sampler(args, plan) as sample, tqdm(desc="draw", unit="picture") as bar:
            plan = sample.plan
            judge, folder = _judge(args, plan), run.Folder(args.out, plan)
            run.draw(folder, sample, plan.units(shard, of), _follow(bar))
    elif args.testbed and of == 1:
        judge, folder = _judge(args, plan), run.Folder(args.out, plan)
        scale.draw(args.out, plan, testbed_sampler, args.workers)
    else:
        raise run.AuditError("expected one worker for a workflow or a shard, got several; use --workers alone")
    if of > 1:
        print(f"drew shard {shard} of {of}; draw the others, then run without --shard for the report")
        return 0
    with tqdm(desc="judge", unit="picture") as bar:
        table = run.judged(folder, judge, progress=_follow(bar))
    result = report.summarise(plan, {judge.name: table}, _setting(args), dict(args.limit))
    report.write(folder, result, args.out)
    print(json.dumps({"verdict": result["verdict"], "exit": result["exit"]}, indent=1))
    return result["exit"]


def _judge(args, plan):
    return FaceJudge(plan, *args.faces) if args.faces else ReaderJudge(plan)


def _shard(text):
    try:
        shard, of = map(int, text.split("/"))
        if 0 <= shard < of:
            return shard, of
    except ValueError:
        pass
    raise PlanError(f"expected a shard such as 0/4, got {text!r}; number them from 0")


def _plan(args):
    if args.plan:
        return parse(args.plan.read_text(encoding="utf-8"))
    return testbed.plan(args.images)


@contextmanager
def _sampler(args, plan):
    """The function which draws a unit."""
    if args.testbed:
        yield testbed_sampler(plan)
        return
    checkout = None if args.server else comfyui.find()
    if not args.server and checkout is None:
        raise FileNotFoundError("expected a ComfyUI, got none; give --server URL, or set COMFYUI_PATH to a checkout")
    with comfyui.Client(args.server) if args.server else comfyui.Server(checkout, models=args.models) as server:
        yield Workflow(server, _workflow(args), plan)


def _workflow(args):
    return json.loads(args.workflow.read_text(encoding="utf-8"))


def _setting(args):
    """What else it takes to repeat it."""
    if args.testbed:
        return {"sampler": "embedded testbed", "corrector": digest(weights.SHIPPED)}
    return {"workflow": _workflow(args), "server": args.server or "own"}


def _follow(bar):
    def progress(done, total):
        bar.total = total
        bar.update(done - bar.n)

    return progress
