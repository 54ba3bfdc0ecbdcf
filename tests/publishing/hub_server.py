"""A stand-in for the Hugging Face Hub: what `huggingface_hub` asks of its HTTP API for one upload and one download.

Repositories of models with branches of commits; regular files travel in the commit, others as LFS objects. A commit is
refused if its branch has moved, as on the Hub.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_secret"
LFS = (".safetensors", ".npy", ".parquet")
GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


@dataclass
class Repository:
    """A repository: branches to commits, commits to files."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        """Add a commit; return its id."""
        number = hashlib.sha1(f"{branch} {len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits[number] = files
        self.branches[branch] = number
        self.messages.append(message)
        return number

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, or of its id."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Hub:
    """What the server holds, and the requests that it got."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    """Names of files whose download fails."""
    meanwhile: Callable[[], object] | None = None
    """What happens while an upload prepares its commit."""

    def create(self, name: str, private: bool = False) -> Repository:
        """Make a repository with a first commit, as the Hub does."""
        made = self.repositories[name] = Repository(private)
        made.commit("main", {".gitattributes": GITATTRIBUTES}, "initial commit")
        return made

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a revision."""
        repository = self.repositories[name]
        return repository.commits[repository.resolve(revision) or ""]


class Handler(BaseHTTPRequestHandler):
    """Answers for a `Hub`."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self.answer_to(
            {
                r"/api/models/([^/]+/[^/]+)": lambda name: self.info(name, "main"),
                r"/api/models/([^/]+/[^/]+)/revision/(.+)": self.info,
                r"/api/models/([^/]+/[^/]+)/tree/([^/]+)": self.tree,
                r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)": self.file,
            }
        )

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.answer_to(
            {
                r"/api/repos/create": self.create,
                r"/api/validate-yaml": self.check_card,
                r"/api/models/([^/]+/[^/]+)/branch/(.+)": self.branch,
                r"/api/models/([^/]+/[^/]+)/preupload/(.+)": self.preupload,
                r"/api/models/([^/]+/[^/]+)/commit/(.+)": self.commit,
                r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": self.batch,
            }
        )

    def do_PUT(self) -> None:
        self.answer_to({r"/objects/([0-9a-f]{64})": self.put})

    def answer_to(self, routes: dict[str, Any]) -> None:
        """Call the function of the first route that fits."""
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {unquote(path)}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        for pattern, function in routes.items():
            found = re.fullmatch(pattern, path)
            if found:
                return function(*map(unquote, found.groups()))
        self.refuse(404, "EntryNotFound", f"no such address: {self.command} {path}")

    def send(self, value: Any, status: int = 200, **headers: str) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for key, each in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key.replace("_", "-"), each)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.send({"error": message}, status, X_Error_Code=code, X_Error_Message=message)

    def opened(self, name: str, revision: str) -> tuple[Repository, str] | None:
        """A repository and a commit; answers itself where there is none to be seen."""
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not self.known):
            self.refuse(404, "RepoNotFound", "Repository not found")
        elif found.gated and not self.known:
            self.refuse(403, "GatedRepo", "Access to this model is restricted")
        elif (commit := found.resolve(revision)) is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return found, commit
        return None

    @property
    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def info(self, name: str, revision: str) -> None:
        if found := self.opened(name, revision):
            repository, commit = found
            files = [{"rfilename": each} for each in repository.commits[commit]]
            self.send({"id": name, "sha": commit, "private": repository.private, "siblings": files, "tags": []})

    def tree(self, name: str, revision: str) -> None:
        if found := self.opened(name, revision):
            repository, commit = found
            entries = []
            for path, content in repository.commits[commit].items():
                entry = {"type": "file", "path": path, "size": len(content), "oid": git_id(content)}
                if path.endswith(LFS):
                    digest = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
                entries.append(entry)
            self.send(entries)

    def file(self, name: str, revision: str, path: str) -> None:
        if found := self.opened(name, revision):
            repository, commit = found
            content = repository.commits[commit].get(path)
            if content is None:
                return self.refuse(404, "EntryNotFound", "Entry not found")
            if path in self.hub.lost:
                return self.refuse(500, "", "Internal error")
            digest = hashlib.sha256(content).hexdigest() if path.endswith(LFS) else git_id(content)
            self.send(content, ETag=f'"{digest}"', X_Repo_Commit=commit, X_Linked_Size=str(len(content)))

    def create(self) -> None:
        given = json.loads(self.body)
        name = f"{given['organization']}/{given['name']}"
        if not self.known:
            return self.refuse(401, "", "Invalid username or password.")
        if name in self.hub.repositories:
            return self.send({"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}, 409)
        self.hub.create(name, given.get("visibility") == "private" or given.get("private") is True)
        self.send({"url": f"{self.hub.url}/{name}"})

    def check_card(self) -> None:
        wrong = "license: 5" in json.loads(self.body)["content"]
        found = {"errors": [{"message": '"license" must be a string'}] if wrong else [], "warnings": []}
        self.send(found, 400 if wrong else 200)

    def branch(self, name: str, branch: str) -> None:
        repository = self.hub.repositories[name]
        if branch in repository.branches:
            return self.refuse(409, "", "Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        self.send({})

    def preupload(self, name: str, revision: str) -> None:
        if found := self.opened(name, revision):
            repository, commit = found
            answers = []
            for each in json.loads(self.body)["files"]:
                path = each["path"]
                there = repository.commits[commit].get(path)
                digest = (
                    None
                    if there is None
                    else hashlib.sha256(there).hexdigest()
                    if path.endswith(LFS)
                    else git_id(there)
                )
                mode = "lfs" if path.endswith(LFS) else "regular"
                answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": digest})
            self.send({"files": answers})

    def batch(self, name: str) -> None:
        if self.hub.meanwhile is not None:
            self.hub.meanwhile()
        objects = []
        for each in json.loads(self.body)["objects"]:
            action = {"upload": {"href": f"{self.hub.url}/objects/{each['oid']}"}}
            objects.append(each if each["oid"] in self.hub.objects else {**each, "actions": action})
        self.send({"transfer": "basic", "objects": objects})

    def put(self, digest: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == digest
        self.hub.objects[digest] = self.body
        self.send({})

    def commit(self, name: str, revision: str) -> None:
        if not self.known:
            return self.refuse(401, "", "Invalid username or password.")
        repository = self.hub.repositories[name]
        if revision not in repository.branches:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repository.branches[revision]):
            return self.refuse(412, "", "A commit has happened since. Please refresh and try again.")
        files = dict(repository.commits[repository.branches[revision]])
        for line in lines[1:]:
            key, value = line["key"], line["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
            else:
                return self.refuse(400, "", f"no such operation: {key}")
        commit = repository.commit(revision, files, header["summary"])
        self.send({"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})


def git_id(content: bytes) -> str:
    """The id that git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A stand-in that answers on a free port as long as the block lasts."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
