"""The log of the `llm` program: its logs.db."""

import sqlite3
from contextlib import closing
from pathlib import Path

from ollama_ft.core.errors import BadInput
from ollama_ft.core.exchange import Heard, Turn, uid_for
from ollama_ft.kinds.sources.fields import Found, json_object, moment

_DEEPEST = 10_000  # messages of one conversation


def fits(path: Path) -> bool:
    """Whether it is a SQLite file."""
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def read(path: Path) -> Found:
    """The log of the `llm` program, in its older form (`responses`) and its newer (`turns`)."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            tables = {row[0] for row in db.execute("select name from sqlite_master")}
            if not tables & {"responses", "turns"}:
                raise BadInput(f"{path.name} is a SQLite file, but no log of llm.")
            if "responses" in tables:
                yield from _llm_responses(db, path)
            if "turns" in tables:
                yield from _llm_turns(db, path)
    except sqlite3.DatabaseError as error:
        raise BadInput(f"{path.name} cannot be read as a log of llm: {error}.") from error


def _llm_responses(db: sqlite3.Connection, path: Path) -> Found:
    """Each response after the ones of the same conversation before it, which it has read."""
    before: dict[str, list[Turn]] = {}
    for row in db.execute("select * from responses order by datetime_utc, id"):
        turns = before.setdefault(row["conversation_id"] or row["id"], [])
        if row["system"] and not turns:
            turns.append(Turn(role="system", content=row["system"]))
        if not row["prompt"] or not row["response"]:
            yield None
            continue
        turns.append(Turn(role="user", content=row["prompt"]))
        reply = Turn(role="assistant", content=row["response"])
        yield _llm_heard(row, path, tuple(turns[-_DEEPEST:]), reply)
        turns.append(reply)


def _llm_turns(db: sqlite3.Connection, path: Path) -> Found:
    for row in db.execute("select * from turns order by datetime_utc, id"):
        prompt = _llm_chain(db, row["parent_message_hash"], None)
        said = _llm_chain(db, row["tip_message_hash"], row["parent_message_hash"])
        answer = "".join(turn.content for turn in said if turn.role == "assistant")
        if not prompt or not answer:
            yield None
            continue
        yield _llm_heard(row, path, tuple(prompt), Turn(role="assistant", content=answer))


def _llm_chain(db: sqlite3.Connection, tip: str | None, end: str | None) -> list[Turn]:
    """The messages up to `tip`, from the one after `end` on."""
    turns: list[Turn] = []
    while tip and tip != end and len(turns) < _DEEPEST:
        row = db.execute("select * from messages where hash = ?", [tip]).fetchone()
        if row is None:
            break
        parts = db.execute(
            "select text from parts where message_hash = ? and type = 'text' order by position",
            [tip],
        )
        text = "".join(part["text"] or "" for part in parts)
        turns.append(Turn(role=row["role"], content=text))
        tip = row["parent_hash"]
    return turns[::-1]


def _llm_heard(row: sqlite3.Row, path: Path, turns: tuple[Turn, ...], reply: Turn) -> Heard:
    columns = row.keys()
    return Heard(
        uid=uid_for("llm", row["id"]),
        at=moment(row["datetime_utc"]),
        model=row["model"] or "",
        client="llm",
        turns=turns,
        reply=reply,
        thinking=(row["reasoning"] or "") if "reasoning" in columns else "",
        options=json_object(row["options_json"]),
        total_ms=row["duration_ms"],
        prompt_tokens=row["input_tokens"] if "input_tokens" in columns else None,
        answer_tokens=row["output_tokens"] if "output_tokens" in columns else None,
        source="llm",
        place=f"{path.name}#{row['id']}",
    )
