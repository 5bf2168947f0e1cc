"""`rs-corrector audit`: draw, judge, report, and an exit code for pipelines."""

import json
from contextlib import ExitStack, contextmanager

from tqdm.auto import tqdm

from .. import comfyui, weights
from ..files import digest
from ..testbed import audit as testbed
from ..testbed.audit import ReaderJudge, testbed_sampler
from . import emergence, report, run, scale, servers, zero_shot
from .errors import by_labels
from .faces import FaceJudge
from .plan import PlanError, parse, shipped
from .questions import QuestionJudge
from .workflow import Workflow


def run_audit(args):
    """Draw what is missing; then, unless this is one shard of several, judge all and write the report.

    Returns:
        Exit code: 0; 1 where the correction does harm beyond the limits; 3 where the judge could not see everything.

    Raises:
        AuditError: several workers for a workflow, which is drawn by its server, or its steps, which no server shows.
    """
    shard, of = _shard(args.shard)
    plan = _plan(args)
    if args.emergence and not args.testbed:
        raise run.AuditError(
            "expected --testbed with --emergence, got a workflow, whose steps a server does not show; use the node Run "
            "RS Audit for it, or leave it out"
        )
    if args.workers == 1:
        with _samplers(args, plan) as samplers, tqdm(desc="draw", unit="picture") as bar:
            plan = samplers[0].plan
            judges, folder = _judges(args, plan), run.Folder(args.out, plan)
            servers.draw(folder, samplers, plan.units(shard, of), _follow(bar))
    elif args.testbed and of == 1:
        judges, folder = _judges(args, plan), run.Folder(args.out, plan)
        scale.draw(args.out, plan, testbed_sampler, args.workers, args.ray_address)
    else:
        raise run.AuditError("expected one worker for a workflow or a shard, got several; use --workers alone")
    if of > 1:
        print(f"drew shard {shard} of {of}; draw the others, then run without --shard for the report")
        return 0
    errors = by_labels(args.labelled, judges[0], plan.attributes) if args.labelled else None
    tables = {}
    for name, judge in report.told_apart(judges).items():
        with tqdm(desc=f"judge, {name}", unit="picture") as bar:
            tables[name] = run.judged(folder, judge, progress=_follow(bar))
    since = None
    if args.emergence:
        with tqdm(desc="draw steps", unit="picture") as bar:
            emergence.draw(folder, testbed_sampler(plan), progress=_follow(bar))
        with tqdm(desc="judge steps", unit="step") as bar:
            since = emergence.judged(folder, judges[0], _follow(bar))
    result = report.summarise(plan, tables, _setting(args), dict(args.limit), errors, since)
    report.write(folder, result, args.out)
    print(json.dumps({"verdict": result["verdict"], "exit": result["exit"]}, indent=1))
    return result["exit"]


#: What makes a judge of a plan, and which files it takes.
JUDGES = {
    "readers": (ReaderJudge, ()),
    "clip": (zero_shot.from_folder, ("FOLDER",)),
    "questions": (QuestionJudge, ("FOLDER",)),
    "faces": (FaceJudge, ("DETECTOR", "CLASSIFIER")),
}


def _judges(args, plan):
    """All that were asked for; the first decides."""
    judges = []
    for name, *files in args.judge or [["readers"]]:
        make, taken = JUDGES.get(name, (None, ()))
        if make is None or len(files) != len(taken):
            known = ", ".join(" ".join((known, *files)) for known, (_, files) in JUDGES.items())
            raise PlanError(f"expected as judge one of {known}, got {' '.join((name, *files))!r}; correct it")
        judges.append(make(plan, *files))
    return judges


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
        known = shipped()
        file = known.get(str(args.plan), args.plan)
        if not file.is_file():
            raise PlanError(f"expected a file or one of {', '.join(known)} as plan, got {args.plan}; correct the name")
        return parse(file.read_text(encoding="utf-8"))
    return testbed.plan(args.images)


@contextmanager
def _samplers(args, plan):
    """The functions which draw a unit, one a server."""
    if args.testbed:
        yield [testbed_sampler(plan)]
        return
    checkout = None if args.server else comfyui.find()
    if not args.server and checkout is None:
        raise FileNotFoundError("expected a ComfyUI, got none; give --server URL, or set COMFYUI_PATH to a checkout")
    with ExitStack() as stack:
        hosts = [comfyui.Client(url) for url in args.server or ()] or [comfyui.Server(checkout, models=args.models)]
        yield [Workflow(stack.enter_context(host), _workflow(args), plan) for host in hosts]


def _workflow(args):
    return json.loads(args.workflow.read_text(encoding="utf-8"))


def _setting(args):
    """What else it takes to repeat it."""
    if args.testbed:
        return {"sampler": "embedded testbed", "corrector": digest(weights.SHIPPED)}
    return {"workflow": _workflow(args), "servers": args.server or ["own"]}


def _follow(bar):
    def progress(done, total):
        bar.total = total
        bar.update(done - bar.n)

    return progress
