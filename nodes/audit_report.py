"""RS Audit Report: what the judges see in an audit's pictures."""

from comfy_api.latest import io

from ..rs_corrector.audit.table import LIMITS
from . import host
from .plot import as_image
from .types import RSAudit, RSJudge


class RSCorrectorAuditReport(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="RSCorrectorAuditReport",
            display_name="RS Audit Report",
            category="RS-Corrector/audit",
            description=(
                "Compares groups with and without the corrector: rates with intervals, same-seed pairs, and one plain "
                "sentence. Writes audit.html, audit.png and audit.json beside the pictures. Generated pictures only."
            ),
            search_aliases=["rs corrector", "audit", "report", "bias", "fairness"],
            is_output_node=True,
            inputs=[
                RSAudit.Input("audit", tooltip="Connect Run RS Audit."),
                RSJudge.Input("judge", tooltip="Connect the judge that decides."),
                RSJudge.Input("second_judge", optional=True, tooltip="Connect another to see how far they agree."),
                io.Float.Input(
                    "smallest_gap",
                    default=LIMITS["gap"],
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Flag nothing whose rate differs by less than this from the typical group's.",
                ),
                host.advanced(
                    io.String.Input(
                        "labelled",
                        default="",
                        optional=True,
                        tooltip="Name a folder in input with ATTRIBUTE/shown and ATTRIBUTE/not shown, generated PNG "
                        "files that somebody labelled: rates are corrected for the judge's errors on them.",
                    )
                ),
            ],
            outputs=[
                io.Image.Output(display_name="report", tooltip="Connect to Preview Image or Save Image: the report."),
                io.String.Output(display_name="verdict", tooltip="Connect to Preview as Text: what was found."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, labelled="", **_):
        return host.contents(labelled, "*/*/*")

    @classmethod
    def execute(cls, audit, judge, second_judge=None, smallest_gap=LIMITS["gap"], labelled=""):
        try:
            from ..rs_corrector.audit import emergence, report, run
            from ..rs_corrector.audit.errors import by_labels
        except ImportError as error:
            raise ImportError(
                f"expected statsmodels and matplotlib for a report, got: {error}; install both into ComfyUI's "
                "environment with `pip install statsmodels matplotlib`"
            ) from error
        judges = report.told_apart([judge] if second_judge is None else [judge, second_judge])
        folder = host.sorted_folder(labelled) if labelled.strip() else None
        errors = by_labels(folder, judge, audit.plan.attributes) if folder else None
        tables = {name: run.judged(audit, each, progress=host.Progress()) for name, each in judges.items()}
        since = emergence.judged(audit, judge, host.Progress())
        limits = LIMITS | {"gap": smallest_gap}
        result = report.summarise(audit.plan, tables, host.versions(), limits, errors, since)
        picture = report.write(audit, result, audit.path)
        return io.NodeOutput(as_image(picture), result["verdict"])
