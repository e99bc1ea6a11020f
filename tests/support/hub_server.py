"""A Hugging Face hub on this machine: the requests that huggingface_hub sends, and faults."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from mlxft.hub import access, checked_file

Fault = Literal["cut", "dead", "corrupt", "short", "long", "held"]
"""Of a file: the first answer ends half-way, all do, a byte is wrong, bytes are missing from its
end, there are too many, or the second half waits for `HubServer.release`."""

LARGE = (".safetensors", ".model")
"""Ends of files that the hub keeps as large ones, with a sha256."""

EIGHT_BILLION = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
"""The config.json of a model of eight billion parameters."""


@dataclass
class Repository:
    """A model on the hub."""

    files: dict[str, bytes]
    revision: str = "a" * 40
    gated: bool = False
    private: bool = False
    downloads: int = 10
    likes: int = 1
    modified: str = "2026-03-01T00:00:00.000Z"
    announced: dict[str, int] = field(default_factory=dict)
    """Sizes that the hub announces in place of the true ones."""


@dataclass(frozen=True)
class Request:
    """What was asked of the hub."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is part of the tests."""


class HubServer:
    """The hub's repositories, and what is wrong with some files."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: dict[str, Fault] = {}
        self.requests: list[Request] = []
        self.uploads: dict[str, bytes] = {}
        """Large files by sha256."""
        self.refuses_writing = False
        self.loses_uploads = False
        self.page: bytes | None = None
        """What a network's sign-in page answers to everything in the hub's place."""
        self.release = threading.Event()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def reset(self) -> None:
        """Forget everything, for the next test."""
        self.release.set()
        self.repositories, self.faults, self.requests = {}, {}, []
        self.uploads = {}
        self.refuses_writing = self.loses_uploads = False
        self.page = None
        self.release = threading.Event()

    def add(self, name: str, folder: Path, **changes: Any) -> Repository:
        """Offer a folder's files as a model."""
        files = {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}
        self.repositories[name] = Repository(files, **changes)
        return self.repositories[name]

    def ranges(self, file: str) -> list[str]:
        """The Range of each request of a file; empty for the whole."""
        return [each.headers.get("range", "") for each in self.requests if each.path.endswith(file)]

    @contextmanager
    def serving(self) -> Iterator[HubServer]:
        self._thread.start()
        try:
            yield self
        finally:
            self.release.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with HubServer().serving() as serving:
        yield serving


