"""A stand-in for a model: what an audit draws, drawn by hand, so that the truth is known."""

import zlib

import torch

from rs_corrector.testbed import portraits


class Drawn:
    """Portraits with the planted stereotypes; the correction takes the hat off."""

    def __init__(self, broken=()):
        self.broken, self.calls = set(broken), 0

    def __call__(self, unit):
        self.calls += 1
        if self.calls in self.broken:
            raise KeyboardInterrupt
        generator = torch.Generator().manual_seed(zlib.crc32(f"{unit.words}{unit.seed}".encode()))
        rows, _ = portraits.sample_attributes(unit.size, generator, stated=())
        for index, group in enumerate(portraits.GROUPS):
            if group in unit.words:
                rows[:, portraits.COLUMN["group"]] = index
                for name, (stereotyped, value, rate, elsewhere) in portraits.STEREOTYPES.items():
                    shown = torch.rand(unit.size, generator=generator) < (rate if group == stereotyped else elsewhere)
                    rows[:, portraits.COLUMN[name]] = torch.where(shown, value, int(value == 0))
        if unit.prompt == "glasses":
            rows[:, portraits.COLUMN["glasses"]] = 1
        if unit.corrected and "green" in unit.words:
            rows[:, portraits.COLUMN["hat"]] = 0
        return portraits.draw(rows)
