"""llama.cpp's server, from the wheel xllamacpp, as a process: `python -m kdloop.student.llama_server`.

It reads one line of JSON on stdin, {"gguf", "lora", "slots", "tokens", "threads", "key"}, says its address on stdout
when it is ready, and ends when stdin does. Nothing here imports PyTorch: it would share libgomp with llama.cpp, whose
decoding then is half as fast (docs/log.md).
"""

import json
import os
import sys

import xllamacpp


def parameters(gguf: str, lora: str | None, slots: int, tokens: int, threads: int, key: str) -> xllamacpp.CommonParams:
    """`tokens` is the context of each of the `slots`, which are decoded together; `key` the API key it asks for."""
    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(lora, 1.0)] if lora else []
    params.n_parallel, params.n_ctx = slots, slots * tokens
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.verbosity = -1
    params.ui = params.endpoint_slots = False
    params.api_keys = [key]  # only its parent process knows it
    params.n_threads_http = 2 * slots + 2  # a reply occupies one until its end; the others answer what is asked beside
    params.cache_ram_mib = 0  # no prompts beside those in the slots
    params.fit_params = False  # would read the model once more: a start takes 0.53 instead of 0.57 to 0.68 s of CPU
    return params


if __name__ == "__main__":
    server = xllamacpp.Server(parameters(**json.loads(sys.stdin.readline())))
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)  # without waiting for replies: their reader is gone