@pytest.fixture
def hub(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The hub that the environment names; without a token, and retries don't wait."""
    server.reset()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(checked_file, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(access, "WAIT_SECONDS", 60.0)
    # Its own protocol for large files needs more servers than one.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    return server


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self._send(200, b"")

    def do_GET(self) -> None:
        url = self._remembered()
        parts = [unquote(each) for each in url.path.strip("/").split("/")]
        if self.hub.page is not None:
            self._send(200, self.hub.page)
        elif parts[:2] == ["api", "models"] and len(parts) == 2:
            self._list(parse_qs(url.query))
        elif parts[:2] == ["api", "models"]:
            if repository := self._repository("/".join(parts[2:4])):
                self._send_json(_info("/".join(parts[2:4]), repository))
        elif parts[2:3] == ["resolve"]:
            if repository := self._repository("/".join(parts[:2]), of_file=True):
                self._send_file(repository, "/".join(parts[4:]))
        else:
            self._send(404, b"")

    def do_POST(self) -> None:
        url = self._remembered()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = [unquote(each) for each in url.path.strip("/").split("/")]
        if "authorization" not in {each.lower() for each in self.headers}:
            self._send(401, b"")
        elif self.hub.refuses_writing:
            self._send(403, b"")
        elif url.path == "/api/validate-yaml":
            self._send_json({"errors": [], "warnings": []})
        elif url.path == "/api/repos/create":
            self._create(json.loads(body))
        elif parts[4:5] == ["preupload"]:
            files = json.loads(body)["files"]
            self._send_json({"files": [_upload_mode(each["path"]) for each in files]})
        elif url.path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            self._send_json({"objects": [self._lfs_object(each) for each in objects]})
        elif parts[4:5] == ["commit"]:
            self._commit("/".join(parts[2:4]), body)
        else:
            self._send(404, b"")

    def do_PUT(self) -> None:
        url = self._remembered()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.hub.loses_uploads:
            self._send(400, b"")
            return
        self.hub.uploads[url.path.rpartition("/")[2]] = body
        self._send(200, b"")

    def _create(self, asked: Mapping[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            self._send(409, json.dumps({"url": f"{self.hub.address}/{name}"}).encode())
            return
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self.hub.repositories[name] = Repository({}, private=private)
        self._send_json({"url": f"{self.hub.address}/{name}"})

    def _lfs_object(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        found = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] in self.hub.uploads:
            return found
        upload = {"href": f"{self.hub.address}/large/{asked['oid']}", "header": {}}
        return found | {"actions": {"upload": upload}}

    def _commit(self, name: str, body: bytes) -> None:
        repository = self.hub.repositories[name]
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.uploads[value["oid"]]
        commit = {"commitUrl": f"{self.hub.address}/{name}/commit/{'c' * 40}"}
        self._send_json(commit | {"commitOid": "c" * 40, "success": True})

    def _remembered(self) -> Any:
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, unquote(url.path), parse_qs(url.query), headers)
        self.hub.requests.append(request)
        return url

    def _repository(self, name: str, *, of_file: bool = False) -> Repository | None:
        """The model, or None after a refusal as the hub sends it."""
        found = self.hub.repositories.get(name)
        knows_caller = "authorization" in {each.lower() for each in self.headers}
        if found is None or (found.private and not knows_caller):
            self._refuse(401, "RepoNotFound")
        elif of_file and found.gated and not knows_caller:
            self._refuse(401, "GatedRepo")
        else:
            return found
        return None

    def _list(self, query: Mapping[str, list[str]]) -> None:
        text = query.get("search", [""])[0].casefold()
        found = [
            (name, each)
            for name, each in self.hub.repositories.items()
            if text in name.casefold() and not each.private
        ]
        key = {"lastModified": "modified"}.get(query["sort"][0], query["sort"][0])
        found.sort(key=lambda each: getattr(each[1], key), reverse=True)
        limit = int(query.get("limit", ["1000"])[0])
        self._send_json([_info(name, each) for name, each in found[:limit]])

    def _send_file(self, repository: Repository, path: str) -> None:
        if path not in repository.files:
            self._refuse(404, "EntryNotFound")
            return
        content, fault = repository.files[path], self.hub.faults.get(path)
        if fault == "corrupt":
            content = content[:-1] + bytes((content[-1] ^ 1,))
        elif fault == "long":
            content += b"more than that"
        elif fault == "short":
            content = content[:-3]
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        if start >= len(content) > 0:
            self._send(416, b"")
            return
        body = content[start:]
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("X-Repo-Commit", repository.revision)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = len(body) // 2
        self.wfile.write(body[:half])
        if fault in ("cut", "dead"):
            if fault == "cut":
                del self.hub.faults[path]
            self.close_connection = True
            return
        if fault == "held":
            self.hub.release.wait(60)
        self.wfile.write(body[half:])

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": "no"})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _upload_mode(path: str) -> dict[str, Any]:
    mode = "lfs" if path.endswith(LARGE) else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False}


def _info(name: str, repository: Repository) -> dict[str, Any]:
    return {
        "_id": "0",
        "id": name,
        "modelId": name,
        "sha": repository.revision,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "downloads": repository.downloads,
        "likes": repository.likes,
        "lastModified": repository.modified,
        "tags": [],
        "siblings": [_sibling(repository, path) for path in sorted(repository.files)],
    }


def _sibling(repository: Repository, path: str) -> dict[str, Any]:
    content = repository.files[path]
    size = repository.announced.get(path, len(content))
    git = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    entry: dict[str, Any] = {"rfilename": path, "size": size, "blobId": git}
    if path.endswith(LARGE):
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"sha256": sha256, "size": size, "pointerSize": 134}
    return entry
