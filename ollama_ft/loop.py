"""The whole story: from an Ollama name to a live, proven version, and back.

base → dataset → train → convert → publish → verify → evaluate → promote. Each stage does one thing
and leaves one row; here they are put one behind the other. Running a function again with the same
arguments finds the rows that are there and goes on from the first one that is not.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ollama_ft.core.catalog import newest, row
from ollama_ft.core.errors import (
    BadInput,
    Conflict,
    FtError,
    ProofFailed,
)
from ollama_ft.core.events import Note, Stage
from ollama_ft.core.judged_records import Verdict
from ollama_ft.core.recipe import Recipe
from ollama_ft.core.records import (
    Base,
    Dataset,
    Evaluation,
    Family,
    Promotion,
    Proof,
    Run,
    Version,
)
from ollama_ft.core.refs import bare, live
from ollama_ft.core.sqlite import Database
from ollama_ft.core.watch_records import Canary
from ollama_ft.kinds.containers import Reading
from ollama_ft.kinds.suites import Suite
from ollama_ft.kinds.trainers import environment
from ollama_ft.runtime.answers import Answer
from ollama_ft.runtime.client import user_message
from ollama_ft.runtime.memory import in_the_way, room
from ollama_ft.runtime.publish import point as move_tag
from ollama_ft.stages import base as bases
from ollama_ft.stages import canary as canaries
from ollama_ft.stages import convert as conversion
from ollama_ft.stages import dataset as datasets
from ollama_ft.stages import family as families
from ollama_ft.stages import gate as gates
from ollama_ft.stages import promote as promotion
from ollama_ft.stages import publish as publishing
from ollama_ft.stages import suite as suites
from ollama_ft.stages import verify as proving
from ollama_ft.stages.clean import newest_revision
from ollama_ft.stages.gate import Gate
from ollama_ft.stages.publish import ANY
from ollama_ft.trial import evaluate_all, hold, own_questions, rival
from ollama_ft.workshop import Workshop


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a family is to be taught, and how."""

    files: tuple[Path, ...]
    reading: Reading
    recipe: Recipe
    recipe_name: str
    gate: Gate
    anew: bool = False  # learn from these files alone, not from what the live version learned too
    way: publishing.Way = ANY  # how the version shall get to the runtime
    promote: bool = True  # make it live if it passes the gate


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A trained version with its proof, its figures beside the base's, and the gate's verdict."""

    version: Version
    proof: Proof
    base: Evaluation
    before: Evaluation  # of the version that was live; the base's, if that was
    after: Evaluation
    verdict: Verdict
    promoted: bool  # by the gate, or earlier


def new(
    shop: Workshop,
    name: str,
    base_name: str,
    *,
    system: str | None = None,
    template: str | None = None,
    parameters: Mapping[str, object] | None = None,
) -> Family:
    """Start the family `name` on a base: fetch and pin it, publish v0, make that live.

    None keeps the base's own. Parameters are added to the base's; answers are greedy
    (temperature 0) unless they say otherwise, since that is how versions are judged.

    Raises NotFound, Conflict, BadInput, RuntimeUnavailable; an unfinished family is finished by
    the same command.
    """
    families.check_name(name)
    shop.emit(Stage(name="base", text=f"fetching and pinning {base_name}"))
    base, shown = bases.pin(shop.db, shop.home, shop.client, base_name, shop.emit)
    publishing.check_free(shop.db, shop.client, name)
    family = families.create(
        shop.db,
        name,
        base,
        system=shown.system if system is None else system,
        template=shown.template if template is None else template,
        parameters={"temperature": 0} | dict(shown.parameters) | dict(parameters or {}),
    )
    families.use(shop.db, name)
    version = publishing.register(shop.db, family, None)
    publishing.bring(shop.db, shop.home, shop.client, version)
    if live(shop.db, name) is None:
        promotion.promote(shop.db, version, pointer(shop), "the bare base")
    return family


def teach(shop: Workshop, family: Family, lesson: Lesson) -> Outcome:
    """Add the lesson's files to what the live version learned; make a version from all of it.

    The version becomes live if it is proved and passes the gate. If the gate says no, or cannot
    tell, it is kept, the live one stays, and the outcome says so.

    Raises ProofFailed if it is not proved; it is kept too.
    """
    shop.emit(Stage(name="dataset", text="reading " + ", ".join(f.name for f in lesson.files)))
    onto = None if lesson.anew else _learned(shop, family)
    frozen = datasets.gather(
        shop.home,
        lesson.files,
        onto=onto,
        reading=lesson.reading,
        db=shop.db,
        banned=suites.banned(shop.db, shop.home, family.name),
    )
    return make(shop, family, frozen, lesson)


def make(shop: Workshop, family: Family, frozen: datasets.Frozen, lesson: Lesson) -> Outcome:
    """Train, convert, publish, prove, evaluate and promote one version from rows."""
    environment.prepare()  # the next line loads torch
    from ollama_ft.kinds.trainers.machine import find_device
    from ollama_ft.stages.train import prepare, train

    test = suites.of_test_rows(frozen.rows, family.name)
    device = find_device("auto")
    guests = in_the_way(shop.client, device)
    v0 = row(shop.db, Version, _bare_base(shop.db, family))
    publishing.bring(shop.db, shop.home, shop.client, v0)
    prepared = prepare(
        shop.db,
        shop.home,
        family,
        frozen.rows,
        lesson.recipe,
        lesson.recipe_name,
        lambda messages: shop.client.render(v0.tag, messages),
        _known(shop, lesson.recipe),
    )
    dataset = datasets.freeze(shop.db, shop.home, family.name, frozen)
    suites.freeze(shop.db, shop.home, test)
    shop.emit(Note(text=datasets.told(dataset, held_back=lesson.recipe.patience > 0)))
    if hint := shortcut(shop, family, frozen, lesson):
        shop.emit(Note(text=hint))
    shop.emit(Stage(name="train", text=f"LoRA, recipe {lesson.recipe_name}"))
    with room(shop.client, device, guests, shop.may_unload, shop.emit):
        run = train(shop.db, shop.home, prepared, dataset, shop.emit)
    shop.emit(Stage(name="convert", text="writing the adapter as GGUF"))
    adapter = conversion.convert(shop.db, shop.home, run)
    version = publishing.register(shop.db, family, adapter)
    proof = prove(shop, version, v0, lesson.way)
    return _judge(shop, version, proof, v0, test, lesson)


def shortcut(shop: Workshop, family: Family, frozen: datasets.Frozen, lesson: Lesson) -> str:
    """What going on from the live version would save, in words; "" if that is little."""
    current = live(shop.db, family.name)
    if lesson.recipe.start or lesson.anew or current is None or current.version.run is None:
        return ""
    run = row(shop.db, Run, current.version.run)
    if not datasets.is_here(shop.home, row(shop.db, Dataset, run.dataset)):
        return ""
    known = datasets.learned(shop.db, shop.home, run)
    taught = [one for one in frozen.rows if one.split != "test"]
    new = sum(one.digest not in known for one in taught)
    if not 0 < 4 * new <= len(taught):
        return ""
    return (
        f"{new} of {len(taught)} rows are new. To teach these and as many of the others, in about "
        f"{round(200 * new / len(taught))} % of the time: --strategy continue"
    )


def again(shop: Workshop, family: Family, dataset: Dataset, lesson: Lesson) -> Outcome:
    """Make a version from a dataset that is frozen already."""
    rows = tuple(datasets.load(shop.home, dataset))
    return make(shop, family, datasets.Frozen(rows=rows), lesson)


def prove(shop: Workshop, version: Version, v0: Version, way: publishing.Way = ANY) -> Proof:
    """Bring a version to the runtime and prove it there. Raises ProofFailed if it fails."""
    shop.emit(Stage(name="publish", text=f"bringing {version.tag} to {shop.client.address.url}"))
    publication = publishing.bring(shop.db, shop.home, shop.client, version, way)
    shop.emit(Note(text=publishing.told(shop.db, publication)))
    proof = newest(shop.db, Proof, version=version.key, publication=publication.key)
    if proof is None or not proof.passed:
        shop.emit(Stage(name="prove", text="asking the runtime what the trainer was asked"))
        proof = proving.verify(shop.db, shop.home, shop.client, version, publication, v0.tag)
    if not proof.passed:
        raise ProofFailed(
            f"{version.tag} is not served as it was trained.\n{proving.failures(proof)}",
            mend=f"ollama-ft show {version.tag} --proof",
        )
    keep_canary(shop, version, v0)
    return proof


def keep_canary(shop: Workshop, version: Version, v0: Version) -> Canary:
    """Keep what a version says here to fixed prompts, beside the bare base; once for a place."""
    place = canaries.place(shop.client)
    if found := canaries.planted(shop.db, version, place):
        return found
    for needed in (v0, version):
        publishing.bring(shop.db, shop.home, shop.client, needed)
    shop.emit(Note(text=f"keeping what {version.tag} says to fixed prompts"))
    return canaries.plant(shop.db, shop.home, shop.client, version, v0.tag, place)


def _judge(
    shop: Workshop, version: Version, proof: Proof, v0: Version, test: Suite, lesson: Lesson
) -> Outcome:
    before = rival(shop.db, version, v0)
    (base,) = evaluate_all(shop, v0, [test])
    verdict, trial = hold(shop, lesson.gate, version, before, test)
    wins = verdict.outcome == "pass" and lesson.promote
    outcome = Outcome(
        version=version,
        proof=proof,
        base=base,
        before=trial.before,
        after=trial.after,
        verdict=verdict,
        promoted=wins or _is_live(shop.db, version),
    )
    if outcome.promoted:
        shop.emit(Stage(name="promote", text=f"{version.family}:latest → {version.tag}"))
        reason = f"{outcome.after.right} of {outcome.after.questions} right"
        promotion.promote(shop.db, version, pointer(shop), reason)
    return outcome


def resume(shop: Workshop, family: Family, gate: Gate) -> Outcome:
    """Go on with the family's newest training that was not finished, as it was begun.

    Raises NotFound if there is none.
    """
    from ollama_ft.stages.train import unfinished

    dataset, recipe, name = unfinished(shop.db, shop.home, family)
    lesson = Lesson(files=(), reading=Reading(), recipe=recipe, recipe_name=name, gate=gate)
    return again(shop, family, dataset, lesson)


def evaluate(shop: Workshop, version: Version, names: Sequence[str] = ()) -> list[Evaluation]:
    """Ask a version its test questions, or the named suites; return the scores in that order.

    Raises NotFound if there is no such suite, or no data yet.
    """
    if names:
        asked = suites.chosen(shop.db, shop.home, version.family, names)
    else:
        asked = [own_questions(shop, version)]
    return evaluate_all(shop, version, asked)


def ask(
    shop: Workshop, version: Version, question: str, on_text: Callable[[str], None] | None
) -> Answer:
    """Ask a version one question, as anybody would who talks to the runtime."""
    publishing.bring(shop.db, shop.home, shop.client, version)
    return shop.client.chat(version.tag, user_message(question), on_text=on_text, think=False)


def promote(
    shop: Workshop, version: Version, reason: str, gate: Gate, *, force: bool = False
) -> tuple[Promotion, Verdict | None]:
    """Make a proved version live at this runtime if it passes the gate against the live one.

    `force` promotes it whatever the gate says; the journal tells so for ever. The verdict is None
    where nothing is live to compare with, or the version itself is.

    Raises ProofFailed, GateFailed, NotEnoughData, BadInput for `force` without a reason; the live
    version stays then.
    """
    promotion.check_proof(shop.db, version)
    if force and not reason:
        raise BadInput("--force needs a --reason: it stands in the history for ever.")
    current = live(shop.db, version.family)
    if current is None or current.version.key == version.key:
        return promotion.promote(shop.db, version, pointer(shop), reason), None
    test = own_questions(shop, version, current.version)
    verdict, _ = hold(shop, gate, version, current.version, test)
    refused = gates.refusal(verdict, version, current.version)
    if refused and not force:
        raise refused
    if refused:
        reason = gates.forced(reason, verdict.outcome)
    return promotion.promote(shop.db, version, pointer(shop), reason), verdict


def rollback(shop: Workshop, family: Family, target: Version | None, reason: str) -> Promotion:
    """Return to the version that was live before, or further back to `target`.

    What is live already stays so, and no row is written.
    """
    steps = promotion.steps_back(shop.db, family, target)
    if target and steps == 0:
        return promotion.promote(shop.db, target, pointer(shop), reason)
    return promotion.rollback(shop.db, family, pointer(shop), reason, steps)


def mend(shop: Workshop) -> None:
    """Finish the moves of the live pointer that a crash interrupted, and tell of each.

    A family that another process works on is left to it: its move is under way. A move that the
    runtime refuses is given up; what was live stays so.
    """
    for intent in promotion.pending(shop.db):
        tag = row(shop.db, Version, intent.version).tag
        with ExitStack() as held:
            try:
                held.enter_context(shop.home.lock(intent.family))
            except Conflict:
                continue
            try:
                finished = promotion.mend(shop.db, intent, pointer(shop))
            except FtError as error:
                text = f"an interrupted {intent.action} to {tag} was given up: {error}"
                shop.emit(Note(text=text))
                continue
        if finished:
            shop.emit(Note(text=f"finished an interrupted {intent.action}: {tag} is live"))


def pointer(shop: Workshop) -> Callable[[Version], str]:
    """How `family:latest` is moved here: bring the version if it is not there, copy, read back."""

    def point(version: Version) -> str:
        publishing.bring(shop.db, shop.home, shop.client, version)
        return move_tag(shop.client, version.tag, f"{version.family}:latest")

    return point


def _learned(shop: Workshop, family: Family) -> Dataset | None:
    """What the live version was taught, cleaned if it was; the newest data for the bare base."""
    current = live(shop.db, family.name)
    if current and current.version.dataset:
        return newest_revision(shop.db, row(shop.db, Dataset, current.version.dataset))
    return datasets.newest_here(shop.db, shop.home, family.name)


def _known(shop: Workshop, recipe: Recipe) -> frozenset[str]:
    """Digests of the rows that the adapter to go on from learned."""
    run = newest(shop.db, Run, peft_digest=recipe.start) if recipe.start else None
    return datasets.learned(shop.db, shop.home, run) if run else frozenset()


def _is_live(db: Database, version: Version) -> bool:
    current = live(db, version.family)
    return current is not None and current.version.key == version.key


def _bare_base(db: Database, family: Family) -> int:
    version = bare(db, family.name, family.base)
    if version is None:
        base = row(db, Base, family.base)
        raise Conflict(
            f"{family.name} was never finished.",
            mend=f"ollama-ft new {family.name} --from {base.name}",
        )
    return version.key
