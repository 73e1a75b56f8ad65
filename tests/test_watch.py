"""Watching as people do it: drift, check, shadow, schedule, the canary."""

import json
import random
import shlex
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from click.testing import CliRunner

from ollama_ft import watch
from ollama_ft.cli.app import cli
from ollama_ft.cli.entries import entry
from ollama_ft.core.catalog import every
from ollama_ft.core.errors import NotEnoughData
from ollama_ft.core.events import silent
from ollama_ft.core.exchange import Heard, Turn, Verdict, new_uid
from ollama_ft.core.logbook import Pen
from ollama_ft.core.records import Promotion
from ollama_ft.core.refs import live
from ollama_ft.core.watch_records import Canary, Check, Drift
from ollama_ft.kinds.drift import lexical_vectors
from ollama_ft.stages import canary, drift, shadow
from ollama_ft.stages.promote import promote
from tests.rows import a_family, a_version, an_evaluation, digest

NOW = datetime.now(UTC).replace(microsecond=0)
HOURS = ("When do you open?", "On which days are you open?", "Are you open on {} mornings?")
MONEY = ("How do I get {} euros back?", "My parcel {} came broken, who pays?", "Refund for {}")
WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def heard(question, *, days=0.0, version="bot:v2", rating=None, before=(), **more):
    return Heard(
        **{
            "uid": new_uid(),
            "at": (NOW - timedelta(days=days)).isoformat(),
            "family": "bot",
            "version": version,
            "turns": (*before, Turn(role="user", content=question)),
            "reply": Turn(role="assistant", content=f"About {question}: yes."),
            "verdict": Verdict(rating=rating, by="me") if rating else None,
        }
        | more
    )


def questions(templates, count, seed=0):
    rng = random.Random(seed)
    return [rng.choice(templates).format(rng.choice(WEEK)) for _ in range(count)]


def ratings(up, down, **more):
    marks = ["up"] * up + ["down"] * down
    return [heard(f"{mark} {i}", rating=mark, **more) for i, mark in enumerate(marks)]


@pytest.fixture
def bot(db):
    """bot: v0, v1, v2, promoted 30, 20 and 5 days ago; v2 is live and on probation."""
    family = a_family(db)
    for number, days in ((0, 30), (1, 20), (2, 5)):
        made = promote(db, a_version(db, family, number), lambda v: "d" * 64, "")
        backdate(db, made, days)
    return family


def backdate(db, promotion, days):
    at = (NOW - timedelta(days=days)).isoformat()
    db.execute("update promotions set at = ? where id = ?", [at, promotion.key])


@pytest.fixture
def ft(home):
    def run(*arguments, code=0):
        result = CliRunner().invoke(cli, ["--home", str(home.path), *arguments])
        assert result.exit_code == code, result.output
        return result.output if code == 4 else result.stdout

    return run


@pytest.fixture
def no_shop():
    @contextmanager
    def opened():
        raise AssertionError("a runtime was asked for")
        yield

    return opened


@pytest.fixture
def shop(monkeypatch):
    """A workshop whose rollback moves only rows."""

    @contextmanager
    def opened():
        yield None

    def rollback(shop, family, target, reason):
        from ollama_ft.stages.promote import rollback as stage

        return stage(opened.db, family, lambda v: "e" * 64, reason)

    monkeypatch.setattr(watch.loop, "rollback", rollback)
    return opened


# --- drift ---


def test_drift_is_silent_when_people_ask_the_same_and_loud_when_they_do_not(ft, log, bot):
    pen = Pen(log)
    pen.write([heard(q, days=20) for q in questions(HOURS, 150, 1)])
    pen.write([heard(q, days=1) for q in questions(HOURS, 80, 2)])
    assert "ask what they did before" in ft("drift")
    pen.write([heard(q, days=1, rating="down") for q in questions(MONEY, 60, 3)])
    told = json.loads(ft("drift", "--json", code=8))
    assert told["against"] == "the log" and "letters alone" in told["vectors"]
    assert {"questions", "ratings"} <= {f["name"] for f in told["found"] if f["drifted"]}
    assert any(word in e["question"] for e in told["examples"] for word in ("euros", "parcel"))


def test_what_drift_was_shown_by_can_be_forgotten(ft, db, log, bot):
    Pen(log).write([heard(q, days=20) for q in questions(HOURS, 60)])
    Pen(log).write([heard(f"{q} ({i})", days=1) for i, q in enumerate(questions(MONEY, 60))])
    shown = json.loads(ft("drift", "--json", code=8))["examples"]
    (row,) = every(db, Drift)
    assert json.loads(row.figures_json)["examples"] == [one["exchange"] for one in shown]
    assert len(shown) == 5 and not any(one["question"] in row.figures_json for one in shown)


