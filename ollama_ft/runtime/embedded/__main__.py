"""`python -m ollama_ft.runtime.embedded --models DIR`: serve Ollama's API on loopback.

When it answers it prints one JSON line, {"port": …, "pid": …}. With --parent-pipe it ends when its
stdin ends, so that it cannot outlive whoever started it.
"""

import argparse
import json
import logging
import os
import socket
import sys
import threading
from pathlib import Path

import uvicorn

from ollama_ft.runtime.embedded.app import REFUSABLE, Behaviour, make_app
from ollama_ft.runtime.embedded.pool import limits_from
from ollama_ft.runtime.store import Store

_OFF = ("", "0", "false", "FALSE", "False", "f", "F")


def main() -> None:
    """Serve until told to stop."""
    wish = _arguments()
    store = Store(wish.models)
    store.sweep()
    behaviour = Behaviour(
        refuse=frozenset(wish.refuse),
        keep_blobs=wish.keep_blobs or os.environ.get("OLLAMA_NOPRUNE", "") not in _OFF,
        local_only=wish.host in ("127.0.0.1", "::1", "localhost"),
    )
    app = make_app(store, limits_from(os.environ), behaviour)
    listener = _listener(wish.host, wish.port)
    config = uvicorn.Config(
        app, log_config=None, log_level=logging.WARNING, access_log=False, lifespan="on",
        timeout_graceful_shutdown=2, interface="asgi3", proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    if wish.parent_pipe:
        threading.Thread(target=_stop_with_parent, args=(server,), daemon=True).start()
    _say(listener.getsockname()[1])
    server.run(sockets=[listener])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ollama_ft.runtime.embedded", description=__doc__
    )
    parser.add_argument("--models", type=Path, required=True, help="the store, in Ollama's layout")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--parent-pipe", action="store_true", help="end when stdin ends")
    parser.add_argument(
        "--keep-blobs", action="store_true", help="never remove a blob, as OLLAMA_NOPRUNE=1"
    )
    parser.add_argument(
        "--refuse",
        type=_refused,
        default=(),
        help="adapters,files,registry,store: as runtimes that take nothing by these routes",
    )
    return parser.parse_args()


def _refused(text: str) -> tuple[str, ...]:
    kinds = tuple(filter(None, text.split(",")))
    if set(kinds) - REFUSABLE:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(REFUSABLE))}, with commas")
    return kinds


def _listener(host: str, port: int) -> socket.socket:
    # Bound before the server starts, so that its port is known and calls wait in the backlog.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only where the protocol is named; with it on, an answer's body
    # waits 40 ms for the client to acknowledge its headers.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(512)
    listener.setblocking(False)
    return listener


def _say(port: int) -> None:
    sys.stdout.write(json.dumps({"port": port, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()


def _stop_with_parent(server: uvicorn.Server) -> None:
    while sys.stdin.buffer.read(1 << 16):
        pass
    server.should_exit = True
    # A generation that runs on must not hold us: whoever asked is gone.
    threading.Timer(5.0, os._exit, (1,)).start()


if __name__ == "__main__":
    main()
