"""Fetch a model from an Ollama registry into our own store, with no Ollama at hand.

The protocol is the OCI distribution's: GET /v2/<namespace>/<model>/manifests/<tag>, then each blob
by its digest. What was downloaded before a cut or a kill stays in `incoming/` and is continued.
hf.co speaks the same: `hf.co/<user>/<repository>:<quantisation>` is a name like any other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from ollama_ft.core.errors import BadInput, RuntimeRefused
from ollama_ft.core.files import check_room
from ollama_ft.runtime.answers import Progress
from ollama_ft.runtime.client import Watch
from ollama_ft.runtime.download import Wanted, check_status, download, unreachable
from ollama_ft.runtime.host import parse_host
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.parts import fetched
from ollama_ft.runtime.store import (
    MANIFEST_LIMIT,
    MANIFEST_TYPE,
    Layer,
    Manifest,
    Store,
    StoredModel,
)

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)  # seconds; for one piece, not for a whole blob
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
    path, headers = f"/manifests/{name.tag}", {"Accept": MANIFEST_TYPE}
    content = bytearray()
    try:
        with registry.stream("GET", path, headers=headers) as response:
            check_status(response, f"{name.short} is not at {name.host}")
            for piece in response.iter_bytes():
                content += piece
                if len(content) > MANIFEST_LIMIT:
                    raise RuntimeRefused(f"{name.host} sent a manifest of more than 4 MiB.")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise unreachable(registry, error) from error
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
    kept = sum(fetched(_partial(store, layer.digest)) for layer in missing)
    check_room(store.root, sum(layer.size for layer in missing) - kept)


def _fetch(
    registry: httpx.Client, name: Name, layer: Layer, store: Store, on_progress: Watch | None
) -> None:
    """Bring one blob into the store. Two processes never write the same one."""
    from filelock import FileLock

    part = _partial(store, layer.digest)
    part.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(part.with_suffix(".lock")):
        if not store.has_blob(layer.digest):
            wanted = Wanted(
                digest=layer.digest,
                size=layer.size,
                path=f"/blobs/{layer.digest}",
                missing=f"{name.host} lacks {layer.digest} of {name.short}",
            )
            download(registry, wanted, part, lambda done: _tell(on_progress, layer, done))
            store.adopt(part, layer.digest)
            part.with_suffix(".state").unlink(missing_ok=True)
        _tell(on_progress, layer, layer.size)


def _partial(store: Store, digest: str) -> Path:
    return store.root / "incoming" / f"{digest.removeprefix('sha256:')}.part"


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
