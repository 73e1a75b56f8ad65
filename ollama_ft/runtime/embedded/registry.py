"""/api/pull and /api/push: our own registry client behind Ollama's progress lines and words."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import httpx

from ollama_ft.core.errors import FtError, NotFound, RuntimeRefused, RuntimeUnavailable
from ollama_ft.core.files import CHUNK
from ollama_ft.runtime import registry
from ollama_ft.runtime.answers import Progress
from ollama_ft.runtime.embedded.asks import Json
from ollama_ft.runtime.host import parse_host
from ollama_ft.runtime.manifest import MANIFEST_TYPE, Layer
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.store import Store, StoredModel

Lines = AsyncGenerator[Json, None]

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # seconds; for one piece, not for a whole blob


async def pull(store: Store, name: Name, *, insecure: bool) -> Lines:
    """Fetch a model into the store. Raises RuntimeRefused in Ollama's words."""
    yield {"status": "pulling manifest"}
    name = Name.parse(name.full)  # without its scheme: `insecure` alone decides
    lines: asyncio.Queue[Json | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(progress: Progress) -> None:
        loop.call_soon_threadsafe(lines.put_nowait, _line(progress))

    work = asyncio.create_task(
        asyncio.to_thread(registry.pull, name, store, insecure=insecure, on_progress=tell)
    )
    work.add_done_callback(lambda _: lines.put_nowait(None))
    while (line := await lines.get()) is not None:
        yield line
    try:
        await work
    except FtError as error:
        raise _pull_refusal(name, insecure, error) from error
    yield {"status": "verifying sha256 digest"}
    yield {"status": "writing manifest"}
    yield {"status": "success"}


async def push(store: Store, name: Name, *, insecure: bool) -> Lines:
    """Send a model to its registry. Raises RuntimeRefused in Ollama's words."""
    yield {"status": "retrieving manifest"}
    try:
        model = store.read(name)
    except FtError as error:
        yield {"status": "couldn't retrieve manifest"}
        path = store.manifest_path(name)
        raise RuntimeRefused(f"open {path}: no such file or directory", status=500) from error
    async with _client(name, insecure) as client:
        for layer in (*model.manifest.layers, model.manifest.config):
            async for line in _push_blob(client, store, layer):
                yield line
        yield {"status": "pushing manifest"}
        await _push_manifest(client, store, model, name)
    yield {"status": "success"}


async def _push_blob(client: httpx.AsyncClient, store: Store, layer: Layer) -> Lines:
    """Send one blob, unless the registry has it."""
    there = await _send(client, "HEAD", f"/blobs/{layer.digest}", (200, 404))
    if there.status_code == 404:
        opened = await _send(client, "POST", "/blobs/uploads/", (202,))
        target = httpx.URL(client.base_url).join(opened.headers["Location"])
        lines: asyncio.Queue[Json | None] = asyncio.Queue()
        content = _told(store.blob_path(layer.digest), layer, lines)
        url = str(target.copy_merge_params({"digest": layer.digest}))
        headers = {"Content-Length": str(layer.size), "Content-Type": "application/octet-stream"}
        work = asyncio.create_task(
            _send(client, "PUT", url, (201, 204), content=content, headers=headers)
        )
        work.add_done_callback(lambda _: lines.put_nowait(None))
        while (line := await lines.get()) is not None:
            yield line
        await work
    yield _progress("pushing", layer, layer.size)


async def _push_manifest(
    client: httpx.AsyncClient, store: Store, model: StoredModel, name: Name
) -> None:
    # Ollama sends the manifest without the newline that its file ends with.
    content = store.manifest_path(model.name).read_bytes().rstrip(b"\n")
    headers = {"Content-Type": MANIFEST_TYPE}
    path = f"/manifests/{name.tag}"
    await _send(client, "PUT", path, (200, 201), content=content, headers=headers)


async def _send(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    wanted: tuple[int, ...],
    content: AsyncIterator[bytes] | bytes | None = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    url = path if "://" in path else f"{str(client.base_url).rstrip('/')}{path}"
    try:
        response = await client.request(method, url, content=content, headers=headers)
    except httpx.HTTPError as error:
        said = f'{method.capitalize()} "{url}": {_go_words(str(error), client.base_url)}'
        raise RuntimeRefused(said, status=500) from error
    if response.status_code not in wanted:
        raise RuntimeRefused(f"{response.status_code}: {response.text[:300]}", status=500)
    return response


async def _told(
    path: Path, layer: Layer, lines: "asyncio.Queue[Json | None]"
) -> AsyncIterator[bytes]:
    """The blob's bytes; each piece is told when it is asked for."""
    done = 0
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, CHUNK):
            yield piece
            done += len(piece)
            lines.put_nowait(_progress("pushing", layer, done))


def _client(name: Name, insecure: bool) -> httpx.AsyncClient:
    base = f"{'http' if insecure else 'https'}://{name.host}"
    return httpx.AsyncClient(
        base_url=f"{base}/v2/{name.repository}",
        timeout=_TIMEOUT,
        trust_env=not parse_host(base).is_loopback,
    )


def _pull_refusal(name: Name, insecure: bool, error: FtError) -> RuntimeRefused:
    if isinstance(error, NotFound):
        return RuntimeRefused("pull model manifest: file does not exist", status=500)
    if isinstance(error, RuntimeUnavailable) and not isinstance(error, RuntimeRefused):
        base = httpx.URL(f"{'http' if insecure else 'https'}://{name.host}")
        url = f"{base}/v2/{name.repository}/manifests/{name.tag}"
        words = _go_words(str(error), base)
        return RuntimeRefused(f'pull model manifest: Get "{url}": {words}', status=500)
    return RuntimeRefused(str(error), status=500)


def _go_words(said: str, base: httpx.URL) -> str:
    """A network error as Go says it, where clients may look for the words."""
    low = said.lower()
    if "refused" in low or "connection attempts failed" in low:
        return f"dial tcp {base.host}:{base.port or 443}: connect: connection refused"
    if re.search("wrong.version.number|record layer", low):
        return "http: server gave HTTP response to HTTPS client"
    return said


def _line(progress: Progress) -> Json:
    line: dict[str, object] = {"status": progress.status}
    if progress.digest:
        line |= {"digest": progress.digest, "total": progress.total}
    if progress.completed:
        line["completed"] = progress.completed
    return line


def _progress(verb: str, layer: Layer, done: int) -> Json:
    return {
        "status": f"{verb} {layer.digest[7:19]}",
        "digest": layer.digest,
        "total": layer.size,
        "completed": done,
    }