def test_with_too_few_questions_drift_says_how_many_are_missing(ft, log, bot):
    Pen(log).write([heard(q) for q in questions(HOURS, 20)])
    assert "30 are missing" in ft("drift", code=4)


@pytest.mark.parametrize("since", ["99999y", "1" * 5000 + "d", "0001-01-01", "2999-01-01"])
def test_a_time_before_or_after_all_that_was_logged_is_no_crash(ft, log, bot, since):
    assert "50 are missing" in ft("drift", "--since", since, code=4)


def test_turns_behind_the_first_one_and_other_families_are_not_counted(log):
    system, ask = Turn(role="system", content="Be kind."), Turn(role="user", content="Hello")
    said = Turn(role="assistant", content="Hi")
    Pen(log).write(
        [
            heard("Hello", before=(system,)),
            heard("And on Sunday?", before=(system, ask, said)),
            heard("Hello", family="other"),
            heard("Hello", status="incomplete"),
        ]
    )
    found = drift.sample(log, "bot", "2000", "2100")
    assert [(a.question, a.answer_length > 0) for a in found] == [("Hello", True)]


def test_the_share_unlike_the_training_grows_with_new_subjects():
    def asked(texts):
        return [
            drift.Asked(exchange=i, question=q, answer_length=9, rating=None)
            for i, q in enumerate(texts)
        ]

    trained = drift.Trained(
        questions=tuple(questions(HOURS, 100, 1)), held_out=tuple(questions(HOURS, 40, 2))
    )
    now = asked(questions(HOURS, 60, 3) + questions(MONEY, 40, 4))
    found, worst = drift.compare(now, [], trained, lexical_vectors)
    unlike = next(f for f in found if f.name == "unlike")
    assert unlike.drifted and 0.35 <= unlike.size <= 0.5
    assert all(a.exchange >= 60 for a in worst)
    with pytest.raises(NotEnoughData, match="nothing to compare"):
        drift.compare(now, [], drift.Trained(), lexical_vectors)


# --- decay ---


def test_decay_on_probation_goes_back_once_and_never_loops(db, home, log, bot, shop):
    shop.db = db
    pen = Pen(log)
    pen.write(ratings(90, 10, days=10, version="bot:v1") + ratings(30, 30, days=1))
    looked = watch.check(db, home, log, bot, shop, now=NOW)
    assert (looked.row.verdict, looked.row.action) == ("decayed", "rolled back")
    assert live(db, "bot").version.number == 1
    assert looked.back.reason.startswith("decay: 90% of 100 before, 50% of 60 now")
    assert {e["rating"] for e in looked.examples} == {"down"}
    # v1 was rolled back to: whatever its ratings do, nothing is moved again.
    pen.write(ratings(5, 60, version="bot:v1", days=-1))
    again = watch.check(db, home, log, bot, shop, now=NOW + timedelta(days=2))
    assert again.row.action != "rolled back" and live(db, "bot").version.number == 1
    # A new version within the cool-down that is worse still is told of, not moved.
    promote(db, a_version(db, bot, 3), lambda v: "f" * 64, "")
    pen.write(ratings(2, 60, version="bot:v3", days=-2))
    third = watch.check(db, home, log, bot, shop, now=NOW + timedelta(days=3))
    assert (third.row.verdict, third.row.action) == ("decayed", "told")
    assert "too recent" in third.kept and live(db, "bot").version.number == 3
    assert sum(p.action == "rollback" for p in every(db, Promotion)) == 1


def test_check_tells_with_exit_8_and_moves_nothing_where_it_is_asked_to(ft, db, log, bot):
    Pen(log).write(ratings(90, 10, days=10, version="bot:v1") + ratings(30, 30, days=1))
    text = ft("check", "--dry-run", code=8)
    assert "bot:v2 does worse" in text and "90/100" in text and "Nothing was moved" in text
    assert live(db, "bot").version.number == 2


def test_few_ratings_are_no_verdict_and_steady_ones_no_alarm(ft, log, bot):
    pen = Pen(log)
    pen.write(ratings(40, 5, days=10, version="bot:v1") + ratings(0, 20, days=1))
    assert "10 more are needed now" in ft("check", code=4)
    pen.write(ratings(100, 0, days=2))
    assert "as well as before" in ft("check")


def test_an_alarm_holds_until_the_drop_is_clearly_over(db, home, log, bot, no_shop):
    current = live(db, "bot")
    backdate(db, current.promotion, 60)  # long after its probation
    pen = Pen(log)
    pen.write(ratings(180, 20, days=20))

    def look(when):
        return watch.check(db, home, log, bot, no_shop, now=when).row

    pen.write(ratings(60, 60, days=1))
    first = look(NOW)
    assert (first.verdict, first.action) == ("decayed", "told")
    pen.write(ratings(196, 0, days=1, client="more"))  # 81 % after 90 %: a drop of 10 %
    assert look(NOW).verdict == "decayed"
    pen.write(ratings(360, 0, days=1, client="again"))  # 91 %
    assert look(NOW).verdict == "steady"
    assert len(every(db, Check)) == 3


