"""Hub ids against a server on this machine that speaks what a download needs of the Hub's API."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tokenizers
import transformers

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
import json, sys
from pathlib import Path
from outsize.errors import OutsizeError
from outsize.formats.prepare import prepare_model
try:
    print(json.dumps(prepare_model(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])))
except OutsizeError as error:
    print(json.dumps(error.to_json()))
"""


class _Hub(BaseHTTPRequestHandler):
    """Serves the folders below `server.root` as models; a file named GATED makes a model gated."""

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def log_message(self, format: str, *args: object) -> None:
        self.server.requests.append(self.path)

    def _answer(self, *, send_body: bool) -> None:
        path = self.path.split("?")[0]
        parts = path.removeprefix("/api/models").strip("/").split("/")
        folder = self.server.root / "/".join(parts[:2])
        if not folder.is_dir():
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, send_body)
        elif (folder / "GATED").exists():
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"}, send_body)
        elif not path.startswith("/api/"):
            self._send_file(folder / "/".join(parts[4:]), send_body)
        elif "tree" in parts:
            self._send(200, json.dumps(_tree(folder)).encode(), {}, send_body)
        else:
            info = {"id": "/".join(parts[:2]), "sha": COMMIT, "siblings": []}
            self._send(200, json.dumps(info).encode(), {}, send_body)

    def _send_file(self, path: Path, send_body: bool) -> None:
        body = path.read_bytes()
        etag = hashlib.sha256(body).hexdigest()
        self._send(200, body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, send_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], send_body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if send_body:
            self.wfile.write(body)


def _tree(folder: Path) -> list[dict[str, object]]:
    return [
        {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": path.name}
        for path in sorted(folder.iterdir())
    ]


class _Server(ThreadingHTTPServer):
    root: Path
    requests: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    server: _Server
    home: Path

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def prepare(
        self, model: str, *more: str, environment: dict[str, str] | None = None
    ) -> dict[str, object]:
        out = self.home / "out"
        out.mkdir(parents=True, exist_ok=True)
        variables = dict(os.environ)
        variables.pop("HF_HUB_OFFLINE", None)
        variables |= {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(self.home / "hf")}
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT, model, str(out), *more],
            env=variables | (environment or {}),
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    server = _Server(("127.0.0.1", 0), _Hub)
    server.root = tmp_path / "hub"
    server.requests = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Hub(server=server, home=tmp_path / "home")
    server.shutdown()
    thread.join()
    server.server_close()


def _tiny_model(folder: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"never asked for")


def test_a_model_is_downloaded_once_and_then_works_offline(hub: Hub) -> None:
    _tiny_model(hub.server.root / "org" / "tiny")
    found = hub.prepare("org/tiny")
    assert (found["name"], found["kind"]) == ("org/tiny", "safetensors")
    assert (Path(str(found["folder"])) / "model.safetensors").is_file()
    asked = [path for path in hub.server.requests if "/resolve/" in path]
    assert any(path.endswith("model.safetensors") for path in asked)
    assert not any(path.endswith(".bin") for path in asked)
    hub.server.requests.clear()
    assert hub.prepare("org/tiny", environment={"HF_HUB_OFFLINE": "1"}) == found
    assert hub.server.requests == []


def test_a_tokenizer_alone_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    _tiny_model(tmp_path / "local")
    _tiny_model(hub.server.root / "org" / "other")
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1}, []))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
    tokenizer.save_pretrained(hub.server.root / "org" / "other")
    found = hub.prepare(str(tmp_path / "local"), "org/other")
    assert (found["name"], found["has_tokenizer"]) == ("local", True)
    assert not any(path.endswith(".safetensors") for path in hub.server.requests)


def test_models_that_the_hub_does_not_give(hub: Hub) -> None:
    (hub.server.root / "org" / "gated").mkdir(parents=True)
    (hub.server.root / "org" / "gated" / "GATED").touch()
    (hub.server.root / "org" / "bin").mkdir()
    (hub.server.root / "org" / "bin" / "pytorch_model.bin").touch()
    (hub.server.root / "org" / "bin" / "config.json").write_text('{"model_type": "llama"}')
    assert "org/gated is gated: accept its terms" in str(hub.prepare("org/gated")["message"])
    unknown = hub.prepare("org/unknown")
    assert unknown["kind"] == "model"
    assert "no local folder org/unknown, and the Hub has no such model" in str(unknown["message"])
    assert "org/bin has no model.safetensors and no" in str(hub.prepare("org/bin")["message"])


def test_a_hub_that_cannot_be_reached_says_what_to_do(hub: Hub) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_ETAG_TIMEOUT": "1"}
    message = str(hub.prepare("org/tiny", environment=nowhere)["message"])
    assert "cannot be downloaded from http://127.0.0.1:9" in message
    assert "Check the network, set HF_ENDPOINT to a mirror, or give the path" in message
    message = str(hub.prepare("org/tiny", environment={"HF_HUB_OFFLINE": "1"})["message"])
    assert "not complete in the local cache, and HF_HUB_OFFLINE is set" in message
    assert hub.server.requests == []
