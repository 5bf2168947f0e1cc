"""`rs-corrector audit`: draw, judge, report, and an exit code for pipelines."""

import json
from contextlib import nullcontext
from pathlib import Path

from tqdm.auto import tqdm

from .. import comfyui
from . import report, run, scale
from .plan import PlanError, parse
from .workflow import Workflow


def run_audit(args):
    """Draw what is missing; then, unless this is one shard of several, judge all and write the report.

    Returns:
        Exit code: 0, or 1 where the correction does harm beyond the limits.
    """
    shard, of = _shard(args.shard)
    plan = _plan(args)
    folder = run.Folder(args.out, plan)
    if args.workers > 1:
        scale.draw(args.out, plan, testbed_sampler, args.workers)
    with _sampler(args, plan) as sample, tqdm(desc="draw", unit="picture") as bar:
        run.draw(folder, sample, shard, of, _follow(bar))
    if of > 1:
        print(f"drew shard {shard} of {of}; draw the others, then run without --shard for the report")
        return 0
    judge = _judge(args, plan)
    with tqdm(desc="judge") as bar:
        table = run.judged(folder, judge, _follow(bar))
    result = report.summarise(plan, {judge.name: table}, _setting(args), dict(args.limit))
    report.write(folder, result, args.out)
    print(json.dumps({"verdict": result["verdict"], "exit": result["exit"]}, indent=1))
    return result["exit"]


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
        return parse(Path(args.plan).read_text(encoding="utf-8"))
    from ..testbed import audit

    return audit.plan(args.images)


def testbed_sampler(plan):
    """The embedded testbed model, the shipped corrector on for all of its groups at once."""
    from .. import weights
    from ..corrector import Correction
    from ..demo import SHIPPED
    from ..testbed.audit import Sampler

    corrector = weights.load(SHIPPED)
    corrections = [Correction(corrector, group) for group in corrector.config.groups]

    def correct(x, sigma, denoised):
        for correction in corrections:
            denoised = correction(x, sigma, denoised)
        return denoised

    return Sampler(plan, correct)


def _sampler(args, plan):
    """A context that gives the function which draws a unit."""
    if args.testbed:
        return nullcontext(testbed_sampler(plan))
    return _through_server(args, plan)


class _through_server:
    def __init__(self, args, plan):
        workflow = json.loads(Path(args.workflow).read_text(encoding="utf-8"))
        checkout = None if args.server else comfyui.find()
        if not args.server and checkout is None:
            raise FileNotFoundError(
                "expected a ComfyUI, got none; give --server URL, or set COMFYUI_PATH to a checkout"
            )
        self.server = comfyui.Client(args.server) if args.server else comfyui.Server(checkout)
        self.workflow, self.plan = workflow, plan

    def __enter__(self):
        server = self.server.__enter__()
        try:
            return Workflow(server, self.workflow, self.plan)
        except BaseException:
            self.server.__exit__(None, None, None)
            raise

    def __exit__(self, *exception):
        self.server.__exit__(*exception)


def _judge(args, plan):
    from ..testbed.audit import ReaderJudge

    return ReaderJudge(plan)


def _setting(args):
    """What else it takes to repeat it."""
    import hashlib

    from ..demo import SHIPPED

    if args.testbed:
        return {"sampler": "embedded testbed", "corrector": hashlib.sha256(SHIPPED.read_bytes()).hexdigest()[:16]}
    return {"workflow": json.loads(Path(args.workflow).read_text(encoding="utf-8")), "server": args.server or "own"}


def _follow(bar):
    def progress(done, total):
        bar.total = total
        bar.update(done - bar.n)

    return progress
