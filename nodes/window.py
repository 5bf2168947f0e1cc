"""Strength and window, as the nodes that correct have them in common."""

from comfy_api.latest import io


def strength_and_window(default, tooltip):
    return [
        io.Float.Input("strength", default=default, min=0.0, max=5.0, step=0.05, tooltip=tooltip),
        io.Float.Input(
            "start_percent",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Start correcting at this share of the sampling schedule. 0 is the beginning.",
        ),
        io.Float.Input(
            "end_percent",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Stop correcting at this share of the sampling schedule. 1 is the end.",
        ),
    ]


def check_window(start_percent, end_percent):
    if start_percent >= end_percent:
        raise ValueError(
            f"expected start_percent below end_percent, got {start_percent} and {end_percent}; lower the start or "
            "raise the end"
        )
