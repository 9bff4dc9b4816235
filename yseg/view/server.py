"""A server for a browser on this machine: the client, and the chunks of the volumes that are shown, and nothing else."""

import errno
import re
import secrets
import sys
import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from yseg.config import InputError
from yseg.view.arrays import CHUNKS, ENDING, METADATA, chunk_box, encoded, group_metadata, level_metadata
from yseg.view.client import INDEX
from yseg.view.shown import Shown

VOLUMES = "volumes"  # the folder in which they are
HOST = "127.0.0.1"  # no other machine reaches it
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm",
          ".json": "application/json"}
_BYTES = "application/octet-stream"
_CHUNK = re.compile(rf"(\d{{1,9}})/{CHUNKS}/(\d{{1,9}})/(\d{{1,9}})/(\d{{1,9}})")
_EVERY_SECONDS = 10.0  # a client that has gone is noticed
# The browser itself refuses to fetch anything from elsewhere for the client.
_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:"


class Answer(NamedTuple):
    """What is sent."""

    body: bytes
    type: str = _BYTES


class Server(ThreadingHTTPServer):
    """The server; `serve_forever` runs it, and `server_close` ends it.

    Its addresses begin with a random word, so that nobody else on this machine can read the volumes, and no page of the internet
    that is open in the same browser. shown: the volumes; client: URL of the client; volumes: that below which each volume lies
    as NAME.zarr; events: the path at which a client hears whether the server is still there; closing: whether it is not.
    """

    daemon_threads = True

    def __init__(self, shown: Sequence[Shown], files: Mapping[str, Path], port: int = 0) -> None:
        """Listen.

        Args:
          shown: the volumes.
          files: of the client, see `yseg.view.client.client_files`.
          port: 0 = any that is free.

        Raises:
          InputError: the port cannot be had.
        """
        self.shown, self._files, self.closing = list(shown), files, threading.Event()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            why = "is taken by another program" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
            raise InputError(f"--port={port}: {why}; must be a free port of this machine, or 0 = any") from error
        word = secrets.token_urlsafe(12)
        self._root, self.events = f"/v/{word}/", f"/events/{word}"  # where the client, which is made for Python, looks for them
        self.client = f"http://{HOST}:{self.server_port}{self._root}"
        self.volumes = f"{self.client}{VOLUMES}"

    def server_close(self) -> None:
        """End it."""
        self.closing.set()
        super().server_close()

    def answer(self, path: str) -> Answer | None:
        """What lies at the path of a URL; None = nothing.

        Raises:
          InputError, ValueError, OSError: a volume cannot be read.
        """
        if not path.startswith(self._root):
            return None
        path = path.removeprefix(self._root)
        file = self._files.get(path or INDEX)
        if file:
            return Answer(file.read_bytes(), _TYPES.get(file.suffix, _BYTES))
        folder, _, rest = path.partition("/")
        name, _, rest = rest.partition("/")
        shown = next((one for one in self.shown if folder == VOLUMES and f"{one.name}{ENDING}" == name), None)
        return _of_volume(shown, rest) if shown else None


def _of_volume(shown: Shown, path: str) -> Answer | None:
    """What lies at a path below a volume."""
    levels = shown.levels.levels
    if path == METADATA:
        return Answer(group_metadata(shown.header, levels, shown.name), _TYPES[".json"])
    number, _, rest = path.partition("/")
    if rest == METADATA and number in map(str, range(len(levels))):
        return Answer(level_metadata(levels[int(number)], shown.levels.dtype), _TYPES[".json"])
    found = _CHUNK.fullmatch(path)
    which, z, y, x = map(int, found.groups()) if found else (len(levels), 0, 0, 0)
    if which >= len(levels) or chunk_box(levels[which], (z, y, x)) is None:
        return None
    return Answer(encoded(shown.levels.chunk(which, (z, y, x)), levels[which]))


class _Handler(BaseHTTPRequestHandler):
    """Answers a browser."""

    server: Server
    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True  # else each answer waits for the browser to say that it has the head

    def do_GET(self) -> None:
        """Send what lies at the path."""
        path = self.path.partition("?")[0]
        if path == self.server.events:
            self._stay()
            return
        try:
            found = self.server.answer(path)
        except (InputError, ValueError, OSError) as error:
            print(" ".join(str(error).split()), file=sys.stderr, flush=True)
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, Answer(str(error).encode(), "text/plain; charset=utf-8"))
            return
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, Answer(b""))
        else:
            self._send(HTTPStatus.OK, found)

    def do_HEAD(self) -> None:
        """Send what would be sent before that."""
        self.do_GET()

    def do_OPTIONS(self) -> None:
        """Other viewers of this machine, on pages of other ports, may read, too."""
        self._send(HTTPStatus.OK, Answer(b""))

    def _stay(self) -> None:
        """Keep a connection open, which shows the client that the server is there, until one of them has gone."""
        self.close_connection = True
        try:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(b":\n\n")
            while not self.server.closing.wait(_EVERY_SECONDS):
                self.wfile.write(b":\n\n")
        except ConnectionError:
            pass

    def _send(self, status: HTTPStatus, answer: Answer) -> None:
        try:
            self.send_response(status)
            for key, value in {
                    "Content-Type": answer.type, "Content-Length": str(len(answer.body)), "Access-Control-Allow-Origin": "*",
                    "Access-Control-Allow-Headers": "*", "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
                    "Cache-Control": "max-age=86400" if status == HTTPStatus.OK else "no-store",
                    "Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer",
                    "X-Content-Type-Options": "nosniff"}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(answer.body)
        except ConnectionError:
            self.close_connection = True  # the browser wants it no more, as the view has moved on

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""
        del format, args
