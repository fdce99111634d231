"""A ZeroGPU Space as far as it goes without its hardware: the app under `spaces` (PyPI) and a device API on loopback.

Run as a script this is the app, in a process whose PyTorch says that it was built for CUDA, and whose tensors move to
no device: what `spaces` asks of a GPU before a call's function runs. All else is `spaces` itself: its patches of
PyTorch, its forked workers, its queues and errors. What a call computes, it computes on the CPU.
"""

import json
import runpy
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

GRANTED = {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "one"}
NO_QUOTA = {"left": 7, "wait": 3600}
VISITOR = {"X-IP-Token": "e30.e30.e30"}  # a token whose payload is {}: who visits a Space has one by the Hub's proxy


class DeviceApi:
    """What was asked of it (path, parameters), in order. It lends while `lends`."""

    def __init__(self):
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.lends = True

    def of(self, path: str) -> list[dict[str, str]]:
        return [parameters for asked, parameters in self.asked if asked == path]


@contextmanager
def device_api():
    """(its address, a DeviceApi)."""
    api = DeviceApi()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            url = urlsplit(self.path)
            api.asked.append((url.path, {k: v[0] for k, v in parse_qs(url.query).items()}))
            scheduled = url.path == "/schedule"
            self.send_response(200 if api.lends or not scheduled else 429)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps((GRANTED if api.lends else NO_QUOTA) if scheduled else {}).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", api
    finally:
        server.shutdown()
        server.server_close()


def variables(home, api_url: str) -> dict[str, str]:
    """A Space's, on ZeroGPU."""
    cgroup = home / "cgroup"
    cgroup.write_text("0::/a-space\n")
    return {
        "SYSTEM": "spaces",
        "SPACE_ID": "ann/kdloop",
        "SPACE_HOST": "localhost",
        "SPACE_AUTHOR_NAME": "ann",
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": api_url,
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(cgroup),
        "KDLOOP_ADMIN_TOKEN": "open sesame",
    }


def without_hardware() -> None:
    import torch

    torch.version.cuda = "13.0"
    torch._C._cuda_init = lambda: None  # a CPU build has none,
    torch.cuda._is_in_bad_fork = bool  # and here a lambda, which cannot be sent to another process
    torch.cuda.synchronize = lambda *_: None
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor


if __name__ == "__main__":
    without_hardware()
    sys.path[0] = ""  # where the app is
    runpy.run_path("app.py", run_name="__main__")
