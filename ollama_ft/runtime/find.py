"""Which runtime answers: --host, OLLAMA_HOST, the default address, else our own embedded one.

An address that somebody named and that does not answer is an error: another runtime, with other
models, must not take its place in silence. `--host embedded` or `OLLAMA_HOST=embedded` asks for our
own at once.

`ollama-ft serve` leaves a door beside the store, a file with its address, so that commands on the
same home use it instead of starting a second runtime.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ollama_ft.core.errors import FtError
from ollama_ft.core.files import write_atomic
from ollama_ft.runtime.client import Ollama
from ollama_ft.runtime.host import Address, parse_host
from ollama_ft.runtime.launch import start_embedded

Notice = Callable[[str], None]

EMBEDDED = "embedded"
REFUSE = "OLLAMA_FT_EMBEDDED_REFUSE"  # for trying out what newer Ollamas may refuse
_DOOR = "runtime.json"


@contextmanager
def connect(
    models: Path, *, host: str | None, env: Mapping[str, str], notice: Notice, log: Path
) -> Iterator[Ollama]:
    """Yield a client of the runtime to use; what was started for it is stopped at the end.

    `models` is the home's store, which the embedded runtime serves; its stderr goes to `log`.
    `notice` is told, once, if the embedded runtime starts, and of a port that was not understood.

    Raises RuntimeUnavailable if a named address does not answer, or the embedded runtime is not
    installed or does not start; BadInput for an address that is none.
    """
    choice = choose(host, env, notice)
    if choice.address is None:
        with _embedded(models, log, env, lambda: _tell(notice, choice.why)) as client:
            yield client
        return
    with Ollama(choice.address, api_key=api_key(env)) as client:
        client.version()
        yield client


def _tell(notice: Notice, text: str) -> None:
    if text:
        notice(text)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The runtime to use: at an address, or, where that is None, our own."""

    address: Address | None
    why: str = ""  # what to tell where our own was not asked for


def choose(host: str | None, env: Mapping[str, str], notice: Notice) -> Choice:
    """Which runtime is meant; `notice` is told of a port that was not understood.

    A named address is not called yet. Raises BadInput for an address that is none.
    """
    wish = (host or env.get("OLLAMA_HOST", "")).strip().strip("\"'").strip()
    if wish == EMBEDDED:
        return Choice(address=None)
    address = parse_host(wish)
    if address.warning:
        notice(address.warning)
    if wish or answers(address):
        return Choice(address=address)
    why = f"No Ollama answers at {address}: the embedded runtime is used."
    return Choice(address=None, why=why)


@contextmanager
def _embedded(
    models: Path, log: Path, env: Mapping[str, str], on_start: Callable[[], None]
) -> Iterator[Ollama]:
    """The runtime behind an open door, or one of our own."""
    door = open_door(models)
    if door:
        with Ollama(door.address, api_key=door.key) as client:
            yield client
        return
    on_start()
    refuse = env.get(REFUSE, "")
    with start_embedded(models, log, refuse=refuse) as address, Ollama(address) as client:
        yield client


def answers(address: Address) -> bool:
    """Whether a runtime of some kind answers there. Another program on the port is none."""
    try:
        with Ollama(address) as client:
            return bool(client.version())
    except FtError:
        return False


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where the runtime of a store answers, and the token that it wants; "" for none."""

    address: Address
    key: str = ""


@contextmanager
def leave_door(models: Path, address: Address, key: str = "") -> Iterator[None]:
    """While it lasts, let other commands on this store find the runtime at `address`.

    Only its owner can read the file, as there may be a token in it.
    """
    path = models.parent / _DOOR
    body = {"address": address.url, "pid": os.getpid(), "key": key}
    content = json.dumps(body).encode()
    write_atomic(path, lambda file: file.write(content), mode=0o600)
    try:
        yield
    finally:
        if path.is_file() and path.read_bytes() == content:
            path.unlink(missing_ok=True)


def open_door(models: Path) -> Door | None:
    """The embedded runtime that serves this store already; None if there is none.

    A door that a killed process left is seen by asking, and passed over.
    """
    try:
        content = json.loads((models.parent / _DOOR).read_bytes())
        address = parse_host(content["address"])
        door = Door(address=address, key=str(content.get("key", "")))
        if not address.is_loopback:
            return None
        with Ollama(address, api_key=door.key) as client:
            return door if client.is_embedded() else None
    except (OSError, ValueError, TypeError, KeyError, FtError):
        return None


def api_key(env: Mapping[str, str]) -> str:
    """The token for a runtime that wants one, as Ollama's own client takes it."""
    return env.get("OLLAMA_API_KEY", "").strip().strip("\"'")
