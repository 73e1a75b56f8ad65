"""What keeps what is there: versions brought back, and brought elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

from ollama_ft.core.catalog import every, newest
from ollama_ft.core.errors import FtError, RuntimeRefused, RuntimeUnavailable
from ollama_ft.core.records import Family, Proof, Publication, Version
from ollama_ft.core.refs import live
from ollama_ft.loop import Workshop, pointer, prove
from ollama_ft.stages import publish as publishing


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A version brought to the runtime, or why it could not be."""

    version: Version
    publication: Publication | None = None
    proof: Proof | None = None  # None also for the bare base, of which nothing is to be proved
    problem: str = ""


def publish(shop: Workshop, version: Version, way: publishing.Way) -> Arrival:
    """Bring a version to the runtime and prove it there, beside the bare base.

    Raises RuntimeRefused if it cannot be brought, ProofFailed if what is served there is not what
    was trained.
    """
    v0 = newest(shop.db, Version, family=version.family, number=0)
    assert v0 is not None, "a family's first version is the bare base"
    publication = publishing.bring(shop.db, shop.home, shop.client, v0)
    if version.run is None:
        return Arrival(version=version, publication=publication)
    proof = prove(shop, version, v0, way)
    publication = publishing.bring(shop.db, shop.home, shop.client, version, way)
    return Arrival(version=version, publication=publication, proof=proof)


def publish_all(shop: Workshop, families: Sequence[Family], way: publishing.Way) -> list[Arrival]:
    """Bring every version to the runtime that is not there, and point `family:latest` at the live
    one again.

    A version that cannot be brought or proved is told with its reason, and the others follow.
    Raises RuntimeUnavailable if the runtime goes away.
    """
    arrivals = []
    for family in families:
        for version in reversed(every(shop.db, Version, family=family.name)):
            try:
                arrivals.append(publish(shop, version, way))
            except FtError as error:
                if isinstance(error, RuntimeUnavailable) and not isinstance(error, RuntimeRefused):
                    raise
                arrivals.append(Arrival(version=version, problem=str(error)))
        if current := live(shop.db, family.name):
            pointer(shop)(current.version)
    return arrivals
