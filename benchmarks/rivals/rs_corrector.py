"""Ours: the shipped corrector through RSCorrectorApply."""

from functools import partial

STRENGTHS = (0.5, 0.75, 1.0, 1.25)
GRID = [{"strength": s} for s in (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.15, 1.25)]


def prepare(host, case, obey=True):
    """obey: leave a prompt alone that asks for the attribute itself, the node's default."""
    corrector = shipped(host)

    def at(strength):
        return partial(host.sample, host.apply(corrector, case.group, strength, obey_requests=obey))

    return at


def took(host, case):
    """What making it took for this group; its seconds, where they are known, are a share of all groups'."""
    config = shipped(host).model.config
    seconds = config.training.get("seconds")
    return {
        "make_evaluations": config.training[case.group]["evaluations"],
        "make_s": seconds and round(sum(seconds.values()) / len(config.groups), 1),
    }


def shipped(host):
    return host.run("RSCorrectorLoader", corrector_name="testbed.safetensors")[0]
