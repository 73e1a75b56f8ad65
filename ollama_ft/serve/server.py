"""One process: the proxy at its address, the log behind it, and our own runtime if it is that.

guard → desk → proxy → the runtime over HTTP, or the embedded one in this process
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType

import uvicorn

from ollama_ft.core.errors import Conflict, FtError, OutOfResources, RuntimeUnavailable
from ollama_ft.core.events import Emit, silent
from ollama_ft.core.home import Home
from ollama_ft.runtime.client import Ollama
from ollama_ft.runtime.find import REFUSE, api_key, leave_door
from ollama_ft.runtime.host import Address
from ollama_ft.runtime.store import Store
from ollama_ft.serve.asgi import App, Receive, Scope, Send
from ollama_ft.serve.desk import Desk
from ollama_ft.serve.forward import Forward
from ollama_ft.serve.guard import Doorkeeper, Guard
from ollama_ft.serve.librarian import Librarian, finder
from ollama_ft.serve.names import Names
from ollama_ft.serve.proxy import Proxy
from ollama_ft.serve.writer import Keeping, Writer

DEFAULT_PORT = 11435
_KEEP_ALIVE = 75  # seconds; longer than clients keep a connection, so that it is they who close it
_SWITCH = 0.0005  # seconds; the writer's thread must not hold an answer up
_BACKLOG = 512


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is served, where, to whom, and how it is remembered."""

    home: Home
    runtime: Address | None  # None: our own, in this process
    keeper: Doorkeeper
    port: int  # 0: a free one
    keeping: Keeping | None  # None: nothing is remembered
    env: Mapping[str, str]
    rag: Sequence[str] = ()  # families whose questions are given passages of their documents
    emit: Emit = silent


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that answers, on loopback at `address`, until `stop` is called."""

    address: Address
    stop: Callable[[], None]


def serve(plan: Plan, on_ready: Callable[[Running], None]) -> None:
    """Serve until told to stop by Ctrl-C, SIGTERM or a hang-up; the log's queue is written first.

    `on_ready` is called in a thread of its own when calls are answered.

    Raises Conflict if the port is taken or another `serve` keeps this log, OutOfResources if the
    log cannot be begun, BadInput if it is no log, RuntimeUnavailable if our own runtime is wanted
    and not installed.
    """
    with ExitStack() as stack:
        stack.enter_context(_alone(plan))
        sockets = _listen(plan, stack)
        address = Address(scheme="http", host="127.0.0.1", port=sockets[0].getsockname()[1])
        names = Names(plan.home.catalog)
        stack.callback(names.close)
        writer = _writer(plan, stack)
        librarian = _librarian(plan, address, stack)
        front = _front(plan, names, writer, librarian, address)
        if plan.runtime is None:
            door = leave_door(plan.home.models, address, plan.keeper.token)
            stack.enter_context(door)
        server = _Server(_config(front))
        threading.Thread(target=_announce, args=(server, address, on_ready), daemon=True).start()
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH)
        stack.callback(sys.setswitchinterval, before)
        try:
            server.run(sockets=sockets)
        except SystemExit as error:  # uvicorn's word for it
            raise FtError(
                f"The server at {address} did not start.", mend="ollama-ft --host embedded doctor"
            ) from error


@contextmanager
def _alone(plan: Plan) -> Iterator[None]:
    """Only one process writes a log and serves a store."""
    try:
        with plan.home.lock("serve.all"):
            yield
    except Conflict as error:
        if "serve.all" not in str(error):
            raise
        words = str(error).replace("serve.all is being worked on by", "it is")
        raise Conflict(
            f"`ollama-ft serve` runs on this home already: {words}",
            mend="use that one, or stop it first: kill its process",
        ) from error


def _listen(plan: Plan, stack: ExitStack) -> list[socket.socket]:
    """The sockets, bound before anything starts: loopback, and the wider address if there is one.

    The first is always one that 127.0.0.1 reaches: other commands on this home come that way.
    """
    listen = plan.keeper.listen
    hosts = [listen] if listen in ("127.0.0.1", "0.0.0.0") else ["127.0.0.1", listen]
    sockets, port = [], plan.port
    for host in hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # The protocol is named: asyncio leaves Nagle's delay, 40 ms, on sockets without it.
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        stack.callback(made.close)
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            made.bind((host, port))
        except OSError as error:
            raise Conflict(
                f"{host}:{port} cannot be listened on: {error.strerror}.",
                mend=f"ollama-ft serve --port {port + 1}",
            ) from error
        made.listen(_BACKLOG)
        made.setblocking(False)
        port = made.getsockname()[1]
        sockets.append(made)
    return sockets


def _writer(plan: Plan, stack: ExitStack) -> Writer | None:
    if plan.keeping is None:
        return None
    try:
        writer = Writer(plan.keeping)
    except OSError as error:
        raise OutOfResources(
            f"The log at {plan.keeping.path} cannot be begun: {error}.",
            mend="make room, or serve without it: ollama-ft serve --no-log",
        ) from error
    stack.callback(writer.close)
    writer.start()
    return writer


def _librarian(plan: Plan, address: Address, stack: ExitStack) -> Librarian | None:
    """What looks passages up; it asks the runtime for a question's vector."""
    if not plan.rag:
        return None
    if plan.runtime is None:
        client = Ollama(address, api_key=plan.keeper.token)  # our own, through our own door
    else:
        client = Ollama(plan.runtime, api_key=api_key(plan.env))
    stack.callback(client.close)
    librarian = Librarian(plan.rag, finder(plan.home, client, plan.emit))
    stack.callback(librarian.close)
    return librarian


