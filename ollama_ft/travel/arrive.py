"""Taking a version in: from a file, or from a registry."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from ollama_ft.core.catalog import newest, row
from ollama_ft.core.conversation import Conversation
from ollama_ft.core.errors import BadInput, Conflict, NotFound
from ollama_ft.core.events import Note, Stage
from ollama_ft.core.files import check_room
from ollama_ft.core.home import Home, shipped
from ollama_ft.core.records import Base, Family, Proof, Use, Version
from ollama_ft.core.refs import live
from ollama_ft.kinds import signatures
from ollama_ft.kinds.bundle import Bundle, check_artefact, read_bundle
from ollama_ft.kinds.imports import Offer, recognise
from ollama_ft.loop import pointer, prove
from ollama_ft.runtime.oci.artefact import Artefact, Descriptor
from ollama_ft.runtime.oci.client import Reach, Repository, open_repository
from ollama_ft.runtime.oci.place import Place
from ollama_ft.stages import adopt as adoption
from ollama_ft.stages import base as bases
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages import family as families
from ollama_ft.stages import promote as promotion
from ollama_ft.stages import publish as publishing
from ollama_ft.stages.verify import GREEDY, STOP_BUDGET
from ollama_ft.travel.bases import Supply, base_of, counter, fetch_into, held_of, part_of
from ollama_ft.workshop import Workshop

ABANDONED = 86_400.0  # seconds after which nobody works in a folder of ours any more
PULLING = "another pull"  # what is locked meanwhile; no family is called so


@dataclass(frozen=True, kw_only=True)
class Terms:
    """On what terms a version is taken in, and under which names."""

    family: str | None = None  # None: the name that it had
    base: str | None = None  # the base's name or GGUF; None: what the version says
    data: tuple[Path, ...] = ()  # what an adapter made elsewhere was taught; asked for its proof
    signed: bool = False  # only with a signature by a trusted key
    renumber: bool = False  # the next number, where its own is taken
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A version that was taken in, and the proof that it passed here."""

    version: Version
    proof: Proof
    signer: str  # the trusted key's name; "" without one


def take(shop: Workshop, path: Path, terms: Terms) -> Taken:
    """Take in what is at `path`: a bundle, an adapter, a Modelfile; prove it here.

    Raises what reading it raises (BadInput, BadWeights, Unsupported): the version leaves no row
    then, though a family that was begun for it keeps its bare base. Raises ProofFailed if it is not
    served as it was made: it is kept, marked as failed.
    """
    with _work(shop.home) as work:
        offer = recognise(path, work)
        if offer.artefact is None:
            return _take_foreign(shop, offer, path.name, terms, work)
        assert offer.blobs is not None, "an artefact comes with its blobs"
        if terms.data:
            shop.emit(
                Note(text="a bundle brings what it is asked for its proof; --data is not used")
            )
        signer = _signer(shop, offer.artefact, terms)
        bundle = read_bundle(offer.artefact, offer.blobs)
        arrival = adoption.Arrival(kind="bundle", source=path.name, signer=signer.fingerprint)
        return _take_bundle(shop, bundle, arrival, signer, terms, work, supply=None)


