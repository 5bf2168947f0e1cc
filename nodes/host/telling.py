"""What nodes say while something goes on: on themselves, in the editor, and in the host's log."""

import logging
import sys
import time

log = logging.getLogger("RS-Corrector")


def tell(node, text):
    """Show a text on a node of the editor; without a server there is none."""
    server = sys.modules.get("server")
    if node is not None and server is not None and getattr(server.PromptServer, "instance", None):
        server.PromptServer.instance.send_progress_text(text, node)


def node_id(node):
    """The id of the node that runs; None where the host does not say it."""
    return getattr(node.hidden, "unique_id", None)


class TimeLeft:
    """How long a loop will take yet, by what it took so far: on a node at every call, in the log once a minute.

    Args:
        what: goes on, "recording green".
        node: id of the node that shows it.
        done: what an earlier run did of it; None takes the first call's, which then says no time.
    """

    def __init__(self, what, node=None, done=0):
        self.what, self.node, self.first = what, node, done
        self.begun, self.logged, self.said = time.monotonic(), None, None

    def __call__(self, done, total, more=""):
        """Say that so much is done of `total`, and more."""
        if done == self.said:
            return
        self.said, now, said = done, time.monotonic(), f"{done} of {total}"
        if self.first is None:
            self.first, self.begun = done, now
        elif done > self.first:
            said += f", about {duration((now - self.begun) * (total - done) / (done - self.first))} left"
        said += f"; {more}" if more else ""
        tell(self.node, said)
        if self.logged is None or now - self.logged >= 60 or done == total:
            log.info("RS-Corrector: %s, %s", self.what, said)
            self.logged = now


def duration(seconds):
    """In words, with about two digits."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
