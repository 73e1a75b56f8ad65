"""Fetch a model from an Ollama registry into our own store, with no Ollama at hand.

The protocol is the OCI distribution's: GET /v2/<namespace>/<model>/manifests/<tag>, then each blob
by its digest. What was downloaded before a cut or a kill stays in `incoming/` and is continued.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from ollama_ft.core.errors import (
    BadInput,
    NotFound,
    OutOfResources,
    RuntimeRefused,
    RuntimeUnavailable,
)
from ollama_ft.runtime.answers import Progress
from ollama_ft.runtime.client import Watch
from ollama_ft.runtime.host import parse_host
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.store import (
    MANIFEST_LIMIT,
    MANIFEST_TYPE,
    Layer,
    Manifest,
    Store,
    StoredModel,
)

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # seconds; for one piece, not for a whole blob
_ATTEMPTS = 6
_RESERVE = 64 << 20  # bytes of disk that stay free
# Registries answer 412 to a model that needs a newer Ollama than the one that asks.
_AGENT = "ollama-ft (compatible; ollama/0.33.0)"


def pull(
    name: Name,
    store: Store,
    *,
    insecure: bool = False,
    expected_blob: str | None = None,
    on_progress: Watch | None = None,
    transport: httpx.BaseTransport | None = None,
) -> StoredModel:
    """Bring the model `name` into `store` and return it; what is there is not fetched again.

    `insecure` means plain http, as it does for Ollama. `expected_blob` is the digest that the
    model's GGUF must have.

    Raises NotFound if the registry has no such model, RuntimeUnavailable if it cannot be reached,
    RuntimeRefused for another answer, OutOfResources before anything large is fetched, BadInput for
    content with a wrong digest. The name appears in the store last, when every blob is there.
    """
    with _registry(name, insecure, transport) as registry:
        content = _manifest(registry, name)
        manifest = Manifest.parse(content)
        _check_weights(name, manifest, expected_blob)
        layers = [*manifest.layers, manifest.config]
        _check_disk(store, [layer for layer in layers if not store.has_blob(layer.digest)])
        for layer in layers:
            _fetch(registry, name, layer, store, on_progress)
    store.write_manifest(name, content)
    return store.read(name)


@contextmanager
def _registry(
    name: Name, insecure: bool, transport: httpx.BaseTransport | None
) -> Iterator[httpx.Client]:
    if name.scheme == "http" and not insecure:
        raise BadInput(
            f"{name.host} would be asked over plain http, which anybody on the way can change.",
            mend="say that this is wanted with --insecure",
        )
    scheme = "http" if insecure else "https"
    loopback = parse_host(f"{scheme}://{name.host}").is_loopback
    with httpx.Client(
        base_url=f"{scheme}://{name.host}/v2/{name.repository}",
        headers={"User-Agent": _AGENT},
        timeout=_TIMEOUT,
        follow_redirects=True,
        trust_env=not loopback,
        transport=transport,
    ) as client:
        yield client


def _manifest(registry: httpx.Client, name: Name) -> bytes:
    with _stream(registry, f"/manifests/{name.tag}", {"Accept": MANIFEST_TYPE}) as response:
        _check_status(response, f"{name.short} is not at {name.host}")
        content = bytearray()
        for piece in response.iter_bytes():
            content += piece
            if len(content) > MANIFEST_LIMIT:
                raise RuntimeRefused(f"{name.host} sent a manifest of more than 4 MiB.")
    return bytes(content)


def _check_weights(name: Name, manifest: Manifest, expected: str | None) -> None:
    weights = manifest.of_kind("model")
    if not weights:
        raise BadInput(
            f"{name.short} has no GGUF at {name.host}: it is made of other layers.",
            mend="choose a tag with GGUF weights",
        )
    if expected and weights[-1].digest != expected:
        raise BadInput(
            f"{name.short} has other weights at {name.host} ({weights[-1].digest[:19]}) than at "
            f"the runtime ({expected[:19]}).",
            mend=f"ollama pull {name.short}",
        )


def _check_disk(store: Store, missing: list[Layer]) -> None:
    store.root.mkdir(parents=True, exist_ok=True)
    kept = sum(_size(_partial(store, layer.digest)) for layer in missing)
    need = sum(layer.size for layer in missing) - kept
    free = shutil.disk_usage(store.root).free - _RESERVE
    if need > free:
        raise OutOfResources(
            f"{need / 1e6:,.0f} MB are to be fetched, and {store.root} has room for "
            f"{max(free, 0) / 1e6:,.0f} MB.",
            mend="make room, or choose another home with --home",
        )


def _fetch(
    registry: httpx.Client, name: Name, layer: Layer, store: Store, on_progress: Watch | None
) -> None:
    """Bring one blob into the store. Two processes never write the same one."""
    from filelock import FileLock

    part = _partial(store, layer.digest)
    part.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(part.with_suffix(".lock")):
        if not store.has_blob(layer.digest):
            _continue(registry, name, layer, part, on_progress)
            try:
                store.add_blob(part, layer.digest)
            finally:  # a wrong digest must not be continued
                part.unlink(missing_ok=True)
        _tell(on_progress, layer, layer.size)


@retry(
    retry=retry_if_exception(lambda error: type(error) is RuntimeUnavailable),
    stop=stop_after_attempt(_ATTEMPTS),
    wait=wait_random_exponential(multiplier=0.5, max=8.0),
    reraise=True,
)
def _continue(
    registry: httpx.Client, name: Name, layer: Layer, part: Path, on_progress: Watch | None
) -> None:
    """Download what `part` lacks of the layer; after a cut, go on from there."""
    have = _size(part)
    if have >= layer.size:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with _stream(registry, f"/blobs/{layer.digest}", headers) as response:
        _check_status(response, f"{name.host} lacks {layer.digest} of {name.short}")
        continued = response.status_code == httpx.codes.PARTIAL_CONTENT
        done = _append(response, part, layer, on_progress, fresh=not continued)
    if done < layer.size:
        raise RuntimeUnavailable(f"{name.host} sent only a part of {layer.digest}.")


def _append(
    response: httpx.Response, part: Path, layer: Layer, on_progress: Watch | None, *, fresh: bool
) -> int:
    """Write the body to `part`; return how many bytes of the layer are there then."""
    try:
        with part.open("wb" if fresh else "ab") as file:
            done = file.tell()
            for piece in response.iter_raw():
                done += len(piece)
                if done > layer.size:
                    raise RuntimeRefused(f"The registry sent more bytes than {layer.digest} has.")
                file.write(piece)
                _tell(on_progress, layer, done)
    except OSError as error:
        raise OutOfResources(
            f"{part.parent} cannot be written ({error.strerror}); what was fetched is kept.",
            mend="make room, then run the command again",
        ) from error
    return done


@contextmanager
def _stream(registry: httpx.Client, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
    try:
        with registry.stream("GET", path, headers=headers) as response:
            yield response
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RuntimeUnavailable(
            f"The registry at {registry.base_url.host} cannot be reached ({error}).",
            mend="look at the network and the proxy settings; what was fetched is kept",
        ) from error


def _check_status(response: httpx.Response, missing: str) -> None:
    status = response.status_code
    if status == httpx.codes.NOT_FOUND:
        raise NotFound(f"{missing}.", mend="look the name up in the registry's library")
    if status >= 500:
        raise RuntimeUnavailable(f"The registry at {response.url.host} failed ({status}).")
    if status not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        said = response.read()[:300].decode(errors="replace").strip()
        raise RuntimeRefused(
            f"The registry at {response.url.host} refused: {said or status}", status=status
        )


def _partial(store: Store, digest: str) -> Path:
    return store.root / "incoming" / f"{digest.removeprefix('sha256:')}.part"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _tell(on_progress: Watch | None, layer: Layer, done: int) -> None:
    if on_progress:
        on_progress(
            Progress(
                status=f"pulling {layer.digest[7:19]}",
                digest=layer.digest,
                total=layer.size,
                completed=done,
            )
        )