def pull(shop: Workshop, place: Place, reach: Reach, terms: Terms) -> Taken:
    """Fetch a version from a registry, with its base if that is missing here; prove it here.

    What was fetched before a cut stays, and the next pull goes on there. Raises as `take` does,
    NotFound, RuntimeRefused or RuntimeUnavailable for what the registry says, and Conflict while
    another pull into this home is under way.
    """
    shop.emit(Stage(name="pull", text=str(place)))
    with (
        shop.home.lock(PULLING),  # two that write the same file would spoil it
        _work(shop.home) as work,
        open_repository(
            place, env=terms.env, reach=reach, on_moved=counter(shop.emit, "pulling")
        ) as repository,
    ):
        artefact = Artefact.parse(repository.manifest(_reference(place, repository)))
        signer = _signer(shop, artefact, terms)  # before anything large is fetched
        folder = shop.home.data("incoming")
        parts = [(blob, part_of(folder, blob.digest)) for blob in artefact.blobs]
        check_room(folder, sum(blob.size - held_of(part) for blob, part in parts))
        blobs = {blob.digest: repository.fetch(blob, part) for blob, part in parts}
        bundle = read_bundle(artefact, blobs)
        arrival = adoption.Arrival(kind="registry", source=str(place), signer=signer.fingerprint)

        def supply(blob: Descriptor) -> bool:
            return fetch_into(shop, repository, blob)

        taken = _take_bundle(shop, bundle, arrival, signer, terms, work, supply)
        for path in blobs.values():
            path.unlink(missing_ok=True)
    return taken


@dataclass(frozen=True, kw_only=True)
class _Signer:
    """Who signed what is taken in, as far as that is known here."""

    name: str = ""
    fingerprint: str = ""


def _signer(shop: Workshop, artefact: Artefact, terms: Terms) -> _Signer:
    """Who signed it. Raises BadInput if it was changed since, or nobody did who has to."""
    check_artefact(artefact)
    found = signatures.signatures(shop.home, artefact)
    trusted = next((signed for signed in found if signed.name), None)
    if trusted:
        shop.emit(Note(text=f"signed by {trusted.name}"))
        return _Signer(name=trusted.name or "", fingerprint=trusted.fingerprint)
    strangers = ", ".join(signed.fingerprint[:12] for signed in found)
    what = f"signed by {strangers}, which is not trusted here" if found else "not signed"
    if terms.signed:
        raise BadInput(
            f"A signature is required here, and this is {what}.",
            mend="ollama-ft keys trust FILE.pub, with the maker's public key",
        )
    shop.emit(Note(text=what))
    return _Signer()


def _take_bundle(
    shop: Workshop,
    bundle: Bundle,
    arrival: adoption.Arrival,
    signer: _Signer,
    terms: Terms,
    work: Path,
    supply: Supply | None,
) -> Taken:
    known = bundle.provenance
    name = terms.family or known.version.family
    families.check_name(name)
    with shop.home.lock(name):
        publishing.check_free(shop.db, shop.client, name)
        begun = newest(shop.db, Family, name=name)
        base = row(shop.db, Base, begun.base) if begun else None
        if base is None or base.blob_digest != known.base.blob_digest:
            base = base_of(shop, known.base, terms.base, supply)
        told = known.version
        family = families.create(
            shop.db,
            name,
            base,
            system=told.system,
            template=told.template,
            parameters=told.parameters,
        )
        v0 = _begun(shop, family)
        version = adoption.adopt(
            shop.db,
            shop.home,
            family,
            base,
            bundle,
            arrival,
            work=work / "checked",
            renumber=terms.renumber,
        )
        return Taken(version=version, proof=prove(shop, version, v0), signer=signer.name)


def _take_foreign(shop: Workshop, offer: Offer, source: str, terms: Terms, work: Path) -> Taken:
    adoption.check_trainer()
    if terms.signed:
        raise BadInput(f"A signature is required here, and {source} cannot carry one.")
    for note in offer.notes:
        shop.emit(Note(text=note))
    existing = newest(shop.db, Family, name=terms.family) if terms.family else None
    base_name = terms.base or offer.base
    if existing is None and not base_name:
        raise BadInput(
            f"{source} does not say which base it is for.",
            mend=f"ollama-ft import {source} --family NAME --base MODEL",
        )
    name = terms.family or families.derive_name(base_name)
    families.check_name(name)
    with shop.home.lock(name):
        publishing.check_free(shop.db, shop.client, name)
        # A Modelfile brings a prompt of its own; a family with another one refuses it.
        family = existing if existing and not offer.base else _family(shop, name, base_name, offer)
        if existing and terms.base and not offer.base:
            _check_base(shop, existing, terms.base)
        base = row(shop.db, Base, family.base)
        v0 = _begun(shop, family)
        taught = datasets.build(_rows(terms.data))
        shop.emit(Stage(name="measure", text="asking the trainer's model, for the proof"))
        version = adoption.adopt_foreign(
            shop.db,
            shop.home,
            family,
            base,
            offer,
            adoption.Arrival(kind=offer.kind, source=source),
            dataset=datasets.freeze(shop.db, shop.home, name, taught),
            asked=lambda: taught.rows or _general(shop, v0),
            render=lambda messages: shop.client.render(v0.tag, messages),
            work=work,
        )
        return Taken(version=version, proof=prove(shop, version, v0), signer="")


