"""Say which ComfyUI the host tests run on; without one they are skipped, loudly."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # a core each, here and in the servers that tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402

from rs_corrector import comfyui  # noqa: E402

HOST = comfyui.find()
if HOST is None:
    LINE = "NO COMFYUI FOUND: tests/host/ IS SKIPPED. Set COMFYUI_PATH to a checkout to run it."
    collect_ignore = ["host"]
else:
    LINE = f"ComfyUI host: {HOST}, v{comfyui.version(HOST)}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    if config.option.markexpr == "full":  # the slow tests and all others
        for item in items:
            if item.get_closest_marker("cuda") is None:
                item.add_marker(pytest.mark.full)


def pytest_report_header():
    return LINE


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(LINE, bold=True)
