"""A Hugging Face Hub on this machine with one data set, `org/name`, of two rows."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40
DATA = b'{"text": "one"}\n{"text": "two"}\n'


class FakeHub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:  # the name that http.server calls
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        path = self.path.split("?")[0]
        info = {"id": "org/name", "sha": COMMIT, "siblings": [{"rfilename": "train.jsonl"}]}
        listing = [{"type": "file", "path": "train.jsonl", "size": len(DATA), "oid": "b" * 40}]
        code, body = 404, b"{}"
        if path.startswith("/api/datasets/org/name/tree/"):
            code, body = 200, json.dumps(listing).encode()
        elif path in ("/api/datasets/org/name", f"/api/datasets/org/name/revision/{COMMIT}"):
            code, body = 200, json.dumps(info).encode()
        elif path == f"/datasets/org/name/resolve/{COMMIT}/train.jsonl":
            code, body = 200, DATA
        self.send_response(code)
        self.send_header("X-Error-Code", "EntryNotFound" if code == 404 else "")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@contextmanager
def running_hub() -> Iterator[str]:
    """Serve until the block ends; give the address for `HF_ENDPOINT`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeHub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
