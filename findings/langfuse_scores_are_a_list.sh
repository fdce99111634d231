#!/usr/bin/env bash
# Langfuse's client sends scores as a list to where its API takes one; its last major version sent them elsewhere.
#
# Packages: langfuse 4.18.0, langfuse 5.0.4; Python 3.11, CPU
# Guess: create_score sends one score as a JSON object to POST /api/public/scores, as the API reference has it, in
#   every version of the client.
# What happens: 4.18.0 sends {"batch": [events of the type score-create]} to /api/public/ingestion; 5.0.4 sends a JSON
#   list of scores to /api/public/scores, which is in no object. What a server rejects of it is not sent again.
# Seen:
#   langfuse 4.18.0: POST /api/public/ingestion, dict with batch, metadata: score-create, score-create
#   langfuse 5.0.4: POST /api/public/scores, list of 2: useful, stars
# Means: A server that takes people's scores from Langfuse's clients reads three bodies: an object, a list, and a batch
#   of events among others.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/scores.py" <<'PYTHON'
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from threading import Thread

from langfuse import Langfuse

WANTED = {
    "4.18.0": "POST /api/public/ingestion, dict with batch, metadata: score-create, score-create",
    "5.0.4": "POST /api/public/scores, list of 2: useful, stars",
}
seen = []


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if isinstance(body, list):
            told = f"list of {len(body)}: {', '.join(score['name'] for score in body)}"
        else:
            told = f"dict with {', '.join(sorted(body))}: {', '.join(event['type'] for event in body['batch'])}"
        seen.append(f"POST {self.path}, {told}")
        batch = isinstance(body, dict)
        reply = json.dumps({"successes": [], "errors": []} if batch else {"message": "Accepted"}).encode()
        self.send_response(207 if batch else 202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}"
client = Langfuse(public_key="pk", secret_key="sk", base_url=address, flush_interval=30)
client.create_score(trace_id="0123456789abcdef0123456789abcdef", name="useful", value=1, data_type="BOOLEAN")
client.create_score(trace_id="0123456789abcdef0123456789abcdef", name="stars", value=0.75)
client.flush()
print(f"langfuse {version('langfuse')}: {'; '.join(seen)}")
if seen != [WANTED[version("langfuse")]]:
    sys.exit("Langfuse's client sends scores otherwise now.")
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile langfuse==4.18.0
"$folder/venv/bin/python" "$folder/scores.py"
"$folder/venv/bin/pip" install --quiet --no-compile langfuse==5.0.4
"$folder/venv/bin/python" "$folder/scores.py"
