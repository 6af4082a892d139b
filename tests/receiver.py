"""Somebody who is told: a small HTTP server on loopback that keeps what it got."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Receiver:
    """Keeps (method, path, body) of each call in `got`, and answers with `status`, or with that of the kind of alert
    in `refuses`."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, Any]] = []
        self.status = 200
        self.refuses: dict[str, int] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                given = self.rfile.read(int(self.headers.get("content-length", 0)))
                body = json.loads(given) if given else None
                receiver.got.append((self.command, self.path, body))
                self.send_response(receiver.refuses.get(body["kind"] if body else "", receiver.status))
                self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_POST = _answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def kinds(self) -> list[str]:
        """The kinds of the alerts that arrived, in order."""
        return [body["kind"] for method, _, body in self.got if method == "POST"]


def secret(folder: Path, name: str, value: str) -> str:
    """Keep a secret in a file; gives the reference for the settings."""
    path = folder / name
    path.write_text(value)
    path.chmod(0o600)
    return f'{{ file = "{name}" }}'
