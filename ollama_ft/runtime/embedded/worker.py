"""One llama.cpp server in a process of its own: what an engine is made of.

Run by path, with one JSON line on stdin: model, adapters, context, slots, threads, embedding, key.
It prints one JSON line, {"port": …}, when it answers on loopback, and ends when stdin ends, so that
it cannot outlive whoever started it. A process of its own means that a crash of native code is an
error of one request, that unloading gives the memory back, and that its log can be caught.
"""

import json
import os
import sys
from typing import Any

_servers: list[Any] = []  # kept alive: a server ends when it is collected


def main() -> None:
    """Serve until stdin ends."""
    # Native code prints to stdout, too; what we say goes to the real one.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    wish = json.loads(sys.stdin.readline())
    try:
        address = _serve(wish)
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(1)
    port = int(address.rpartition(":")[2])
    answer.write(json.dumps({"port": port}) + "\n")
    answer.flush()
    sys.stdin.read()
    os._exit(0)  # joining the native threads could wait for a running generation


def _serve(wish: dict[str, Any]) -> str:
    """Start the server; the address where it listens. It runs in threads of its own."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = wish["model"]
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 1.0) for path in wish["adapters"]]
    params.n_parallel = wish["slots"]
    params.n_ctx = wish["context"] * wish["slots"]
    params.n_batch = wish["batch"]
    params.n_ubatch = wish["batch"]
    params.n_keep = 4
    params.ctx_shift = True
    params.fit_params = False  # we have reckoned the memory ourselves
    params.cache_ram_mib = 0  # no second copy of prompts in memory
    params.cpuparams.n_threads = wish["threads"]
    params.cpuparams_batch.n_threads = wish["threads"]
    params.embedding = wish["embedding"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [wish["key"]]
    params.use_jinja = True
    _servers.append(xllamacpp.Server(params))
    return str(_servers[0].listening_address)


if __name__ == "__main__":
    main()
