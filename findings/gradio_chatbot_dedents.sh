#!/usr/bin/env bash
# gr.Chatbot takes the indentation off its texts, and a Markdown code block turns into prose.
#
# Packages: gradio 6.31.0; Python 3.11, CPU
# Guess: The text of a message reaches the page as it is, and the history that comes back is the one that was sent.
# What happens: Each text goes through inspect.cleandoc, which is made for docstrings: white space at both ends
#   goes, and what the second and later lines share of indentation. Code that Markdown marks by four spaces is no
#   code block any more, and the component's history differs from what was generated.
# Seen:
#   returned by the app 'Put this into the file:\n\n    for name in names:\n        greet(name)\n'
#   sent to the page    'Put this into the file:\n\nfor name in names:\n    greet(name)'
#   the page's own history, sent back as an input: 'Put this into the file:\n\nfor name in names:\n    greet(name)'
# Means: Code of a student is shown (and judged) broken, and votes, prompt caches or training rows made from the
#   component's history are about another text. Keep the conversation on the server, and fence indented code before
#   it is shown.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile gradio==6.31.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import gradio as gr
from gradio_client import Client

TEXT = "Put this into the file:\n\n    for name in names:\n        greet(name)\n"
with gr.Blocks() as demo:
    chat, seen = gr.Chatbot(), gr.JSON()
    gr.Button().click(lambda: [{"role": "assistant", "content": TEXT}], None, chat, api_name="answer")
    gr.Button().click(lambda history: [history[0]["content"][0]["text"]], chat, seen, api_name="read")
_, address, _ = demo.launch(prevent_thread_lock=True, quiet=True)
client = Client(address, verbose=False)
shown = client.predict(api_name="/answer")
text = shown[0]["content"][0]["text"]
print(f"returned by the app {TEXT!r}")
print(f"sent to the page    {text!r}")
print(f"the page's own history, sent back as an input: {client.predict(shown, api_name='/read')[0]!r}")
if text == TEXT:
    sys.exit("gr.Chatbot sends the text as it is now.")
PYTHON
