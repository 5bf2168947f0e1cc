"""An audit on several ComfyUI servers: each draws the next batch; what a lost one left, the others draw."""

import threading
from concurrent.futures import ThreadPoolExecutor

from ..comfyui import LostServer


def draw(folder, samplers, units, progress=lambda done, total: None):
    """Draw what is missing; the pictures are those of a single server.

    Args:
        folder: the `Folder`.
        samplers: functions (unit) -> (N, 3, H, W) RGB in 0..1, one a server.
        units: of the folder's plan; progress: as of `run.draw`.

    Raises:
        LostServer: the last of the servers was lost.
    """
    alive, total = list(samplers), sum(unit.size for unit in units)
    while todo := [unit for unit in units if not folder.has(unit)]:
        drawn = _Drawn(total - sum(unit.size for unit in todo), total, progress)
        with ThreadPoolExecutor(len(alive)) as pool:
            try:
                ended = [pool.submit(_work, folder, sample, todo, drawn) for sample in alive]
                errors = [each.exception() for each in ended]
            except BaseException:  # an interruption, which comes to this thread
                todo.clear()
                raise
        if harm := [error for error in errors if error is not None and not isinstance(error, LostServer)]:
            raise harm[0]
        alive = [sample for sample, error in zip(alive, errors) if error is None]
        if not alive:
            raise errors[-1]


class _Drawn:
    """How many pictures are there, told by several threads."""

    def __init__(self, done, total, progress):
        self.done, self.total, self.progress, self.lock = done, total, progress, threading.Lock()

    def add(self, size):
        with self.lock:
            self.done += size
            self.progress(self.done, self.total)


def _work(folder, sample, todo, drawn):
    """Units from the front of a list that several share, until it is empty, or this server is lost."""
    while todo:
        try:
            unit = todo.pop(0)
        except IndexError:  # another thread was faster
            return
        try:
            folder.write(unit, sample(unit))
            drawn.add(unit.size)
        except LostServer:
            raise
        except BaseException:
            todo.clear()  # nobody goes on with what cannot be drawn
            raise
