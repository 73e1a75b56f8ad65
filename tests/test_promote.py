import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from ollama_ft.core.catalog import append, every, row
from ollama_ft.core.errors import Conflict, NothingToRollBack, ProofFailed, RuntimeRefused
from ollama_ft.core.records import Intent, Promotion, Version
from ollama_ft.core.refs import live, resolve
from ollama_ft.stages import promote as stage
from tests.rows import a_family, a_version


class Tags:
    """A runtime's tags, as a function: it takes every copy and remembers it, or refuses."""

    def __init__(self, refuse=False):
        self.moved = []
        self.refuse = refuse

    def __call__(self, version):
        if self.refuse:
            raise RuntimeRefused("no")
        self.moved.append(version.tag)
        return f"digest of {version.tag}"


def test_rollbacks_walk_back_and_never_undo_each_other(db):
    family, tags = a_family(db), Tags()
    versions = [a_version(db, family, n) for n in range(4)]
    for version in versions:
        stage.promote(db, version, tags, "")
    back = [row(db, Version, stage.rollback(db, family, tags, "").version).number for _ in "abc"]
    assert back == [2, 1, 0]
    assert tags.moved == [f"bot:v{n}" for n in (0, 1, 2, 3, 2, 1, 0)]
    with pytest.raises(NothingToRollBack):
        stage.rollback(db, family, tags, "")
    assert len(every(db, Promotion)) == 7


def test_a_promotion_after_rollbacks_returns_to_what_was_live_then(db):
    family, tags = a_family(db), Tags()
    versions = [a_version(db, family, n) for n in range(4)]
    for version in versions[:3]:
        stage.promote(db, version, tags, "")
    stage.rollback(db, family, tags, "")
    stage.promote(db, versions[3], tags, "")
    assert resolve(db, "bot@prev").number == 1


@pytest.mark.parametrize("proved", [None, False])
def test_no_proof_no_promotion(db, proved):
    version = a_version(db, a_family(db), 1, proved=proved)
    with pytest.raises(ProofFailed, match="bot:v1"):
        stage.promote(db, version, Tags(), "")
    assert every(db, Intent) == []


def test_the_bare_base_needs_no_proof(db):
    version = a_version(db, a_family(db), 0)
    stage.promote(db, version, Tags(), "")
    assert live(db, "bot").version == version


def test_promoting_what_is_live_writes_no_second_row(db):
    version = a_version(db, a_family(db), 1)
    first = stage.promote(db, version, Tags(), "")
    assert stage.promote(db, version, Tags(), "") == first
    assert len(every(db, Promotion)) == 1


def test_a_refused_move_stands_in_the_journal_and_moves_nothing(db):
    family = a_family(db)
    one, two = a_version(db, family, 1), a_version(db, family, 2)
    stage.promote(db, one, Tags(), "")
    with pytest.raises(RuntimeRefused):
        stage.promote(db, two, Tags(refuse=True), "")
    assert [p.outcome for p in every(db, Promotion)] == ["abandoned", "done"]
    assert live(db, "bot").version == one
    assert stage.pending(db) == []


def test_what_a_crash_left_is_found_and_finished(db):
    family, tags = a_family(db), Tags()
    one, two = a_version(db, family, 1), a_version(db, family, 2)
    before = stage.promote(db, one, tags, "")
    append(
        db, Intent(family="bot", version=two.key, action="promote", parent=before.id, reason="r")
    )
    assert live(db, "bot").version == one  # the intent alone moves nothing
    (intent,) = stage.pending(db)
    finished = stage.mend(db, intent, tags)
    assert (finished.outcome, finished.digest) == ("done", "digest of bot:v2")
    assert live(db, "bot").version == two
    assert stage.pending(db) == []


def test_a_crash_while_the_tag_is_moved_leaves_an_intent(db):
    version = a_version(db, a_family(db), 1)

    def killed(version):
        raise SystemExit

    with pytest.raises(SystemExit):
        stage.promote(db, version, killed, "why")
    assert [i.reason for i in stage.pending(db)] == ["why"]


