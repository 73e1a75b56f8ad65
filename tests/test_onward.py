"""Going on from the live version's adapter: when it is offered, and when it is refused."""

import pytest

from ollama_ft import loop, onward
from ollama_ft.core.catalog import append
from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import BadInput, Conflict
from ollama_ft.core.recipe import Recipe
from ollama_ft.core.records import Cleaned
from ollama_ft.loop import Lesson
from ollama_ft.stages import dataset as datasets
from ollama_ft.workshop import Workshop
from tests.rows import a_family, a_version


def rows(count: int) -> tuple[Conversation, ...]:
    return tuple(
        Conversation(
            messages=(
                Message(role="user", content=f"Fact {i}?"),
                Message(role="assistant", content=f"It is {i}."),
            ),
            split="test" if i % 10 == 9 else "train",
        )
        for i in range(count)
    )


@pytest.fixture
def bot(db, home):
    """`bot`, whose live v1 was taught nine rows of ten by a recipe of rank 8."""
    family = a_family(db)
    a_version(db, family, 0)
    v1 = a_version(db, family, 1)
    dataset = datasets.freeze(db, home, "bot", datasets.Frozen(rows=rows(10)))
    db.execute("update versions set dataset = ? where id = ?", [dataset.key, v1.key])
    db.execute("update runs set dataset = ?, peft_digest = 'sha256:1' where id = ?", [dataset.key, v1.run])  # fmt: skip
    db.execute("update recipes set text = ?", [Recipe(rank=8).text()])
    from ollama_ft.stages.promote import promote

    promote(db, v1, lambda version: "sha256:0", "test")
    return family


def lesson(anew: bool = False, **keys) -> Lesson:
    return Lesson(
        files=(),
        reading=None,
        recipe=Recipe(**{"rank": 8} | keys),
        recipe_name="mine",
        gate=None,
        anew=anew,
    )


def test_the_lesson_begins_with_the_live_version_s_adapter(db, bot):
    assert onward.warm(db, bot, lesson()).recipe == Recipe(rank=8, start="sha256:1")


def test_an_adapter_of_another_shape_is_refused_with_the_words_that_set_it(db, bot):
    with pytest.raises(BadInput, match="another rank and target_modules than mine says") as caught:
        onward.warm(db, bot, lesson(rank=16, target_modules=("q_proj",)))
    assert caught.value.mend == "--set rank=8 --set target_modules=all-linear"


def test_who_leaves_the_earlier_data_out_cannot_go_on(db, bot):
    with pytest.raises(BadInput, match="--anew leaves out"):
        onward.warm(db, bot, lesson(anew=True))


def test_who_goes_on_would_keep_what_was_cleaned_away(db, home, bot):
    before = datasets.newest_here(db, home, "bot")
    cleaned = datasets.freeze(db, home, "bot", datasets.Frozen(rows=rows(9)))
    row = Cleaned(
        family="bot",
        dataset=cleaned.key,
        parent=before.key,
        came=10,
        stayed=9,
        digest="",
        counts_json="{}",
    )
    append(db, row)
    with pytest.raises(Conflict, match="cleaned since"):
        onward.warm(db, bot, lesson())


def test_a_bare_live_version_is_nothing_to_go_on_from(db):
    family = a_family(db)
    a_version(db, family, 0)
    with pytest.raises(Conflict, match="nothing to go on from"):
        onward.warm(db, family, lesson())


@pytest.mark.parametrize(
    ("count", "changes", "hint"),
    [
        (12, {}, "2 of 11 rows are new. To teach these and as many of the others, in about 36 %"),
        (10, {}, ""),  # nothing is new
        (20, {}, ""),  # half is new: that saves nothing
        (12, {"anew": True}, ""),
        (12, {"start": "sha256:1"}, ""),
    ],
)
def test_the_short_way_is_offered_where_little_is_new(db, home, bot, count, changes, hint):
    shop = Workshop(db=db, home=home, client=None, emit=None)
    frozen = datasets.Frozen(rows=rows(count))
    said = loop.shortcut(shop, bot, frozen, lesson(**changes))
    assert said.startswith(hint) and bool(said) == bool(hint)


def test_it_is_not_offered_where_the_rows_stayed_elsewhere(db, home, bot):
    for file in home.data("datasets").rglob("*.jsonl"):
        file.unlink()
    shop = Workshop(db=db, home=home, client=None, emit=None)
    assert loop.shortcut(shop, bot, datasets.Frozen(rows=rows(12)), lesson()) == ""