def _general(shop: Workshop, v0: Version) -> tuple[Conversation, ...]:
    """Questions for an adapter of which nothing is known: those that the bare base answers to an
    end, so that one without an end is the adapter's doing.
    """
    rows = _rows((shipped() / "data" / "questions.jsonl",))
    answers = shop.client.ask_many(
        v0.tag,
        [row.prompt for row in rows],
        options=GREEDY | {"num_predict": STOP_BUDGET},
        think=False,
    )
    ended = [r for r, a in zip(rows, answers, strict=True) if a.done and a.done_reason == "stop"]
    if not ended:
        raise BadInput(
            f"{v0.tag} ends none of its answers, so nothing can be asked for a proof.",
            mend="say what the adapter was taught: --data FILE",
        )
    return tuple(ended)


def _check_base(shop: Workshop, family: Family, named: str) -> None:
    """The base that is named for an adapter is the one that the family stands on."""
    base, _ = bases.pin(shop.db, shop.home, shop.client, named, shop.emit)
    standing = row(shop.db, Base, family.base)
    if base.blob_digest != standing.blob_digest:
        raise Conflict(
            f"{family.name} stands on {standing.name}, and not on {base.name}.",
            mend="choose another family for it: --family NAME",
        )


def _family(shop: Workshop, name: str, base_name: str, offer: Offer) -> Family:
    base, shown = bases.pin(shop.db, shop.home, shop.client, base_name, shop.emit)
    return families.create(
        shop.db,
        name,
        base,
        system=shown.system if offer.system is None else offer.system,
        template=shown.template if offer.template is None else offer.template,
        parameters={"temperature": 0} | dict(shown.parameters) | dict(offer.parameters or {}),
    )


def _begun(shop: Workshop, family: Family) -> Version:
    """The family's bare base, registered and at the runtime; live if nothing else is."""
    if newest(shop.db, Use) is None:
        families.use(shop.db, family.name)
    v0 = newest(shop.db, Version, family=family.name, number=0) or publishing.register(
        shop.db, family, None
    )
    publishing.bring(shop.db, shop.home, shop.client, v0)
    if live(shop.db, family.name) is None:
        promotion.promote(shop.db, v0, pointer(shop), "the bare base")
    return v0


def _reference(place: Place, repository: Repository) -> str:
    if place.reference:
        return place.reference
    tags = ", ".join(repository.tags()) or "none are told"
    raise BadInput(
        f"{place} names no version. Tags there: {tags}.", mend=f"ollama-ft pull {place}:v1"
    )


def _rows(files: tuple[Path, ...]) -> tuple[Conversation, ...]:
    from ollama_ft.kinds.formats import read_rows

    for path in files:
        if not path.is_file():
            raise NotFound(f"There is no file {path}.")
    return tuple(found for path in files for _, found in read_rows(path, None))


@contextmanager
def _work(home: Home) -> Iterator[Path]:
    folder = home.data("incoming")
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".work-*"):  # by an import that was killed
        if time.time() - left.stat().st_mtime > ABANDONED:
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=folder, prefix=".work-") as name:
        yield Path(name)
