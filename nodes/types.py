"""Socket types of the pack."""

from comfy_api.latest import io

#: A corrector, wrapped as `host.manage` returns it.
RSCorrector = io.Custom("RS_CORRECTOR")
#: A set of preference pairs, `rs_corrector.pairs.Pairs`.
RSPairs = io.Custom("RS_PAIRS")
#: What an audit draws (`rs_corrector.audit.plan.Plan`), its pictures (`run.Folder`), who looks at them (`run.Judge`).
RSAuditPlan = io.Custom("RS_AUDIT_PLAN")
RSAudit = io.Custom("RS_AUDIT")
RSJudge = io.Custom("RS_JUDGE")
