"""Clients of other people's against the running app: `python -m tests.real.clients [--keep FOLDER] [CLIENT ...]`.

CLIENT is node (openai for Node), python (openai for Python), litellm (its proxy in between), open_webui (Open WebUI
itself, by its own page in Chromium), or one that measures the student: lm_eval or inspect (evaluators.py). Each is
installed, pinned, into FOLDER (a new temporary one where none is named; some 4 GB with Open WebUI, which installs
PyTorch: where pip would take its CUDA build, PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS name the CPU one). Prints a row for
each thing that was shown; ends with 1 where something was not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from openai import OpenAIError
from playwright.sync_api import Error

from kdloop.evaluation.bench.api import app
from kdloop.evaluation.bench.app_process import AppProcess, free_port
from storage import conversations, keys
from tests.real import evaluators

NODE = "openai@7.59.0"
LITELLM = ("litellm[proxy]==1.106.12",)
OPEN_WEBUI = ("open-webui==0.12.4", "torch==2.13.0")
LM_EVAL = ("lm_eval[api]==0.4.13", "torch==2.13.0")
INSPECT = ("inspect_ai==0.3.285", "openai==3.57.0")
HERE = Path(__file__).parent
START_SECONDS = 900
Shown = Iterator[str]
FAILED = (subprocess.CalledProcessError, RuntimeError, AssertionError, ValueError, httpx.HTTPError, OpenAIError, Error)


def installed(folder: Path, *packages: str) -> Path:
    """The `bin` of a virtual environment with these packages."""
    if not (folder / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", "--no-compile", *packages], check=True)
        (folder / "done").touch()
    return folder / "bin"


@contextmanager
def started(command: list, health: str, log: Path, **environment: str) -> Iterator[str]:
    """The URL of a server that is started with `--port PORT`, once `health` answers."""
    port = free_port()
    url, env = f"http://127.0.0.1:{port}", os.environ | environment
    with log.open("wb") as out:
        child = subprocess.Popen([*command, "--port", str(port)], env=env, stdout=out, stderr=out, cwd=log.parent)
    try:
        until = time.monotonic() + START_SECONDS
        while not answers(url + health):
            if child.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(1)
        yield url
    finally:
        child.terminate()
        child.wait(60)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def python(ours: AppProcess, folder: Path) -> Shown:
    import openai

    client = openai.OpenAI(base_url=f"{ours.url}/v1", api_key="none")
    talk = [{"role": "user", "content": "Name a bird."}]
    first = client.chat.completions.create(model="kdloop", messages=talk, max_tokens=24)
    talk += [first.choices[0].message.model_dump(include={"role", "content"}), {"role": "user", "content": "Another?"}]
    with client.chat.completions.stream(model="kdloop", messages=talk, max_tokens=24) as events:
        last = [e for e in events if e.type == "chunk"][-1].snapshot
    ids = [conversations.completion(db(ours), k.id.removeprefix("chatcmpl-")).turn_id for k in (first, last)]
    assert len({conversations.turn(db(ours), turn).conversation_id for turn in ids}) == 1
    yield f"{openai.__version__}: a completion, and a second turn by the library's stream, in the same conversation"


def node(ours: AppProcess, folder: Path) -> Shown:
    folder.mkdir(exist_ok=True)
    subprocess.run(["npm", "install", "--silent", "--prefix", folder, NODE], check=True)
    (folder / "openai_node.mjs").write_text((HERE / "openai_node.mjs").read_text())
    one_a_minute = keys.new_key(db(ours), "node", 1)
    command = ["node", folder / "openai_node.mjs", ours.url, one_a_minute]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as script:
        for line in script.stdout:
            said = json.loads(line)
            if said == "kill":
                kill_student(ours)
            elif said.startswith("left "):
                yield left(ours, said.removeprefix("left chatcmpl-"))
            else:
                yield said
    assert script.returncode == 0, "openai_node.mjs ended with an error"


def kill_student(ours: AppProcess) -> None:
    """Its server, once it has begun to write: after the request has come, before the completion has its length."""
    children = psutil.Process(ours.process.pid).children()
    (server,) = (c for c in children if "kdloop.student.llama_server" in c.cmdline())
    busy = server.cpu_times().user + 0.3
    while server.cpu_times().user < busy:
        time.sleep(0.05)
    server.kill()


def left(ours: AppProcess, id: str) -> str:
    until = time.monotonic() + 60
    while (status := conversations.completion(db(ours), id).status) == "open" and time.monotonic() < until:
        time.sleep(0.2)
    assert status == "stopped", status
    return "a stream that is left: the student stops, the text so far is stored as stopped"


def litellm(ours: AppProcess, folder: Path) -> Shown:
    import openai

    where = {"model": "openai/kdloop", "api_base": f"{ours.url}/v1", "api_key": "none"}
    models = [{"model_name": "student", "litellm_params": where}]
    config = {"model_list": models, "general_settings": {"master_key": "sk-proxy"}}
    bin = installed(folder, *LITELLM)
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    command = [bin / "litellm", "--config", folder / "config.yaml"]
    with started(command, "/health/liveliness", folder / "proxy.log", PATH=f"{bin}:{os.environ['PATH']}") as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-proxy")
        ask = {"model": "student", "messages": [{"role": "user", "content": "Name a tree."}], "max_tokens": 24}
        raw = client.chat.completions.with_raw_response.create(**ask, user="ann")
        whole, header = raw.parse(), raw.headers.get("llm_provider-x-kdloop-completion")
        yield f"a completion through it; its id is {'the receipt' if whole.id == header else whole.id}"
        chunks = list(client.chat.completions.create(**ask, user="ann", stream=True))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        stored = conversations.completion(db(ours), chunks[0].id.removeprefix("chatcmpl-"))
        assert stored.text == text
        yield "a stream, its text as it was stored, its id the receipt"
        said = httpx.post(f"{ours.url}/v1/feedback", json={"completion": chunks[0].id, "thumb": "down"}, timeout=60)
        assert said.json()["feedback"][0]["thumb"] == "down", said.text
        yield "a thumb by that receipt, sent here"
        try:
            client.chat.completions.create(**ask, extra_body={"min_p": 0.5})
        except openai.BadRequestError as error:
            assert "min_p" in str(error)
            yield "a field that is refused: 400, the sentence with the field in it"
        else:
            raise AssertionError("min_p was not refused")


def db(ours: AppProcess) -> Path:
    return ours.home / "kdloop.db"


def open_webui(ours: AppProcess, folder: Path) -> Shown:
    from tests.real import open_webui_page

    bin = installed(folder, *OPEN_WEBUI)
    environment = {"OPENAI_API_BASE_URLS": f"{ours.url}/v1", "DATA_DIR": str(folder / f"data{time.time():.0f}")}
    command = [bin / "open-webui", "serve", "--host", "127.0.0.1"]
    with started(command, "/health", folder / "open_webui.log", **open_webui_page.ENVIRONMENT | environment) as url:
        yield from open_webui_page.shown(ours, url, folder)


def lm_eval(ours: AppProcess, folder: Path) -> Shown:
    yield from evaluators.lm_eval(ours, Path(tempfile.mkdtemp(dir=folder.parent)), installed(folder, *LM_EVAL))


def inspect(ours: AppProcess, folder: Path) -> Shown:
    yield from evaluators.inspect(ours, Path(tempfile.mkdtemp(dir=folder.parent)), installed(folder, *INSPECT))


CLIENTS: dict[str, tuple[str, Callable[[AppProcess, Path], Shown]]] = {
    "python": ("openai for Python", python),
    "node": (f"openai for Node, {NODE}", node),
    "litellm": (f"LiteLLM's proxy, {LITELLM[0]}", litellm),
    "lm_eval": (f"lm-eval, {LM_EVAL[0]}", lm_eval),
    "inspect": (f"inspect, {INSPECT[0]}", inspect),
    "open_webui": (f"Open WebUI, {OPEN_WEBUI[0]}", open_webui),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.real.clients", description=__doc__.split("\n")[0])
    parser.add_argument("clients", nargs="*", choices=[[], *CLIENTS], metavar="CLIENT")
    parser.add_argument("--keep", type=Path, help="a folder for what is installed, to be used again")
    parser.add_argument("--engine", default="llamacpp", help="the app's: llamacpp, or transformers")
    args, missed = parser.parse_args(), 0
    print("| client | shown |\n|---|---|", flush=True)
    variables = {"KDLOOP_ROUND_VOTES": "0", "KDLOOP_LOG": "json", "KDLOOP_ENGINE": args.engine}
    with tempfile.TemporaryDirectory() as temporary, app(**variables) as ours:
        (folder := (args.keep or Path(temporary)).resolve()).mkdir(exist_ok=True)
        ours.start()
        for name in args.clients or CLIENTS:
            title, show = CLIENTS[name]
            try:
                for words in show(ours, folder / name):
                    print(f"| {title} | {words} |", flush=True)
            except FAILED as error:
                print(f"| {title} | NOT SHOWN: {str(error)[-1000:]} |", flush=True)
                missed += 1
        for line in ours.said().splitlines():
            json.loads(line)
        print(f"\nThe app's log: {len(ours.said().splitlines())} lines, each an object of JSON")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
