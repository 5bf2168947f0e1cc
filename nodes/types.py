"""Socket types of the pack."""

from comfy_api.latest import io

#: A corrector, wrapped as `host.manage` returns it.
RSCorrector = io.Custom("RS_CORRECTOR")
#: A set of preference pairs, `rs_corrector.pairs.Pairs`.
RSPairs = io.Custom("RS_PAIRS")