def test_rollback_of_several_steps_goes_as_far_as_it_says(db):
    family, tags = a_family(db), Tags()
    for n in range(4):
        stage.promote(db, a_version(db, family, n), tags, "")
    stage.rollback(db, family, tags, "", steps=3)
    assert live(db, "bot").version.number == 0


def test_a_rollback_to_a_version_that_was_never_live_is_refused(db):
    family, tags = a_family(db), Tags()
    for n in range(2):
        stage.promote(db, a_version(db, family, n), tags, "")
    with pytest.raises(Conflict, match="bot:v2 was not live before"):
        stage.steps_back(db, family, a_version(db, family, 2))


class Halfway:
    """A runtime that moves the tag, and then cannot say so."""

    def __init__(self):
        self.moved = []

    def __call__(self, version):
        self.moved.append(version.tag)
        if len(self.moved) == 1:
            raise RuntimeRefused("gone")
        return "d"


def test_a_tag_that_moved_before_the_refusal_is_put_back(db):
    family, runtime = a_family(db), Halfway()
    one, two = a_version(db, family, 1), a_version(db, family, 2)
    stage.promote(db, one, Tags(), "")
    with pytest.raises(RuntimeRefused):
        stage.promote(db, two, runtime, "")
    assert runtime.moved == ["bot:v2", "bot:v1"]
    assert live(db, "bot").version == one


@pytest.fixture
def interrupted(db):
    """bot: v1 is live, the move to v2 has begun and not ended."""
    family = a_family(db)
    stage.promote(db, a_version(db, family, 1), Tags(), "")

    def killed(version):
        raise SystemExit

    with pytest.raises(SystemExit):
        stage.promote(db, a_version(db, family, 2), killed, "")
    return family


@pytest.fixture
def shop(db, home, monkeypatch):
    """A workshop whose runtime is `shop.tags`, and which keeps what it tells."""
    from ollama_ft import loop
    from ollama_ft.workshop import Workshop

    told, tags = [], Tags()
    monkeypatch.setattr(loop, "pointer", lambda shop: tags)
    made = Workshop(db=db, home=home, client=None, emit=lambda event: told.append(event.text))
    return SimpleNamespace(made=made, told=told, tags=tags, mend=lambda: loop.mend(made))


def test_the_next_command_finishes_a_move_and_says_so(db, interrupted, shop):
    shop.mend()
    assert shop.told == ["finished an interrupted promote: bot:v2 is live"]
    assert live(db, "bot").version.number == 2


def _hold(home, locked, done):
    with home.lock("bot"):
        locked.set()
        done.wait(60)


def test_a_move_that_another_process_is_making_is_left_to_it(db, home, interrupted, shop):
    context = multiprocessing.get_context("spawn")
    locked, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(home, locked, done))
    other.start()
    assert locked.wait(60)
    try:
        shop.mend()
        assert (shop.tags.moved, shop.told) == ([], [])
        assert len(stage.pending(db)) == 1
    finally:
        done.set()
        other.join()


def test_the_command_that_holds_the_family_finishes_its_move(db, home, interrupted, shop):
    with home.lock("bot"):
        shop.mend()
        with pytest.raises(Conflict):  # it still holds it
            _in_another_thread(lambda: home.lock("bot").__enter__())
    assert stage.pending(db) == []


def _in_another_thread(call):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def test_a_move_that_ended_meanwhile_is_not_made_twice(db, interrupted):
    (intent,) = stage.pending(db)
    stage.mend(db, intent, Tags())
    assert stage.mend(db, intent, Tags()) is None


def test_a_move_that_cannot_be_finished_is_given_up_and_the_command_goes_on(db, interrupted, shop):
    shop.tags.refuse = True
    shop.mend()
    assert "an interrupted promote to bot:v2 was given up: no" in shop.told[0]
    assert stage.pending(db) == []
    assert live(db, "bot").version.number == 1
