"""Small real parts for the tests: a student that says what a function says, an endpoint on loopback, people's votes."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

from kdloop import packs
from kdloop.feedback import collect
from kdloop.knowledge.rows import SourceContext
from kdloop.raters.judge import Judge
from kdloop.raters.teacher import Teacher, Teachers
from kdloop.student import Sample, Sampling
from storage import checkpoints, conversations, rounds
from storage.conversations import as_prompt
from storage.migrations import MIGRATIONS, branches


class Spoken:
    """An engine (kdloop.student.Engine) whose completion is `say(messages, seed)`."""

    def __init__(self, say):
        self.say = say

    def complete(self, prompts, sampling, seeds):
        said = [self.say(p, seed) for p, seed in zip(prompts, seeds, strict=True)]
        return [Sample(text, "finished", 5, 5, 0.0, 0.1) for text in said]

    def logprobs(self, prompts, completions):
        return [[-float(len(p[-1]["content"]) % 7 + 1)] * 3 for p in prompts]

    def distributions(self, prompts, completions):
        yield torch.zeros(len(prompts), 5).log_softmax(-1)


@contextmanager
def endpoint(say):
    """An OpenAI-compatible server; `say(request)` gives the text, or (status, body). Yields (url, requests)."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(request)
            said = say(request)
            status, body = said if isinstance(said, tuple) else (200, completion(said))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    with listening(Handler) as url:
        yield f"{url}/v1", seen


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]):
    """The address on loopback, without a slash at its end, where `handler` answers; closed in the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def completion(text):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def thinker(family, directory, prompt, completion, *more):
    """Write a two-layer student with the chat template of one of TRL's families to `directory`: it has learned to say
    this completion, with its thought, after this prompt, and `more` such pairs."""
    import torch
    from families import TEMPLATES, byte_level
    from transformers import LlamaConfig, LlamaForCausalLM

    from kdloop.evaluation.bench import small_student
    from kdloop.methods.objective import sequence
    from kdloop.student.template import Template

    tokenizer = byte_level(TEMPLATES[family])
    Template.of(tokenizer, "on")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **sizes, **ids))
    rows = [sequence(tokenizer, *pair) for pair in ((prompt, completion), *more)]
    small_student.learn(model, lambda: rows, steps=250, rate=5e-3)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def randomized(model, std):
    """The model, with an adapter that changes what it says: a new one adds nothing, as its B matrices are 0."""
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=std)
    return model


def published(db, base, seed=1, std=0.3):
    """A candidate of a round, with other weights than the engine `base` has; with std 0 it says the same."""
    from kdloop.methods.lora import trainable_student
    from kdloop.student.serving import fingerprint

    model, metrics = randomized(trainable_student(base.source, None, torch.float32, seed), std), {}

    def save(directory):
        model.save_pretrained(directory)
        metrics["fingerprint"] = fingerprint(base.load(directory))

    round = rounds.start_round(db, requested="auto", seed=seed, started_by="test", owner="test")
    rounds.release_lease(db, "test")
    return checkpoints.publish(db, round.id, save, parent_id=1, method="dpo", seed=seed, metrics=metrics)


def learned_from(db, pack):
    """A version of the base's line, without weights, whose round was on this pack."""
    recipe = {"name": f"verified@{pack}", "pack": pack}
    id = rounds.start_round(db, requested="dpo", seed=1, started_by="test", owner="me", recipe=recipe).id
    about = {"parent_id": 1, "method": "dpo", "seed": 1, "metrics": {}}
    return checkpoints.publish(db, id, lambda folder: (folder / "w").write_text("w"), **about)


def teacher(url, **values):
    return Teacher(
        **{"name": "tess", "model": "m", "url": url, "terms": "allowed", "retries": 0, "licence": "mit"} | values
    )


def context(db, say, pack="sums", teachers=None, **values):
    """What a source is given in a round on `db`, with one student that says what `say` does."""
    round = rounds.start_round(db, requested="auto", seed=1, started_by="test", owner="me")
    rounds.release_lease(db, "me")
    loaded = packs.load(pack)
    all = Teachers(db, teachers) if teachers else None
    judge = Judge(all, all.all[0], loaded.rubric) if all else None
    writers = ((Spoken(say), checkpoints.serving(db)),)
    return SourceContext(db, round, writers, Sampling(48), loaded, teachers=all, judge=judge, **values)


def vote(db, n, person="ann"):
    """`n` times a person prefers the short one of two completions."""
    for question in packs.prompts("general", "train")[:n]:
        turn = conversations.add_turn(db, conversations.start_conversation(db, person), as_prompt(question))
        both = "Yes, gladly.", f"Well, let me think at length about it: {question}"
        short, long = (conversations.add_completion(db, turn.id, "student", text=t, checkpoint_id=1) for t in both)
        collect.choose(db, person, short, long, "left")


def migrations_before(name: str) -> list:
    """Those of an older kdloop, and the one without which today's functions write no turn."""
    at = [m.__name__ for m in MIGRATIONS].index(name)
    return [*MIGRATIONS[:at], branches]
