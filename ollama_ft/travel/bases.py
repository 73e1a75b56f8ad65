"""The base that a version needs, found by its digest, wherever it may be had."""

from collections.abc import Callable
from pathlib import Path

from ollama_ft.core.catalog import newest
from ollama_ft.core.errors import NotFound
from ollama_ft.core.events import Count, Emit, Stage
from ollama_ft.core.files import check_room
from ollama_ft.core.records import Base
from ollama_ft.kinds.provenance import BaseFacts
from ollama_ft.runtime.names import DEFAULT_HOST, Name
from ollama_ft.runtime.oci.artefact import Descriptor
from ollama_ft.runtime.oci.client import Repository
from ollama_ft.runtime.store import Store
from ollama_ft.stages import base as bases
from ollama_ft.workshop import Workshop

Supply = Callable[[Descriptor], bool]  # brings a base's blob into the store, if it has it


def base_of(shop: Workshop, facts: BaseFacts, given: str | None, supply: Supply | None) -> Base:
    """The base with exactly this blob: from our store, where the version lay, or where its name
    leads. Raises NotFound with every reason.
    """
    store = Store(shop.home.models)
    blob = Descriptor(media_type="", digest=facts.blob_digest, size=facts.size)
    held = store.has_blob(facts.blob_digest)
    if held and (known := newest(shop.db, Base, blob_digest=facts.blob_digest)):
        return known
    shop.emit(Stage(name="base", text=f"{facts.name}, {facts.blob_digest[:19]}"))
    if not given and (held or (supply and supply(blob))):
        return bases.pin_blob(
            shop.db, shop.home, shop.client, facts.name, facts.blob_digest, shop.emit
        )
    name = given or _followed(facts)
    try:
        base, _ = bases.pin(
            shop.db, shop.home, shop.client, name, shop.emit, expected=facts.blob_digest
        )
    except NotFound as error:
        raise NotFound(
            f"The base {facts.name} ({facts.blob_digest[:19]}, {facts.size / 1e6:,.0f} MB) could "
            f"not be had: {error}",
            mend="bring it yourself: --base FILE.gguf",
        ) from error
    return base


def _followed(facts: BaseFacts) -> str:
    """The base's name, where it leads to the usual registry: nobody else is asked unasked."""
    name = Name.parse(facts.name)
    if facts.name.lower().endswith(".gguf") or name.host != DEFAULT_HOST:
        raise NotFound(
            f"The base ({facts.blob_digest[:19]}) is not here, and {facts.name!r:.120}, where the "
            "version says that it is, is not asked without your word.",
            mend=f"--base {facts.name:.120}, or --base FILE.gguf",
        )
    return facts.name


def fetch_into(shop: Workshop, repository: Repository, blob: Descriptor) -> bool:
    """Fetch a base from the repository that the version lies in, if it is there."""
    if not repository.has(blob.digest):
        return False
    part = part_of(shop.home.data("incoming"), blob.digest)
    check_room(part.parent, blob.size - held_of(part))
    repository.fetch(blob, part)
    Store(shop.home.models).add_blob(part, blob.digest)
    part.unlink()
    return True


def part_of(folder: Path, digest: str) -> Path:
    """The file in which a blob arrives; what is in it, a later pull goes on behind."""
    return folder / f"{digest.removeprefix('sha256:')}.part"


def held_of(part: Path) -> int:
    """How many bytes an earlier pull left in a file that is not whole yet."""
    return part.stat().st_size if part.is_file() else 0


def counter(emit: Emit, verb: str) -> Callable[[Descriptor, int], None]:
    """Tells how much of each blob has moved: "pushing adapter.gguf"."""

    def count(blob: Descriptor, done: int) -> None:
        name = f"{verb} {blob.title or blob.digest[7:19]}"
        emit(Count(name=name, done=done, total=blob.size, unit="B"))

    return count
