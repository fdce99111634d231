"""A server on loopback that speaks vLLM's protocol, or SGLang's, over the 2-layer student: /v1/models, /v1/completions
with token ids, echo and a stream, and adapters that are loaded while it runs, each under a name.

Written after vLLM 0.32 (vllm/entrypoints) and SGLang's documentation: where they refuse, it refuses in their words.
"""

import json
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path

import torch
from parts import listening

from kdloop.student import Sampling
from kdloop.student.transformers import TransformersEngine


class Small:
    """`answers` are (status, body); a body of bytes is a stream."""

    def __init__(self, student: str, owner: str):
        self.base, self.owner = TransformersEngine(student, dtype=torch.float32), owner
        self.adapters, self.loaded, self.lock = {}, [], threading.Lock()
        self.scores = True  # False: it knows nothing of log-probabilities of given tokens
        self.breaks_off = False  # a stream, amid
        self.max_rank = 64
        self.completed = Counter()  # completions sampled of each model's name
        self.at_once = self.most_at_once = 0  # requests under way
        self.is_dead = lambda completed: False  # from then on it samples nothing

    def models(self):
        return 200, {"object": "list", "data": [{"id": "student", "object": "model", "owned_by": self.owner}]}

    def load(self, asked: dict):
        with self.lock:
            return self.load_one(asked)

    def load_one(self, asked: dict):
        name, path = asked["lora_name"], Path(asked["lora_path"])
        if name in self.adapters:
            return 400, {"error": {"message": f"The lora adapter '{name}' has already been loaded.", "code": 400}}
        if not path.is_dir():
            return 404, {"error": {"message": f"The lora adapter '{name}' does not exist.", "code": 404}}
        rank = json.loads((path / "adapter_config.json").read_text())["r"]
        if rank > self.max_rank:
            return 500, {"error": {"message": f"LoRA rank {rank} is greater than max_lora_rank {self.max_rank}."}}
        self.adapters[name] = self.base.load(path)
        self.loaded.append(name)
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, asked: dict):
        if self.adapters.pop(asked["lora_name"], None) is None:
            return 404, {"error": {"message": f"The lora adapter '{asked['lora_name']}' cannot be found.", "code": 404}}
        return 200, f"Success: LoRA adapter '{asked['lora_name']}' removed successfully."

    def complete(self, asked: dict):
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.complete_one(asked)
        finally:
            self.at_once -= 1

    def complete_one(self, asked: dict):
        name = asked["model"].removeprefix("student:") if self.owner == "sglang" else asked["model"]
        engine = self.base if name == "student" else self.adapters.get(name)
        if engine is None:
            return 404, {"error": {"message": f"The model `{name}` does not exist.", "code": 404}}
        with self.lock:
            if asked.get("echo"):
                return 200, self.echoed(engine, asked)
            if "logprob_token_ids" in asked:
                return 200, self.next_tokens(engine, asked)
            self.completed[name] += 1
            if self.is_dead(self.completed):
                return 503, {"error": {"message": "The engine is dead.", "code": 503}}
            return 200, self.sampled(engine, asked)

    def echoed(self, engine, asked: dict) -> dict:
        (scores,) = engine.score([asked["prompt"][:1]], [asked["prompt"][1:]])
        logprobs = {"token_logprobs": [None, *scores, -1.0]} if self.scores else None
        return body([choice("", "length", logprobs)], len(asked["prompt"]), 1)

    def next_tokens(self, engine, asked: dict) -> dict:
        """A choice a prompt, each with the log-probabilities of the named tokens."""
        assert len(asked["logprob_token_ids"]) <= 128 and asked["return_tokens_as_token_ids"]
        choices = []
        for i, prompt in enumerate(asked["prompt"]):
            ids = asked["logprob_token_ids"]
            scores = engine.score([prompt] * len(ids), [[id] for id in ids])
            named = {f"token_id:{id}": score for id, (score,) in zip(ids, scores, strict=True)}
            told = named if self.scores else {"token_id:1": -0.5}  # an older vLLM's: the likeliest
            choices.append(choice("", "length", {"top_logprobs": [told]}) | {"index": i})
        return body(choices[::-1], 1, len(choices))  # in any order

    def sampled(self, engine, asked: dict):
        sampling = Sampling(asked["max_tokens"], asked["temperature"], asked["top_p"], asked["top_k"])
        texts, ids, ends = [""], [], asked["stop_token_ids"]
        for drawn in engine.decode([asked["prompt"]], sampling, [asked["seed"]]):
            ids.append(drawn[0])
            texts.append(engine.tokenizer.decode(ids, skip_special_tokens=True))
        reason = "stop" if ids[-1] in ends else "length"
        whole = body([choice(texts[-1], reason)], len(asked["prompt"]), len(ids))
        if not asked.get("stream"):
            return whole
        grown = [choice(now[len(before) :], None) for before, now in pairwise(texts)]
        grown[-1]["finish_reason"] = reason
        chunks = [{**whole, "choices": [c], "usage": None} for c in grown] + [{**whole, "choices": []}]
        if self.breaks_off:
            return f"data: {json.dumps(chunks[0])}\n\n".encode()
        return "".join(f"data: {json.dumps(c)}\n\n" for c in chunks).encode() + b"data: [DONE]\n\n"


def choice(text: str, reason: str | None, logprobs: dict | None = None) -> dict:
    return {"index": 0, "text": text, "finish_reason": reason, "logprobs": logprobs}


def body(choices: list[dict], prompt: int, completion: int) -> dict:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": choices, "usage": usage}


@contextmanager
def served(small: Small):
    """The address, ".../v1"."""
    loads_at = "" if small.owner == "sglang" else "/v1"
    routes = {f"{loads_at}/load_lora_adapter": small.load, f"{loads_at}/unload_lora_adapter": small.unload}
    routes["/v1/completions"] = small.complete

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.say(*(small.models() if self.path == "/v1/models" else (404, {})))

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.say(*(routes[self.path](asked) if self.path in routes else (404, {})))

        def say(self, status, told):
            kinds = {bytes: "text/event-stream", str: "text/plain", dict: "application/json"}
            text = json.dumps(told) if isinstance(told, dict) else told
            self.send_response(status)
            self.send_header("Content-Type", kinds[type(told)])
            self.end_headers()
            self.wfile.write(text if isinstance(text, bytes) else text.encode())

        def log_message(self, *_):
            pass

    with listening(Handler) as url:
        yield f"{url}/v1"
