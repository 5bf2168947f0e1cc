"""Find a ComfyUI and run it as a server with this pack installed, over HTTP; never imports it."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import websocket

PACK = Path(__file__).resolve().parents[1]
START_SECONDS = 180
#: Seconds to wait before each attempt to reach a server again that went silent.
ATTEMPTS = (0, 1, 2, 4, 8)


class HostError(RuntimeError):
    """ComfyUI did not start, or refused or failed a workflow; carries what it said."""


class LostServer(HostError):
    """ComfyUI cannot be reached any more, or has forgotten what it was given to do."""


def find():
    """The ComfyUI checkout: $COMFYUI_PATH, the pack's own parents, ~/ComfyUI, ~/comfy/ComfyUI; None if absent."""
    named = [Path(os.environ["COMFYUI_PATH"])] if os.environ.get("COMFYUI_PATH") else []
    for place in [*named, *PACK.parents, Path.home() / "ComfyUI", Path.home() / "comfy" / "ComfyUI"]:
        if (place / "comfy" / "samplers.py").is_file() and (place / "main.py").is_file():
            return place
    return None


def version(host):
    """Version of a checkout, read from its file."""
    scope = (Path(host) / "comfyui_version.py").read_text()
    return scope.rsplit('"', 2)[1]


class Client:
    """A ComfyUI server that runs somewhere, by its address; a context manager.

    Args:
        url: of the server, such as http://127.0.0.1:8188.
    """

    def __init__(self, url):
        self.url, self.client = url.rstrip("/"), uuid.uuid4().hex

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self._connect()
        return self

    def __exit__(self, *exception):
        self.stack.close()

    def _connect(self):
        address = self.url.replace("http", "ws", 1)
        try:
            self.socket = websocket.create_connection(f"{address}/ws?clientId={self.client}", timeout=600)
        except (OSError, websocket.WebSocketException) as error:
            raise HostError(
                f"expected a ComfyUI server at {self.url}, got {error}; start it or correct the URL"
            ) from error
        self.stack.callback(self.socket.close)

    def last_words(self):
        """What to say of a server that stopped."""
        return "its log has the reason"

    def get(self, path, **query):
        """GET -> bytes."""
        suffix = f"?{urllib.parse.urlencode(query)}" if query else ""
        with urllib.request.urlopen(f"{self.url}{path}{suffix}", timeout=60) as answer:
            return answer.read()

    def run(self, workflow, progress=None):
        """Queue an API-format workflow and wait for it.

        Args:
            workflow: {node id: {"class_type", "inputs"}}.
            progress: function (node id, value, maximum), called as samplers step.

        Returns:
            {node id: [PNG bytes, ...]} of every node that shows images.

        Raises:
            HostError: a node refused its inputs or failed; the message is the node's own.
            LostServer: the server is gone. A connection that it closes while the workflow waits or runs is no harm.
        """
        body = json.dumps({"prompt": workflow, "client_id": self.client}).encode()
        request = urllib.request.Request(f"{self.url}/prompt", body, {"Content-Type": "application/json"})
        try:
            with self._reached(), urllib.request.urlopen(request, timeout=60) as answer:
                queued = json.load(answer)
        except urllib.error.HTTPError as error:
            raise HostError(f"expected a workflow that ComfyUI accepts, got: {error.read().decode()}") from error
        if queued["node_errors"]:  # the host still runs what does not depend on the refused nodes
            raise HostError(f"expected a workflow that ComfyUI accepts, got: {json.dumps(queued['node_errors'])}")
        shown = self._follow(queued["prompt_id"], progress or (lambda *step: None))
        with self._reached():
            return {
                node: [self.get("/view", **{k: i[k] for k in ("filename", "subfolder", "type")}) for i in images]
                for node, images in shown.items()
            }

    @contextlib.contextmanager
    def _reached(self):
        """While it lasts, a server that does not answer is lost."""
        try:
            yield
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error

    def _lost(self, error):
        return LostServer(f"expected ComfyUI to go on, got {error!r} after: {self.last_words()}")

    def _follow(self, prompt, progress):
        shown, missed = {}, False
        while True:
            try:
                message = self.socket.recv()
                if message == "":
                    raise websocket.WebSocketConnectionClosedException("the server closed the connection")
            except (websocket.WebSocketException, OSError) as error:  # closed, or silent for long
                missed = True  # what was said meanwhile
                if (ended := self._resume(prompt, error)) is not None:
                    return ended
                continue
            if isinstance(message, bytes):  # previews
                continue
            message = json.loads(message)
            data = message.get("data", {})
            if data.get("prompt_id") != prompt:
                continue
            if message["type"] == "progress":
                progress(data["node"], data["value"], data["max"])
            elif message["type"] == "executed":
                shown[data["node"]] = (data.get("output") or {}).get("images", [])
            _check(message["type"], data)
            if message["type"] == "execution_success":
                while missed:  # until the server has written down what it showed
                    with self._reached():
                        if prompt in (ended := json.loads(self.get(f"/history/{prompt}"))):
                            return _shown(ended[prompt])
                    time.sleep(0.1)
                return shown

    def _resume(self, prompt, error):
        """Connect again; what a workflow shows if it has ended meanwhile, None if it still waits or runs."""
        for seconds in ATTEMPTS:
            time.sleep(seconds)
            with contextlib.suppress(HostError, OSError, http.client.HTTPException):
                self.socket.close()
                self._connect()
                queue, ended = (json.loads(self.get(path)) for path in ("/queue", f"/history/{prompt}"))
                break
        else:
            raise self._lost(error) from error
        if prompt in ended:
            return _shown(ended[prompt])
        if prompt in {each[1] for waiting in queue.values() for each in waiting}:
            return None
        raise LostServer(
            f"expected ComfyUI at {self.url} to know what it was given, got no trace of it; queue it again"
        )


