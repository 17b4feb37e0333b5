"""A hub in miniature on the loopback address: it speaks the hub's protocol and misbehaves on request.

    with HubServer(folder) as hub:
        os.environ["HF_ENDPOINT"] = hub.url                # folder/<org>/<repo>/<file>, datasets under datasets/
        hub.faults["model.safetensors"] = ["cut"]          # the next request for that file is cut at half

Faults are lists, one word a request, used up from the front:

    cut          half of what was asked for, then the connection is closed     429        too many, Retry-After: 3
    truncate     half a file, announced and ended as if it were the whole      500        an error of the server
    corrupt      the right length, one byte changed
    down         the connection is closed without an answer

`hub.xet = True` sends the two headers of the hub's Xet storage with every large file, as the hub does for nearly all
of them by now. The storage itself speaks a protocol of its own; `plain_xet` is a stand-in for the client's side of it,
which fetches the same bytes over HTTP. Everything the client does besides (since 1.32: files shared by repositories) is
its own code.

As a program it makes the miniature suite and serves it until it is ended:  python tests/hub_server.py FOLDER
"""

import argparse
import hashlib
import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


def commit_of(repo: Path) -> str:
    """A commit hash that depends on the files' contents."""
    digest = hashlib.sha1()
    for path in sorted(p for p in repo.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(repo)).encode() + path.read_bytes())
    return digest.hexdigest()


class HubServer:
    """The folder as a hub. `requests` logs (method, path, Range header); `commits` are fixed at the start."""

    def __init__(self, folder: Path, port: int = 0):
        self.folder = Path(folder)
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.requests: list[tuple[str, str, str | None]] = []
        self.xet = False
        repos = [p.relative_to(self.folder).as_posix() for p in self.folder.glob("*/*") if p.parts[-2] != "datasets"]
        repos += [p.relative_to(self.folder).as_posix() for p in self.folder.glob("datasets/*/*")]
        self.commits = {repo: commit_of(self.folder / repo) for repo in repos}
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def plain_xet(*, incomplete_path: Path, xet_file_data, headers: dict, expected_size: int, **_) -> None:
    """In the place of `huggingface_hub.file_download.xet_get`: the file over HTTP, from the route it was given."""
    from huggingface_hub.file_download import http_get

    with Path(incomplete_path).open("wb") as f:
        http_get(xet_file_data.refresh_route, f, headers=headers, expected_size=expected_size)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        url = urlsplit(self.path)
        path = url.path.replace("refs%2Fconvert%2Fparquet", "main")  # the hub's conversion is the same files here
        path = unquote(path).strip("/")
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if path == "api/models":
            wanted = parse_qs(url.query)
            owner, part = wanted.get("author", [""])[0], wanted.get("search", [""])[0]
            found = [r for r in self.hub.commits if r.startswith(owner + "/") and part in r]
            return self.send_json([{"id": r, "modelId": r} for r in sorted(found)])
        if path.startswith("api/"):
            return self.answer_api(path.removeprefix("api/").removeprefix("models/"))
        repo, _, rest = path.partition("/resolve/")
        if repo not in self.hub.commits:
            return self.send_error_code(401 if not repo.startswith("datasets/") else 404, "RepoNotFound")
        revision, _, name = rest.partition("/")
        if revision not in ("main", self.hub.commits[repo]):
            return self.send_error_code(404, "RevisionNotFound")
        file = self.hub.folder / repo / name
        if not file.is_file():
            return self.send_error_code(404, "EntryNotFound", repo)
        self.send_file(file, repo)

    def answer_api(self, path: str):
        """api/models/ORG/REPO/revision/REV and .../tree/REV: what snapshot_download and list_repo_files ask for."""
        repo = next((r for r in self.hub.commits if path == r or path.startswith(r + "/")), None)
        if repo is None:
            return self.send_error_code(404, "RepoNotFound")
        root = self.hub.folder / repo
        files = sorted(p for p in root.rglob("*") if p.is_file())
        if path.startswith(f"{repo}/tree/"):
            entries = []
            for p in files:
                sha = hashlib.sha256(p.read_bytes()).hexdigest()
                entry = {
                    "type": "file",
                    "path": p.relative_to(root).as_posix(),
                    "size": p.stat().st_size,
                    "oid": sha[:40],
                }
                if p.suffix != ".json":
                    entry["lfs"] = {"oid": sha, "size": p.stat().st_size, "pointerSize": 134}
                entries.append(entry)
            return self.send_json(entries)
        siblings = [{"rfilename": p.relative_to(root).as_posix(), "size": p.stat().st_size} for p in files]
        name = repo.removeprefix("datasets/")
        self.send_json({"id": name, "modelId": name, "sha": self.hub.commits[repo], "siblings": siblings})

    def send_json(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_error_code(self, status: int, code: str, repo: str | None = None):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        if repo:
            self.send_header("X-Repo-Commit", self.hub.commits[repo])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_file(self, file: Path, repo: str):
        data = file.read_bytes()
        etag = hashlib.sha256(data).hexdigest() if file.suffix != ".json" else hashlib.sha1(data).hexdigest()
        faults = self.hub.faults[file.name]
        fault = None
        if faults and (self.command == "GET" or faults[0] in ("429", "500", "down")):
            fault = faults.pop(0)
        if fault == "down":
            self.close_connection = True
            return
        if fault in ("429", "500"):
            self.send_response(int(fault))
            if fault == "429":
                self.send_header("Retry-After", "3")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0]) if self.headers.get("Range") else 0
        body = data[start:]
        if fault == "corrupt":
            body = body[:-1] + bytes([body[-1] ^ 1])
        if fault == "truncate":
            body = body[: len(body) // 2]
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", self.hub.commits[repo])
        self.send_header("ETag", f'"{etag}"')
        if file.suffix != ".json":  # as for the hub's large files
            self.send_header("X-Linked-Etag", f'"{etag}"')
            self.send_header("X-Linked-Size", str(len(data)))
            if self.hub.xet:
                self.send_header("X-Xet-Hash", hashlib.sha256(b"xet" + data).hexdigest())  # any other 64 digits
                self.send_header("X-Xet-Refresh-Route", f"{self.hub.url}{urlsplit(self.path).path}")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
            self.close_connection = fault == "cut"


if __name__ == "__main__":
    from tiny_hub import make_tiny_hub

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="made if it is empty")
    parser.add_argument("--port", type=int, default=0, help="0: any free one, printed")
    arguments = parser.parse_args()
    make_tiny_hub(arguments.folder)
    with HubServer(arguments.folder, arguments.port) as hub:
        print(f"HF_ENDPOINT={hub.url}", flush=True)
        hub.thread.join()