def _front(
    plan: Plan,
    names: Names,
    writer: Writer | None,
    librarian: Librarian | None,
    address: Address,
) -> App:
    """The applications, one around the other."""
    facts: dict[str, object] = {
        "address": address.url,
        "runtime": plan.runtime.url if plan.runtime else "embedded",
        "pid": os.getpid(),
        "redacts": bool(plan.keeping and plan.keeping.clean),
        "retain_days": plan.keeping.retain_days if plan.keeping else None,
        "rag": list(plan.rag),
    }
    if plan.runtime is None:
        proxy: App = Proxy(_embedded(plan), names, writer, librarian)
    else:
        forward = Forward(plan.runtime, api_key(plan.env))
        proxy = _living(Proxy(forward, names, writer, librarian), forward)
    return Guard(Desk(proxy, writer, facts, librarian), plan.keeper)


def _embedded(plan: Plan) -> App:
    """Our own runtime, on the home's store, as an application in this process."""
    try:
        from ollama_ft.runtime.embedded.app import Behaviour, make_app
        from ollama_ft.runtime.embedded.pool import limits_from
    except ImportError as error:
        raise RuntimeUnavailable(
            f"No Ollama answers, and the embedded runtime lacks {error.name}.",
            mend="pip install 'ollama-ft[embedded]', or start Ollama: ollama serve",
        ) from error
    store = Store(plan.home.models)
    store.sweep()
    refuse = frozenset(filter(None, plan.env.get(REFUSE, "").split(",")))
    # Who may call is the guard's business, and names beyond this machine's may be welcome.
    behaviour = Behaviour(refuse=refuse, keep_blobs=True, local_only=False)
    return make_app(store, limits_from(dict(plan.env)), behaviour)


def _living(app: App, forward: Forward) -> App:
    """The application with the connections to the runtime open while the server runs."""

    async def living(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        async with forward:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return living


def _config(app: App) -> uvicorn.Config:
    # An answer that broke off is raised through uvicorn, so that the connection breaks; it would
    # print a traceback for that.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    return uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", interface="asgi3", ws="none",
        proxy_headers=False, server_header=False, date_header=False,
        timeout_keep_alive=_KEEP_ALIVE, timeout_graceful_shutdown=2,
    )  # fmt: skip


class _Server(uvicorn.Server):
    """Ends in order on a signal; uvicorn's own would be killed by it before the log is written."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals that mean: stop."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = [signal.SIGINT, signal.SIGTERM]
        if os.name == "posix":
            wanted.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._stop) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.handle_exit(number, frame)


def _announce(server: _Server, address: Address, on_ready: Callable[[Running], None]) -> None:
    while not server.started:
        if server.should_exit:
            return
        threading.Event().wait(0.02)

    def stop() -> None:
        server.should_exit = True

    on_ready(Running(address=address, stop=stop))