def _check(kind, data):
    """Raise what a message says of a workflow that failed."""
    if kind == "execution_error":
        raise HostError(f"{data['node_type']}: {data['exception_message'].strip()}")
    if kind == "execution_interrupted":
        raise HostError("expected the workflow to finish, got an interruption; queue it again")


def _shown(entry):
    """{node: images} of an entry of a server's history."""
    for kind, data in entry["status"]["messages"]:
        _check(kind, data)
    return {node: (output or {}).get("images", []) for node, output in entry["outputs"].items()}


def install(folder):
    """Put the pack into a folder of ComfyUI's custom nodes: a link, or a copy where links are not allowed."""
    try:
        folder.symlink_to(PACK, target_is_directory=True)
    except OSError:  # on Windows they need a right of their own
        copy_pack(folder)


def copy_pack(folder):
    """The pack as a download has it, without what only its developers need."""
    shutil.copytree(PACK, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "tests", "benchmarks"))


def _folders(models):
    """A folder of models as ComfyUI is told of it: {kind: folder, "base_path": where they are}."""
    models = Path(models).resolve()
    found = {each.name: each.name for each in sorted(models.iterdir()) if each.is_dir()} if models.is_dir() else {}
    if not found:
        raise HostError(
            f"expected a folder with folders of models, such as checkpoints, got {models}; name ComfyUI's own, models"
        )
    return {"base_path": str(models), **found}


class Server(Client):
    """A ComfyUI server on the CPU with nothing but this pack; a context manager.

    Args:
        host: checkout to run.
        python: interpreter that has the host's requirements.
        base: its directory, with the pack installed; without one it gets its own, which is deleted in the end.
        flags: more for its command line.
        models: a folder like ComfyUI's `models`, whose files it uses beside those of `base`.

    Raises:
        HostError: `models` is no such folder.
    """

    def __init__(self, host, python=sys.executable, base=None, flags=(), models=None):
        super().__init__("")
        self.host, self.python, self.base, self.flags = Path(host), python, base, flags
        self.models = _folders(models) if models else {}

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        try:
            if self.base is None:
                self.base = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="rs-corrector-")))
                (self.base / "custom_nodes").mkdir()
                install(self.base / "custom_nodes" / "rs-corrector")
            self._start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def _start(self):
        for folder in ("models", "input", "output", "temp", "user"):
            (self.base / folder).mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log_path = self.base / f"log-{port}.txt"
        command = [self.python, "main.py", "--cpu", "--port", str(port), "--disable-auto-launch"]
        command += ["--base-directory", str(self.base), "--database-url", "sqlite:///:memory:", "--disable-api-nodes"]
        if self.models:
            paths = self.base / "models.yaml"
            paths.write_text(json.dumps({"models": self.models}))  # JSON is YAML
            command += ["--extra-model-paths-config", str(paths)]
        log = self.stack.enter_context(open(self.log_path, "w"))
        self.process = subprocess.Popen([*command, *self.flags], cwd=self.host, stdout=log, stderr=subprocess.STDOUT)
        self.stack.callback(self._stop)
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                self.get("/system_stats")
                break
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise HostError(
                    f"expected ComfyUI at {self.host} to start, got: {self.last_words()}; "
                    f"install its requirements into {self.python}, or use the embedded path"
                )
            time.sleep(0.2)
        self._connect()

    def _stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log(self):
        """Everything the server printed so far."""
        return self.log_path.read_text(errors="replace")

    def last_words(self):
        """The last line that is not empty."""
        return next((line for line in reversed(self.log().splitlines()) if line.strip()), "nothing")
