"""A server on this machine that answers as the Hub's API does, to what huggingface_hub asks it."""

import base64
import functools
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_the_owners"
READER = "hf_a_readers"  # may write nothing
OWNER = "ada"
LFS = (".safetensors", ".bin")


@dataclass
class Repository:
    """Commits by their name, branches by theirs; a commit is files by their paths."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        content = repr((len(self.commits), sorted(files.items()))).encode()
        name = hashlib.sha1(content).hexdigest()
        self.commits[name], self.branches[branch] = dict(files), name
        return name

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches[branch]]


class Hub:
    """Repositories by OWNER/NAME, and for a part of a path what to do at the next request for it.

    What can be done: a status, "break" (after half of the bytes), "large" and "unsized" (what it says of a
    file's size), "escape" (marks that would be names of files elsewhere).
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}  # of LFS, by SHA-256
        self.plans: dict[str, list[str]] = {}
        self.requests: list[str] = []
        self.tokens: set[str] = set()
        self.url = ""

    def put(self, name: str, files: dict[str, bytes], **about: bool) -> Repository:
        repository = self.repositories[name] = Repository(**about)
        repository.commit(files)
        return repository


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: Hub, *arguments) -> None:
        self._hub = hub
        super().__init__(*arguments)

    def log_message(self, *words) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._hub.requests.append(f"{self.command} {path}")
        self._token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self._hub.tokens.add(self._token)
        plan = next((plan for part, plan in self._hub.plans.items() if part in path and plan), [])
        self._doing = plan.pop(0) if plan else ""
        if self._doing.isdigit():
            return self._refuse(int(self._doing))
        if self._token not in ("", TOKEN, READER):
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        for pattern, answer in ROUTES.items():
            if found := re.fullmatch(pattern, path):
                return answer(self, body, **found.groupdict())
        self._refuse(404)

    def _repository(self, name: str) -> Repository | None:
        repository = self._hub.repositories.get(name)
        if repository is None or (repository.private and self._token != TOKEN):
            self._refuse(404 if self._token else 401, "RepoNotFound", "Repository not found")
            return None
        return repository

    def _commit_of(self, repository: Repository, revision: str) -> str | None:
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit

    def _about(self, body: bytes, name: str, revision: str = "main") -> None:
        if not (repository := self._repository(name)) or not (
            commit := self._commit_of(repository, revision)
        ):
            return
        siblings = [{"rfilename": path} for path in repository.commits[commit]]
        about = {"_id": "1", "id": name, "modelId": name, "private": repository.private, "tags": []}
        self._json(about | {"sha": commit, "downloads": 0, "likes": 0, "siblings": siblings})

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if not self._may_write(name):
            return
        if name in self._hub.repositories:
            return self._refuse(409, "", "You already created this model repo")
        private = asked.get("private", False) or asked.get("visibility") == "private"
        self._hub.put(name, {".gitattributes": b"*.safetensors filter=lfs"}, private=private)
        self._json({"url": f"{self._hub.url}/{name}", "name": name, "id": "1"})

    def _may_write(self, name: str) -> bool:
        if self._token != TOKEN or not name.startswith(f"{OWNER}/"):
            self._refuse(403, "", "You don't have the rights to write here")
            return False
        return True

    def _validate(self, body: bytes) -> None:
        self._json({"errors": [], "warnings": []})

    def _preupload(self, body: bytes, name: str, revision: str) -> None:
        if self._may_write(name) and (repository := self._repository(name)):
            there = repository.files(revision)
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LFS) else "regular",
                    "shouldIgnore": False,
                    "oid": _oid(file["path"], there[file["path"]]) if file["path"] in there else None,
                }
                for file in json.loads(body)["files"]
            ]
            self._json({"files": files})

    def _batch(self, body: bytes, name: str) -> None:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self._hub.url}/stored/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _store(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self._hub.stored[oid] = body
        self._json({})

    def _branch(self, body: bytes, name: str, branch: str) -> None:
        if self._may_write(name) and (repository := self._repository(name)):
            if branch in repository.branches:
                return self._refuse(409, "", "Reference already exists")
            repository.branches[branch] = repository.branches["main"]
            self._json({})

    def _commit(self, body: bytes, name: str, revision: str) -> None:
        if not self._may_write(name) or not (repository := self._repository(name)):
            return
        files = dict(repository.files(revision))
        for line in map(json.loads, body.splitlines()):
            kind, value = line["key"], line["value"]
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self._hub.stored[value["oid"]]
            elif kind == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(files, revision)
        self._json({"commitUrl": f"{self._hub.url}/{name}/commit/{commit}", "commitOid": commit})

    def _resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        if not (repository := self._repository(name)) or not (
            commit := self._commit_of(repository, revision)
        ):
            return
        if repository.gated and self._token != TOKEN:
            return self._refuse(403, "GatedRepo", "Access to this model is restricted")
        if path not in repository.commits[commit]:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        data = repository.commits[commit][path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_oid(path, data)}"', "Accept-Ranges": "bytes"}
        if self._doing == "escape":
            headers["ETag"] = '"../../../escaped"'
        size = {"large": 1 << 40}.get(self._doing, len(data))
        if (path.endswith(LFS) and self._doing != "unsized") or self._doing == "large":
            headers |= {"X-Linked-Size": str(size), "X-Linked-ETag": headers["ETag"]}
        if self._doing == "unsized":
            return self._send(200, b"", headers | {"Transfer-Encoding": "chunked"}, length=None)
        part = data[: len(data) // 2] if self._doing == "break" and self.command == "GET" else data
        self._send(200, part, headers, len(data))
        if part is not data:
            self.close_connection = True

    def _refuse(self, status: int, code: str = "", message: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(status, json.dumps({"error": message}).encode(), {k: v for k, v in headers.items() if v})

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str], length: int | None = -1) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(len(data) if length == -1 else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
ROUTES: dict[str, Callable[..., None]] = {
    "/api/repos/create": _Handler._create,
    "/api/validate-yaml": _Handler._validate,
    f"/api/models/{NAME}": _Handler._about,
    f"/api/models/{NAME}/revision/(?P<revision>[^/]+)": _Handler._about,
    f"/api/models/{NAME}/preupload/(?P<revision>[^/]+)": _Handler._preupload,
    f"/api/models/{NAME}/commit/(?P<revision>[^/]+)": _Handler._commit,
    f"/api/models/{NAME}/branch/(?P<branch>[^/]+)": _Handler._branch,
    rf"/{NAME}\.git/info/lfs/objects/batch": _Handler._batch,
    "/stored/(?P<oid>[0-9a-f]+)": _Handler._store,
    f"/{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)": _Handler._resolve,
}


def _oid(path: str, data: bytes) -> str:
    """What git, or its extension for large files, calls a content."""
    if path.endswith(LFS):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve a Hub."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
