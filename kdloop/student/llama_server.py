"""llama.cpp's server, from the wheel xllamacpp, as a process: `python -m kdloop.student.llama_server`.

It reads one line of JSON on stdin, {"gguf", "lora", "slots", "tokens", "threads", "key"}, says its address on stdout
when it answers, and ends when stdin does. Nothing here imports PyTorch, with which it would share libgomp.
"""

import json
import os
import sys

import xllamacpp


def parameters(gguf: str, lora: str | None, slots: int, tokens: int, threads: int, key: str) -> xllamacpp.CommonParams:
    """`tokens` is the context of each of the `slots`, which decode together."""
    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(lora, 1.0)] if lora else []
    params.n_parallel, params.n_ctx = slots, slots * tokens
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.verbosity = -1
    params.ui = params.endpoint_slots = False
    params.api_keys = [key]  # its port of this machine is for its parent alone
    params.n_threads_http = 2 * slots + 2  # a reply keeps one until its end
    params.cache_ram_mib = 0
    params.fit_params = False  # to a memory that is too small: it reads the model once more
    return params


if __name__ == "__main__":
    server = xllamacpp.Server(parameters(**json.loads(sys.stdin.readline())))
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)  # whoever was answered is gone
