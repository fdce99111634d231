#!/usr/bin/env bash
# FastChat's judges: a judgment that names both [[A]] and [[B]] is a win for A, and the first number in it is the score.
#
# Packages: fschat 0.2.36, openai 0.28.1, anthropic 2.14.0, transformers 5.24.0, torch 2.13.0; Python 3.11, CPU
# Guess: The verdict is the last one of the judgment, which the prompt asks for at its end; one with two is an error.
# What happens: The text is searched for "[[A]]", then for "[[B]]", then for "[[C]]", wherever they stand: a judge that
#   weighs "[[A]]" and ends with "[[B]]" has chosen A. Of several "[[n]]" the first is the score. The file of judgments
#   (MT-bench's) has the text and the wrong winner side by side.
# Seen:
#   "[[A]] would be too kind: its date is wrong. My final verdict: [[B]]" -> A
#   "At first sight a [[7]]. The date is wrong: Rating: [[2]]" -> 7
# Means: Read g1_judgment, g2_judgment and judgment again before a file of judgments trains anything, and leave out
#   rows with two verdicts.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.13.0
"$folder/venv/bin/pip" install --quiet --no-compile fschat==0.2.36 openai==0.28.1 anthropic==2.14.0 \
  transformers==5.24.0 accelerate==1.15.0 peft==0.21.2
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai
from fastchat.llm_judge.common import Judge, run_judge_pair, run_judge_single

BOTH = "[[A]] would be too kind: its date is wrong. My final verdict: [[B]]"
TWICE = "At first sight a [[7]]. The date is wrong: Rating: [[2]]"


class SaysIt(BaseHTTPRequestHandler):
    """A judge behind OpenAI's API."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = BOTH if "two assistants" in asked["messages"][-1]["content"] else TWICE
        answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": said}}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def answer(text):
    return {"choices": [{"turns": [text]}]}


def judge(kind, output_format, prompt):
    return Judge("gpt-4", dict(type=kind, system_prompt="Judge.", prompt_template=prompt, output_format=output_format))


server = HTTPServer(("127.0.0.1", 0), SaysIt)
threading.Thread(target=server.serve_forever, daemon=True).start()
openai.api_base, openai.api_key = f"http://127.0.0.1:{server.server_port}/v1", "none"
question = {"turns": ["When did Rome fall?"]}
pair = judge("pairwise", "[[A]]", "{question}\nOf two assistants, A: {answer_a}\nB: {answer_b}")
single = judge("single", "[[rating]]", "{question}\nAn assistant: {answer}")
winner, _, said = run_judge_pair(question, answer("In 1476."), answer("In 476."), pair, None)
print(f'seen: "{said}" -> {winner}')
score, _, said = run_judge_single(question, answer("In 1476."), single, None)
print(f'seen: "{said}" -> {score}')
if (winner, score) != ("A", 7):
    sys.exit("FastChat reads judgments with two verdicts otherwise now.")
PYTHON
