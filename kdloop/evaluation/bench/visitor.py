"""A browser tab without a browser: what a page's buttons post to the app, over HTTP."""

import json
import secrets
from collections import Counter

import httpx


class Visitor:
    """A session, the app's endpoints by name, and, in `seen`, what came of its calls. Raises httpx.HTTPError where the
    app is gone."""

    def __init__(self, url: str, seen: Counter, timeout: float = 600):
        self.http, self.seen, self.session = httpx.Client(base_url=url, timeout=timeout), seen, secrets.token_hex(6)
        self.ids = {d["api_name"]: d for d in self.http.get("/config").json()["dependencies"]}
        self.given: list = []  # what the last call that succeeded has returned
        self.call("on_load")
        self.person = str(self.given[0]).partition(".")[0] if self.given else ""

    def call(self, name: str, *said: object, by: int = 0, **event) -> bool:
        """Whether it succeeded. What the browser does not know, state above all, it posts as null. `by` says which of
        the endpoint's events it was."""
        body = {
            "data": [*said, *[None] * (len(self.ids[name]["inputs"]) - len(said))],
            "fn_index": self.ids[name]["id"],
            "session_hash": self.session,
            "event_data": event or None,
            "trigger_id": (self.ids[name]["targets"] or [[None]])[by][0],
        }
        joined = self.http.post("/gradio_api/queue/join", json=body)
        if joined.status_code != 200:
            self.seen["refused: " + joined.text[:60]] += 1
            return False
        mine = joined.json()["event_id"]
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as lines:
            for line in lines.iter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "estimation":
                    self.seen["longest queue"] = max(self.seen["longest queue"], message["rank"] + 1)
                if message.get("msg") == "process_completed" and message.get("event_id") == mine:
                    return self.ended(name, message)
        self.seen[f"no answer from {name}"] += 1
        return False

    def ended(self, name: str, message: dict) -> bool:
        if not message["success"]:
            self.seen[f"error in {name}: {message['output'].get('error')}"] += 1
            return False
        self.given = message["output"].get("data", [])
        return True
