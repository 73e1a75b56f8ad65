"""What keeps what is there: versions brought back or elsewhere, and a family on a moved base."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ollama_ft.core.catalog import every, row
from ollama_ft.core.errors import Conflict, FtError, NotFound, RuntimeRefused, RuntimeUnavailable
from ollama_ft.core.events import Stage
from ollama_ft.core.recipe import read_recipe
from ollama_ft.core.records import (
    Base,
    Dataset,
    Family,
    Proof,
    Publication,
    RecipeText,
    Run,
    Version,
)
from ollama_ft.core.refs import bare, live
from ollama_ft.kinds.base_texts import whence
from ollama_ft.kinds.containers import Reading
from ollama_ft.loop import Lesson, Outcome, again, pointer, prove
from ollama_ft.stages import base as bases
from ollama_ft.stages import publish as publishing
from ollama_ft.stages.gate import Gate
from ollama_ft.workshop import Workshop


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A version brought to the runtime, or why it could not be."""

    version: Version
    publication: Publication | None = None
    proof: Proof | None = None  # None also for the bare base, of which nothing is to be proved
    problem: str = ""
    let_go: str = ""  # when gc let its weights go, so that there is nothing to bring


def publish(shop: Workshop, version: Version, way: publishing.Way) -> Arrival:
    """Bring a version to the runtime and prove it there, beside the bare base.

    Raises RuntimeRefused if it cannot be brought, ProofFailed if what is served there is not what
    was trained.
    """
    v0 = bare(shop.db, version.family, version.base)
    assert v0 is not None, "a version comes after the bare base that it stands on"
    publication = publishing.bring(shop.db, shop.home, shop.client, v0)
    if version.run is None:
        return Arrival(version=version, publication=publication)
    proof = prove(shop, version, v0, way)
    publication = publishing.bring(shop.db, shop.home, shop.client, version, way)
    return Arrival(version=version, publication=publication, proof=proof)


def publish_all(shop: Workshop, families: Sequence[Family], way: publishing.Way) -> list[Arrival]:
    """Bring every version to the runtime that is not there, and point `family:latest` at the live
    one again.

    A version that cannot be brought or proved is told with its reason, and the others follow; so
    is a live one that cannot be pointed at. Raises RuntimeUnavailable if the runtime goes away.
    """
    arrivals = []
    for family in families:
        current = live(shop.db, family.name)
        for version in reversed(every(shop.db, Version, family=family.name)):
            is_live = current is not None and current.version.key == version.key
            try:
                arrivals.append(_brought(shop, version, way, is_live=is_live))
            except FtError as error:
                if isinstance(error, RuntimeUnavailable) and not isinstance(error, RuntimeRefused):
                    raise
                arrivals.append(Arrival(version=version, problem=str(error)))
    return arrivals


def _brought(shop: Workshop, version: Version, way: publishing.Way, *, is_live: bool) -> Arrival:
    if let_go := publishing.let_go(shop.db, shop.home, version):
        return Arrival(version=version, let_go=let_go)
    arrival = publish(shop, version, way)
    if is_live:
        pointer(shop)(version)
    return arrival


def rebase(shop: Workshop, family: Family, onto: str | None, gate: Gate) -> Outcome:
    """Teach the live version's data to another base, by the recipe that it was taught with.

    `onto` is the new base; None means what the old one's name stands for now. The new version
    becomes live if it is proved and the gate lets it pass against the live one, on the old base;
    from then on the family stands on the new base. Until then nothing has moved.

    Raises NotFound if the live version was taught nothing, Conflict if the base has not moved, and
    whatever training raises.
    """
    current = live(shop.db, family.name)
    if current is None or current.version.run is None:
        raise NotFound(
            f"{family.name} has been taught nothing that could be moved to another base.",
            mend="ollama-ft new --from MODEL --data FILE",
        )
    old, run = row(shop.db, Base, family.base), row(shop.db, Run, current.version.run)
    name = onto or whence(old)
    shop.emit(Stage(name="base", text=f"fetching {name} anew"))
    base, texts = bases.pin(shop.db, shop.home, shop.client, name, shop.emit, anew=True)
    if base.blob_digest == old.blob_digest:
        raise Conflict(
            f"{base.name} is what {family.name} stands on: {old.blob_digest[:19]}.",
            mend="ollama-ft rebase --onto MODEL",
        )
    parameters = json.loads(family.parameters_json)
    stops = {key: value for key, value in texts.parameters.items() if key == "stop"}
    moved = replace(
        family,
        base=base.key,
        template=texts.template,  # the prompt's form belongs to the base, its words to the family
        parameters_json=json.dumps(parameters | stops, ensure_ascii=False, sort_keys=True),
    )
    publishing.register(shop.db, moved, None)
    stored = row(shop.db, RecipeText, run.recipe)
    recipe = read_recipe(stored.text)
    if recipe.start:  # an adapter of the old base; its passes were reckoned for the new rows alone
        recipe = recipe.model_copy(update={"start": "", "epochs": 0.0})
    lesson = Lesson(
        files=(),
        reading=Reading(),
        recipe=recipe,
        recipe_name=stored.name,
        gate=gate,
    )
    return again(shop, moved, row(shop.db, Dataset, run.dataset), lesson)
