"""A Hub on loopback, as much of it as snapshots need: one dataset repository, its files, its history."""

import base64
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import quote, unquote, urlsplit

from parts import listening


class Repo:
    """`commits` are the states of its files, the latest last; `answers` is what the Hub says in place of it all."""

    def __init__(self):
        self.commits, self.answers = [{}], None

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]

    def commit(self, lines: list[dict]) -> None:
        files = dict(self.files)
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                del files[line["value"]["path"]]
        self.commits.append(files)


@contextmanager
def serving(repo: Repo):
    """Yields the endpoint's URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = unquote(urlsplit(self.path).path)
            name = path.partition("/resolve/main/")[2]
            if repo.answers:
                self.say(repo.answers[0], b"{}", {"X-Error-Code": repo.answers[1]})
            elif "/tree/" in path:
                rows = [{"type": "file", "path": p, "oid": "0", "size": len(b)} for p, b in repo.files.items()]
                self.say(200, json.dumps(rows).encode())
            elif name in repo.files:
                self.say(
                    200,
                    repo.files[name],
                    {"X-Repo-Commit": "c" * 40, "ETag": f'"{len(repo.commits)}{quote(name, "")}"'},
                )
            else:
                self.say(404, b"{}", {"X-Error-Code": "EntryNotFound"})

        do_HEAD = do_GET

        def do_POST(self):
            body, url = self.rfile.read(int(self.headers["Content-Length"])), f"http://{self.headers['Host']}"
            if "/preupload/" in self.path:
                paths = [f["path"] for f in json.loads(body)["files"]]
                said = {"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]}
            elif "/commit/" in self.path:
                repo.commit([json.loads(line) for line in body.splitlines()])
                said = {"commitUrl": f"{url}/datasets/ann/data/commit/{'c' * 40}", "commitOid": "c" * 40}
            elif "/super-squash/" in self.path:
                said, repo.commits = {}, repo.commits[-1:]
            else:
                said = {"url": f"{url}/datasets/ann/data"}
            self.say(200, json.dumps(said).encode())

        def say(self, status: int, body: bytes, headers: dict | None = None):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    with listening(Handler) as url:
        yield url
