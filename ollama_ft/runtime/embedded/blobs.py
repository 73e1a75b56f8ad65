"""/api/blobs: uploads, and whether they are there."""

import asyncio
from collections.abc import AsyncIterator

from ollama_ft.core.errors import BadInput, OutOfResources, RuntimeRefused
from ollama_ft.runtime.store import Store


async def add_blob(store: Store, digest: str, content: AsyncIterator[bytes]) -> int:
    """Store an upload; 201 for a new blob, 200 for one that was there. Raises RuntimeRefused."""
    if not digest.startswith(("sha256:", "sha256-")) or len(digest) != 71:
        raise RuntimeRefused("invalid digest format", status=400)
    try:
        if store.has_blob(digest):
            return 200
    except BadInput:
        pass  # the dashed form passes Ollama's check, and then never matches
    incoming = store.incoming()
    try:
        async for piece in content:
            incoming.write(piece)
        found = await asyncio.to_thread(incoming.finish)
    except OutOfResources as error:
        raise RuntimeRefused(str(error), status=507) from error
    finally:
        incoming.drop()
    if found != digest:
        raise RuntimeRefused(f'digest mismatch, expected "{digest}", got "{found}"', status=400)
    return 201


def blob_status(store: Store, digest: str) -> RuntimeRefused | None:
    """None if the blob is there, else the refusal: 404, or 400 for what is no digest."""
    if not digest.startswith(("sha256:", "sha256-")) or len(digest) != 71:
        return RuntimeRefused("invalid digest format", status=400)
    try:
        if store.has_blob(digest.replace("-", ":", 1)):
            return None
    except BadInput:
        return RuntimeRefused("invalid digest format", status=400)
    return RuntimeRefused(f'blob "{digest}" not found', status=404)
