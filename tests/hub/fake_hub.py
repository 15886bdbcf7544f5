"""A Hub of a few hundred lines on 127.0.0.1: what `from_pretrained`, `load_dataset` and uploads ask of the real one.

Repositories with commits, branches, private ones, tokens, LFS uploads, ranged downloads. It can be told to corrupt a
file, to hang up in the middle of a download and to refuse further uploads. Everything is bounded: the size of a
request, their number, and its life; nothing leaves the machine.
"""

import base64
import hashlib
import json
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

MAX_BODY = 64 * 2**20
MAX_REQUESTS = 2000
MAX_SECONDS = 300
LFS_SUFFIXES = (".safetensors", ".parquet", ".png", ".webp")
FLIPPED = bytes(255 - byte for byte in range(256))
KINDS = {"models": "model", "datasets": "dataset"}


@dataclass
class Repo:
    kind: str
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # sha -> files
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        content = repr(sorted((path, hashlib.sha256(data).hexdigest()) for path, data in files.items()))
        sha = hashlib.sha1(f"{len(self.commits)} {content}".encode()).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        return sha

    def resolve(self, revision: str) -> str | None:
        sha = self.branches.get(revision) or self.tags.get(revision, revision)
        return sha if sha in self.commits else None


class FakeHub:
    """`with FakeHub() as hub:` serves at `hub.url` until the block ends, or `MAX_SECONDS` have passed.

    Attributes:
        repos: (kind, id) -> `Repo`.
        tokens: the valid ones.
        requests: every request so far, `"METHOD /path"`.
        corrupted: file names whose bytes are flipped on the way out.
        cut: file name -> how many bytes of it are sent before the connection drops.
        uploads_left: how many more LFS uploads succeed; `None` is no limit.
        gated: repositories whose files nobody may read yet.
    """

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.tokens = {"hf_valid"}
        self.requests: list[str] = []
        self.corrupted: set[str] = set()
        self.cut: dict[str, int] = {}
        self.uploads_left: int | None = None
        self.gated: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FakeHub":
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self._timer = threading.Timer(MAX_SECONDS, self._server.shutdown)
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(self, *_):
        self._timer.cancel()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def files(self, kind: str, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        repo = self.repos[kind, repo_id]
        return repo.commits[repo.resolve(revision)]


def oid(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_lfs(path: str) -> bool:
    return path.endswith(LFS_SUFFIXES)


def card_errors(content: str) -> list[str]:
    """What the real Hub's validation finds wrong with the metadata of a card, in part."""
    try:
        metadata = yaml.safe_load(content.split("---")[1]) if content.startswith("---") else {}
    except yaml.YAMLError as error:
        return [str(error)]
    errors = [] if isinstance(metadata.get("license", ""), str | list) else ['"license" must be a string']
    for entry in metadata.get("model-index", []):
        if not entry.get("name"):
            errors.append('"model-index[0].name" is required')
        for result in entry.get("results", []):
            for part, names in (("task", ("type",)), ("dataset", ("type", "name"))):
                errors += [f'"{part}.{name}" is required' for name in names if not result.get(part, {}).get(name)]
            errors += ['"metrics.value" is required' for metric in result["metrics"] if "value" not in metric]
    return errors


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.handle_one()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def handle_one(self):
        hub = self.hub
        length = int(self.headers.get("Content-Length") or 0)
        with hub.lock:
            hub.requests.append(f"{self.command} {self.path}")
        if len(hub.requests) > MAX_REQUESTS or length > MAX_BODY:
            self.close_connection = True
            return self.reply(503, {"error": "out of bounds"})
        self.body = self.rfile.read(length)
        url = urllib.parse.urlsplit(self.path)
        parts = [urllib.parse.unquote(part) for part in url.path.strip("/").split("/")]
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.authorized = token in hub.tokens
        if token and not self.authorized:
            return self.error(401, None, "Invalid credentials in Authorization header")
        if parts[0] == "api":
            return self.api(parts[1:])
        if parts[0] == "lfs":
            return self.upload(parts[1])
        kind = "dataset" if parts[0] == "datasets" else "model"
        parts = parts[1:] if parts[0] == "datasets" else parts
        if parts[1].endswith(".git"):
            return self.lfs_batch()
        if len(parts) > 4 and parts[2] == "resolve":
            return self.download(kind, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self.error(404, "EntryNotFound", "no such page")

    # Answers

    def reply(self, status: int, content, headers: dict[str, str] | None = None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def error(self, status: int, code: str | None, message: str):
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply(status, {"error": message}, headers)

    def repo(self, kind: str, repo_id: str) -> Repo | None:
        found = self.hub.repos.get((kind, repo_id))
        if found is not None and repo_id in self.hub.gated:
            self.error(403, "GatedRepo", f"Access to {kind} {repo_id} is restricted")
            return None
        if found is None or (found.private and not self.authorized):
            self.error(404 if self.authorized else 401, "RepoNotFound", "Repository not found")
            return None
        return found

    # The API

    def api(self, parts: list[str]):
        if parts == ["whoami-v2"]:
            ok = {"type": "user", "name": "org", "auth": {"accessToken": {"role": "write"}}}
            return self.reply(200, ok) if self.authorized else self.error(401, None, "Invalid user token")
        if parts == ["validate-yaml"]:
            errors = card_errors(json.loads(self.body)["content"])
            return self.reply(
                400 if errors else 200, {"errors": [{"message": text} for text in errors], "warnings": []}
            )
        if parts == ["repos", "create"]:
            return self.create()
        if parts[0] not in KINDS or len(parts) < 3:
            return self.error(404, None, "no such endpoint")
        kind, repo_id, rest = KINDS[parts[0]], "/".join(parts[1:3]), parts[3:]
        repo = self.repo(kind, repo_id)
        if repo is None:
            return None
        if rest and rest[0] == "branch":
            repo.branches.setdefault("/".join(rest[1:]), repo.branches["main"])
            return self.reply(200, {})
        if rest == ["refs"]:
            named = {"branches": repo.branches, "tags": repo.tags}
            refs = {
                kind: [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha} for name, sha in found.items()]
                for kind, found in named.items()
            }
            return self.reply(200, refs | {"converts": []})
        if rest and rest[0] == "tag":
            if self.command == "DELETE":
                del repo.tags[rest[1]]
            elif (name := json.loads(self.body)["tag"]) in repo.tags:
                return self.error(409, None, "Tag reference exists already")
            else:
                repo.tags[name] = repo.resolve(rest[1])
            return self.reply(200, {})
        verb, revision = (rest[0], rest[1]) if len(rest) > 1 else ("revision", "main")
        sha = repo.resolve(revision)
        if sha is None and (repo.commits or verb in ("tree", "paths-info")):
            return self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = repo.commits.get(sha, {})
        if verb in ("preupload", "commit"):
            if not self.authorized:
                return self.error(403, None, "You need a write token")
            return self.preupload() if verb == "preupload" else self.commit(repo, repo_id, revision, files)
        if verb == "tree":
            entries = self.tree(files, below := "/".join(rest[2:]))
            if below and not entries:
                return self.error(404, "EntryNotFound", f"{below} does not exist on {revision}")
            return self.reply(200, entries)
        if verb == "paths-info":
            return self.reply(200, self.paths_info(files))
        info = {
            "_id": "0", "id": repo_id, "modelId": repo_id, "sha": sha, "private": repo.private, "gated": False,
            "disabled": False, "downloads": 0, "likes": 0, "tags": [], "cardData": None,
            "lastModified": "2026-01-01T00:00:00.000Z", "siblings": [{"rfilename": path} for path in files],
        }  # fmt: skip
        return self.reply(200, info)

    def create(self):
        if not self.authorized:
            return self.error(401, None, "Invalid username or password.")
        asked = json.loads(self.body)
        repo_id = f"{asked.get('organization') or 'org'}/{asked['name']}"
        key = (asked.get("type") or "model", repo_id)
        url = f"{self.hub.url}/{'datasets/' if key[0] == 'dataset' else ''}{repo_id}"
        if key in self.hub.repos:
            return self.reply(409, {"error": "You already created this repo", "url": url})
        # Made empty, with nothing but its attributes file, as on the real Hub.
        self.hub.repos[key] = Repo(key[0], bool(asked.get("private") or asked.get("visibility") == "private"))
        self.hub.repos[key].commit({".gitattributes": b""})
        return self.reply(200, {"url": url, "name": repo_id, "id": "0"})

    @staticmethod
    def entry(path: str, data: bytes) -> dict:
        entry = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        return entry | ({"lfs": {"oid": oid(data), "size": len(data), "pointerSize": 128}} if is_lfs(path) else {})

    def tree(self, files: dict[str, bytes], below: str) -> list[dict]:
        recursive = "recursive=true" in self.path.lower()
        prefix, entries, folders = f"{below}/" if below else "", [], set()
        for path, data in files.items():
            if not path.startswith(prefix):
                continue
            inner = path[len(prefix) :].split("/")
            folders |= {
                prefix + "/".join(inner[:depth]) for depth in range(1, len(inner) if recursive else min(2, len(inner)))
            }
            if recursive or len(inner) == 1:
                entries.append(self.entry(path, data))
        return [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)] + entries

    def paths_info(self, files: dict[str, bytes]) -> list[dict]:
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(self.body)["paths"]
        else:
            paths = urllib.parse.parse_qs(self.body.decode())["paths"]
        paths = [paths] if isinstance(paths, str) else paths
        found = [self.entry(path, files[path]) for path in paths if path in files]
        folders = [path for path in paths if any(name.startswith(f"{path}/") for name in files)]
        return found + [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]

    # Uploads

    def preupload(self):
        asked = json.loads(self.body)["files"]
        modes = [
            {"path": file["path"], "uploadMode": "lfs" if is_lfs(file["path"]) else "regular", "shouldIgnore": False}
            for file in asked
        ]
        return self.reply(200, {"files": modes})

    def lfs_batch(self):
        if not self.authorized:
            return self.error(401, None, "Invalid credentials")
        objects = []
        for asked in json.loads(self.body)["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.blobs:
                answer["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{asked['oid']}", "header": {}}}
            objects.append(answer)
        return self.reply(200, {"transfer": "basic", "objects": objects})

    def upload(self, name: str):
        with self.hub.lock:
            if self.hub.uploads_left is not None:
                self.hub.uploads_left -= 1
            if self.hub.uploads_left is not None and self.hub.uploads_left < 0:
                return self.error(403, None, "upload refused")
            if oid(self.body) != name:
                return self.error(400, None, "checksum mismatch")
            self.hub.blobs[name] = self.body
        return self.reply(200, {})

    def commit(self, repo: Repo, repo_id: str, branch: str, files: dict[str, bytes]):
        files = dict(files)
        for line in self.body.decode().splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                if value["oid"] not in self.hub.blobs:
                    return self.error(400, None, f"{value['path']} was not uploaded")
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif operation["key"] == "deletedFile":
                files.pop(value["path"], None)
        sha = repo.commit(files, branch)
        return self.reply(
            200, {"commitUrl": f"{self.hub.url}/{repo_id}/commit/{sha}", "commitOid": sha, "success": True}
        )

    # Downloads

    def download(self, kind: str, repo_id: str, revision: str, path: str):
        repo = self.repo(kind, repo_id)
        if repo is None:
            return None
        sha = repo.resolve(revision)
        if sha is None:
            return self.error(404, "RevisionNotFound", "no such revision")
        if path not in repo.commits[sha]:
            return self.error(404, "EntryNotFound", "Entry not found")
        data = repo.commits[sha][path]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{oid(data)}"', "Accept-Ranges": "bytes"}
        if is_lfs(path):
            headers |= {"X-Linked-Etag": f'"{oid(data)}"', "X-Linked-Size": str(len(data))}
        name = path.rpartition("/")[2]
        if name in self.hub.corrupted:
            data = data.translate(FLIPPED)
        status = 200
        if (wanted := self.headers.get("Range")) and self.command == "GET":
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or len(data) - 1), len(data) - 1) + 1
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            status, data = 206, data[start:stop]
        if name in self.hub.cut and self.command == "GET":
            return self.hang_up(status, data, headers, self.hub.cut[name])
        return self.reply(status, data, headers)

    def hang_up(self, status: int, data: bytes, headers: dict[str, str], after: int):
        """Promises all of it, sends a part and drops the connection."""
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:after])
        self.wfile.flush()
        self.close_connection = True
        return
