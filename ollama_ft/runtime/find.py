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
from pathlib import Path

from ollama_ft.core.errors import FtError
from ollama_ft.core.files import write_bytes
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
    wish = (host or env.get("OLLAMA_HOST", "")).strip().strip("\"'").strip()
    if wish == EMBEDDED:
        with _embedded(models, log, env, lambda: None) as client:
            yield client
    elif wish:
        with _named(wish, env, notice) as client:
            yield client
    elif answers(address := parse_host("")):
        with Ollama(address, api_key=_api_key(env)) as client:
            yield client
    else:
        said = f"No Ollama answers at {address}: the embedded runtime is used."
        with _embedded(models, log, env, lambda: notice(said)) as client:
            yield client


@contextmanager
def _named(wish: str, env: Mapping[str, str], notice: Notice) -> Iterator[Ollama]:
    address = parse_host(wish)
    if address.warning:
        notice(address.warning)
    with Ollama(address, api_key=_api_key(env)) as client:
        client.version()
        yield client


@contextmanager
def _embedded(
    models: Path, log: Path, env: Mapping[str, str], on_start: Callable[[], None]
) -> Iterator[Ollama]:
    """The runtime behind an open door, or one of our own."""
    address = open_door(models)
    if address:
        with Ollama(address) as client:
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


@contextmanager
def leave_door(models: Path, address: Address) -> Iterator[None]:
    """While it lasts, let other commands on this store find the runtime at `address`."""
    door = models.parent / _DOOR
    content = json.dumps({"address": address.url, "pid": os.getpid()}).encode()
    write_bytes(door, content)
    try:
        yield
    finally:
        if door.is_file() and door.read_bytes() == content:
            door.unlink(missing_ok=True)


def open_door(models: Path) -> Address | None:
    """The embedded runtime that serves this store already; None if there is none.

    A door that a killed process left is seen by asking, and passed over.
    """
    try:
        content = json.loads((models.parent / _DOOR).read_bytes())
        address = parse_host(content["address"])
        if not address.is_loopback:
            return None
        with Ollama(address) as client:
            return address if client.is_embedded() else None
    except (OSError, ValueError, TypeError, KeyError, FtError):
        return None


def _api_key(env: Mapping[str, str]) -> str:
    return env.get("OLLAMA_API_KEY", "").strip().strip("\"'")
