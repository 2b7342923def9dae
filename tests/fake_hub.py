"""A hub of our own: a small HTTP server on this machine that answers as the Hugging Face Hub does.

It serves the files of a folder, `FOLDER/owner/name/...`, keeps what is committed, and speaks enough of the protocol for
the real client: resolve, repository creation, preupload, Git LFS upload and commit. Nothing leaves the machine.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LARGE = (".safetensors", ".pth", ".npz")
COMMIT = "c0ffee" + 34 * "0"
TOKEN = "hf_test"


class FakeHub:
    """The server; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # repositories, `owner/name` below it
        self.requests: list[tuple[str, str]] = []  # what was asked for: (method, path)
        self.created: list[dict] = []  # requests to make a repository
        self.damaged: set[str] = set()  # files whose content is sent with one byte changed
        self.status: int | None = None  # if set, every request is answered with this HTTP status
        self.gone = False
        self.objects: dict[str, bytes] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        """Be gone: refuse connections, and drop those that a client keeps open."""
        self.gone = True
        self.server.shutdown()
        self.server.server_close()

    def connect(self, monkeypatch, cache: Path, *, token: str | None = TOKEN) -> None:
        """Let huggingface_hub of this process talk to this server, with a cache of its own."""
        import huggingface_hub.constants as constants

        monkeypatch.setattr(constants, "ENDPOINT", self.address)
        template = self.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", token)

    def put(self, repo: str, name: str, content: bytes) -> Path:
        path = self.folder / repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    @property
    def downloads(self) -> int:
        """Files sent so far."""
        return sum(1 for method, path in self.requests if method == "GET" and "/resolve/" in path)


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def refuse(self, status: int, code: str) -> None:
            self.answer(status, json.dumps({"error": code}).encode(), X_Error_Code=code, X_Error_Message=code)

        def json(self, content) -> None:
            self.answer(200, json.dumps(content).encode(), Content_Type="application/json")

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def handle_any(self) -> None:
            if hub.gone:
                self.close_connection = True
                return
            hub.requests.append((self.command, self.path))
            content = self.body() if self.command in ("POST", "PUT") else b""
            if hub.status is not None:
                self.refuse(hub.status, "Broken")
            elif self.command in ("GET", "HEAD"):
                self.resolve()
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}" and self.command == "POST":
                self.refuse(401, "Unauthorized")
            else:
                self.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = handle_any

        def resolve(self) -> None:
            found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
            if found is None:
                return self.refuse(404, "Unknown")
            repo, revision, name = found.groups()
            path = hub.folder / repo / name
            if not (hub.folder / repo).is_dir():
                return self.refuse(401, "RepoNotFound")
            if revision not in ("main", "v1", COMMIT):
                return self.refuse(404, "RevisionNotFound")
            if not path.is_file():
                return self.refuse(404, "EntryNotFound")
            content = path.read_bytes()
            if name.endswith(LARGE):
                etag = hashlib.sha256(content).hexdigest()
            else:
                etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            if name in hub.damaged:
                content = content[:-1] + bytes([content[-1] ^ 1])
            return self.answer(200, content, Content_Length=str(len(content)), ETag=f'"{etag}"', X_Repo_Commit=COMMIT)

        def write(self, content: bytes) -> None:
            if self.path == "/api/repos/create":
                request = json.loads(content)
                hub.created.append(request)
                repo = f"{request['organization']}/{request['name']}"
                address = json.dumps({"url": f"{hub.address}/{repo}"}).encode()
                if (hub.folder / repo).is_dir():
                    return self.answer(409, address)
                (hub.folder / repo).mkdir(parents=True)
                return self.answer(200, address)
            if self.path == "/api/validate-yaml":
                return self.json({"errors": [], "warnings": []})
            if "/preupload/" in self.path:
                names = [entry["path"] for entry in json.loads(content)["files"]]
                mode = {True: "lfs", False: "regular"}
                files = [{"path": n, "uploadMode": mode[n.endswith(LARGE)], "shouldIgnore": False} for n in names]
                return self.json({"files": files})
            if self.path.endswith("/info/lfs/objects/batch"):
                objects = json.loads(content)["objects"]
                return self.json({"transfer": "basic", "objects": [self.place(entry) for entry in objects]})
            if self.path.startswith("/upload/"):
                assert hashlib.sha256(content).hexdigest() == self.path.removeprefix("/upload/")
                hub.objects[self.path.removeprefix("/upload/")] = content
                return self.answer(200)
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
                return self.commit(found[1], content)
            return self.refuse(404, "Unknown")

        def place(self, entry: dict) -> dict:
            return {**entry, "actions": {"upload": {"href": f"{hub.address}/upload/{entry['oid']}"}}}

        def commit(self, repo: str, content: bytes) -> None:
            for line in map(json.loads, content.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.put(repo, value["path"], base64.b64decode(value["content"]))
                elif line["key"] == "lfsFile":
                    hub.put(repo, value["path"], hub.objects[value["oid"]])
            self.json({"success": True, "commitOid": COMMIT, "commitUrl": f"{hub.address}/{repo}/commit/{COMMIT}"})

    return Handler