def test_a_score_that_fell_on_one_suite_is_decay_too(db, home, log, bot, no_shop):
    current = live(db, "bot")
    former = watch.row(
        db, watch.Version, watch.row(db, Promotion, current.promotion.parent).version
    )
    an_evaluation(db, former, 90, 100)
    an_evaluation(db, current.version, 60, 100)
    looked = watch.check(db, home, log, bot, no_shop, now=NOW, only_tell=True)
    assert looked.found["score"].verdict == "decayed" and looked.row.verdict == "decayed"


# --- schedule ---


def test_training_is_due_after_so_many_rows(ft, log, bot):
    db_rows = [heard(f"q{i}", days=-1) for i in range(12)]
    Pen(log).write(db_rows)
    assert "not yet, 12 new rows" in ft("schedule", "--due", code=4)
    assert "12 new rows" in ft("schedule", "--due", "--rows", "10")


def test_the_help_of_schedule_keeps_the_crontab_that_is_there(ft):
    assert "(crontab -l; ollama-ft schedule) | crontab -" in ft("schedule", "--help")


def test_entries_name_one_home_and_survive_odd_paths(tmp_path):
    home = tmp_path / "my 100% home"
    cron = entry("cron", home, "bot", rows=500, days=7)
    line = cron.splitlines()[1].replace(r"\%", "%")
    words = shlex.split(line)
    assert words[:5] == ["17", "*", "*", "*", "*"]
    assert str(home) in words and "--due" in words and "--from-logs" in words
    assert "%" not in cron.splitlines()[1].replace(r"\%", "")
    unit = entry("systemd", home, "bot", rows=500, days=7)
    assert (
        "100%% home" in unit and "OnCalendar=hourly" in unit and "SuccessExitStatus=3 4 8" in unit
    )


# --- shadow and canary, before a runtime that the test plays ---


class Played:
    """A runtime that answers by its models' functions, and remembers who was asked in what order."""

    def __init__(self, **models):
        self.models, self.asked = models, []
        self.base, self.version = digest("0"), "0.33.0"
        self.skew = 0.0

    def __call__(self, request):
        body = json.loads(request.content or b"{}")
        if request.url.path == "/api/version":
            return httpx.Response(200, json={"version": self.version})
        if request.url.path == "/api/show":
            shown = f"FROM /models/blobs/{self.base.replace(':', '-')}\n"
            return httpx.Response(200, json={"modelfile": shown, "details": {}})
        return httpx.Response(200, json=self.say(body))

    def say(self, body):
        model = body["model"].split(":")[1]
        prompt = body.get("prompt") or body["messages"][-1]["content"]
        if body.get("_debug_render_only"):
            return {"_debug_info": {"rendered_template": f"<{prompt}>"}}
        self.asked.append(model)
        answer = self.models[model](prompt)
        said = {"done": True, "done_reason": "stop", "message": {"content": answer}}
        if body.get("logprobs"):
            import math

            first, second = 0.7 - self.skew, 0.2 + self.skew
            top = [
                {"token": answer[:1], "logprob": math.log(first)},
                {"token": "?", "logprob": math.log(second)},
            ]
            said["logprobs"] = [
                {"token": answer[:1], "logprob": top[0]["logprob"], "top_logprobs": top}
            ]
        return said


@pytest.fixture
def played():
    from ollama_ft.runtime.client import Ollama
    from ollama_ft.runtime.host import parse_host

    runtime = Played(v0=lambda q: "base", v1=lambda q: f"one {q}", v2=lambda q: f"two {q}")
    runtime.client = Ollama(parse_host("127.0.0.1:1"), transport=httpx.MockTransport(runtime))
    return runtime


def test_the_shadow_asks_version_by_version_and_counts_who_is_nearer(db, home, log, bot, played):
    Pen(log).write(
        [
            heard(
                "A?", rating="corrected", verdict=Verdict(rating="corrected", correction="one A?")
            ),
            heard("B?"),
            heard("B?"),  # asked twice, replayed once
            heard("C?", before=(Turn(role="tool", content="42"),)),
        ]
    )
    v1, v2 = (watch.newest(db, watch.Version, family="bot", number=n) for n in (1, 2))
    asked = shadow.choose(log, "bot", "2000", 10)
    pairs = shadow.replay(played.client, v2, v1, asked, silent)
    row = shadow.record(db, home, v2, v1, pairs)
    assert played.asked == ["v2", "v2", "v1", "v1"]
    assert [(p.question, p.live, p.candidate) for p in pairs] == [
        ("A?", "two A?", "one A?"),
        ("B?", "two B?", "one B?"),
    ]
    figures = watch.figures(row)
    assert (row.questions, row.agreed, figures["wanted"]) == (2, 0, 1)
    assert (figures["candidate_nearer"], figures["live_nearer"]) == (1, 0)
    with pytest.raises(NotEnoughData):
        shadow.choose(log, "bot", "2100", 10)


