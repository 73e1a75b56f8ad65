"""Going on from the live version's adapter instead of training anew: shorter, and it remembers.

New rows are learned in full; of those that the adapter knows, as many are replayed. Who goes on
from an adapter has all that it learned, so no row of it may have left the data since.
"""

from dataclasses import replace

from ollama_ft.core.catalog import row
from ollama_ft.core.errors import BadInput, Conflict
from ollama_ft.core.recipe import read_recipe
from ollama_ft.core.records import Dataset, Family, RecipeText, Run
from ollama_ft.core.refs import live
from ollama_ft.core.sqlite import Database
from ollama_ft.loop import Lesson
from ollama_ft.stages.clean import newest_revision

SHAPE = (
    "adapter",
    "rank",
    "alpha",
    "target_modules",
)  # keys that make an adapter's shape and scale


def warm(db: Database, family: Family, lesson: Lesson) -> Lesson:
    """The lesson begun from the live version's adapter.

    Raises Conflict if the live version has none that was trained here, or if data that it learned
    was cleaned since; BadInput if the lesson leaves out what was learned before, or would make an
    adapter of another shape.
    """
    if lesson.anew:
        raise BadInput(
            "--anew leaves out the earlier data, and the live version's adapter has learned it.",
            mend="leave out --anew, or --strategy continue",
        )
    current = live(db, family.name)
    if current is None or current.version.run is None:
        raise Conflict(
            f"{family.name}'s live version was not trained here; there is nothing to go on from.",
            mend="ask for --strategy scratch",
        )
    run = row(db, Run, current.version.run)
    dataset = row(db, Dataset, run.dataset)
    if newest_revision(db, dataset).key != dataset.key:
        raise Conflict(
            f"The data that {current.version.tag} learned was cleaned since; who goes on from it "
            "keeps what was dropped.",
            mend="ask for --strategy scratch",
        )
    before = read_recipe(row(db, RecipeText, run.recipe).text)
    if odd := [key for key in SHAPE if getattr(before, key) != getattr(lesson.recipe, key)]:
        raise BadInput(
            f"{current.version.tag} was trained with another {' and '.join(odd)} than "
            f"{lesson.recipe_name} says, and an adapter keeps its shape.",
            mend=" ".join(f"--set {key}={_written(getattr(before, key))}" for key in odd),
        )
    return replace(lesson, recipe=lesson.recipe.model_copy(update={"start": run.peft_digest}))


def _written(value: object) -> str:
    """A recipe's value as `--set` takes it."""
    if isinstance(value, tuple):
        return f"'[{', '.join(value)}]'"
    return f"{value:g}" if isinstance(value, float) else str(value)