def test_the_shadow_asks_as_many_as_were_wished_for_where_the_newest_cannot_be_asked(log):
    image = Turn(role="user", content="What is this?", extra={"images": ["…"]})
    plain = [heard(f"Question {i}?") for i in range(4)]
    Pen(log).write([*plain, *(heard("", turns=(replace(image, content=f"{i}"),)) for i in "abc")])
    asked = shadow.choose(log, "bot", "2020-01-01", 3)
    assert [one.messages[-1].content for one in asked] == [f"Question {i}?" for i in (1, 2, 3)]


def test_the_canary_tells_a_changed_runtime_from_one_that_answers_as_before(db, home, bot, played):
    version = live(db, "bot").version
    place = canary.place(played.client)
    planted = canary.plant(db, home, played.client, version, "bot:v0", place)
    assert canary.planted(db, version, place) == planted
    assert watch.figures(planted)["noise"] == 0.0 < watch.figures(planted)["kl_to_base"]

    def again():
        return canary.replay(home, played.client, version, planted, canary.place(played.client))

    assert again().sings and again().notes == ()
    played.version = "0.34.0"
    assert again().sings and "0.34.0" in again().notes[0]
    played.skew = 0.1
    assert not again().sings and "chances moved by 0.1" in again().changes[0]
    played.skew, played.base = 0.0, digest("7")
    assert "the base was" in again().changes[0]


def test_a_canary_of_a_noisy_runtime_is_given_more_room(db):
    said = [canary.Said(text="t", told={"a": 0.6, "b": 0.4}, answer="a")]
    moved = [replace(said[0], told={"a": 0.5, "b": 0.5})]
    row = Canary(
        version=1, runtime="ollama", runtime_version="1", address="x", base_digest="s",
        digest="", figures_json='{"noise": 0.0}',
    )  # fmt: skip
    assert not canary.judge(row, said, moved, "1", "s").sings
    noisy = replace(row, figures_json='{"noise": 0.05}')
    assert canary.judge(noisy, said, moved, "1", "s").sings


def test_kl_and_distance_by_hand():
    one, other = {"a": 0.5, "b": 0.5}, {"a": 0.25, "c": 0.75}
    assert canary.distance(one, other) == pytest.approx(0.75)
    # 0.5 ln(0.5 / 0.25) + 0.5 ln(0.5 / 1e-6)
    assert canary.kl(one, other) == pytest.approx(6.9077, abs=1e-3)
    # What one does not tell of has at most its least told chance: "b" 0.1, not the whole rest.
    assert canary.distance({"a": 0.5, "b": 0.4}, {"a": 0.5, "c": 0.1}) == pytest.approx(0.3)
    assert canary.kl(one, one) == 0


@pytest.mark.slow
def test_a_real_runtime_has_little_noise_and_its_adapter_is_told_from_the_base(
    db, home, tmp_path, smollm2_gguf
):
    import hashlib

    from ollama_ft.runtime.client import Ollama
    from ollama_ft.runtime.host import parse_host
    from tests.test_conformance import embedded
    from tests.transcripts import write_adapter

    family = a_family(db)
    a_version(db, family, 0)
    version = a_version(db, family, 1)
    adapter = write_adapter(tmp_path / "a.gguf", seed=1, scale=0.3)
    sums = {
        p: "sha256:" + hashlib.sha256(p.read_bytes()).hexdigest() for p in (smollm2_gguf, adapter)
    }
    with embedded(tmp_path / "models") as address, Ollama(parse_host(address)) as client:
        for path, sha256 in sums.items():
            client.upload_blob(sha256, path)
        client.create("bot:v0", files={"m.gguf": sums[smollm2_gguf]})
        client.create("bot:v1", base="bot:v0", adapters={"a.gguf": sums[adapter]})
        at = canary.place(client)
        planted = canary.plant(db, home, client, version, "bot:v0", at)
        figures = watch.figures(planted)
        again = canary.replay(home, client, version, planted, at)
        # The same names on the bare base: what an adapter that was lost would look like.
        client.create("bot:v1", base="bot:v0")
        lost = canary.replay(home, client, version, planted, at)
    assert planted.base_digest == sums[smollm2_gguf] and "xllamacpp" in planted.runtime_version
    assert figures["noise"] < 0.02 < figures["kl_to_base"]
    assert again.sings and again.answers_equal == again.prompts
    assert not lost.sings and lost.distance > again.allowed
