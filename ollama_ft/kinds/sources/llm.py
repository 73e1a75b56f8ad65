"""The log of the `llm` program: its logs.db.

Version 0.27 writes a row of `responses` for each call, with what was added then; version 0.36 a row
of `turns`, between two messages of a tree. A log that has seen both versions has both.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ollama_ft.core.errors import BadInput
from ollama_ft.core.exchange import Heard, Turn, uid_for
from ollama_ft.kinds.sources.fields import (
    Found,
    Json,
    count,
    first_text,
    is_exchange,
    json_object,
    mapping,
    moment,
)

_DEEPEST = 10_000  # messages of one conversation
_SHARED = {"id", "model", "options_json", "duration_ms", "datetime_utc"}
_COLUMNS = {
    "responses": _SHARED | {"prompt", "system", "response", "conversation_id"},
    "turns": _SHARED | {"parent_message_hash", "tip_message_hash"},
    "messages": {"hash", "parent_hash", "role"},
    "parts": {"message_hash", "position", "type", "text", "payload"},
}
# What belongs to a response, where the log has these tables.
_FRAGMENTS = (
    "select response_id, content from {} join fragments on fragments.id = fragment_id "
    'order by {}."order"'
)
_ATTACHMENTS = 'select response_id, attachment_id from prompt_attachments order by "order"'
_CALLS = "select response_id, tool_call_id, name, arguments from tool_calls order by id"
_RESULTS = "select response_id, tool_call_id, name, output from tool_results order by id"


def fits(path: Path) -> bool:
    """Whether it is a SQLite file."""
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def read(path: Path) -> Found:
    """The log of the `llm` program, in its older form (`responses`) and its newer (`turns`)."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as db:
            db.row_factory = sqlite3.Row
            older, newer = _has(db, "responses"), _has(db, "turns", "messages", "parts")
            if not older and not newer:
                raise BadInput(f"{path.name} is a SQLite file, but no log of llm.")
            if older:
                yield from _responses(db, path)
            if newer:
                yield from _turns(db, path)
    except sqlite3.DatabaseError as error:
        raise BadInput(f"{path.name} cannot be read as a log of llm: {error}.") from error


def _has(db: sqlite3.Connection, *tables: str) -> bool:
    return all(_COLUMNS[name] <= _columns(db, name) for name in tables)


def _columns(db: sqlite3.Connection, table: str) -> set[str]:
    return {row[0] for row in db.execute("select name from pragma_table_info(?)", [table])}


# The older form


@dataclass(frozen=True, kw_only=True)
class _Beside:
    """What stands beside the responses in tables of their own, by the response's id."""

    fragments: Mapping[str, list[sqlite3.Row]]
    system_fragments: Mapping[str, list[sqlite3.Row]]
    attachments: Mapping[str, list[sqlite3.Row]]
    calls: Mapping[str, list[sqlite3.Row]]
    results: Mapping[str, list[sqlite3.Row]]


def _responses(db: sqlite3.Connection, path: Path) -> Found:
    """Each response after the ones of the same conversation before it, which it has read."""
    beside = _Beside(
        fragments=_listed(db, "prompt_fragments", _FRAGMENTS.format(*["prompt_fragments"] * 2)),
        system_fragments=_listed(
            db, "system_fragments", _FRAGMENTS.format(*["system_fragments"] * 2)
        ),
        attachments=_listed(db, "prompt_attachments", _ATTACHMENTS),
        calls=_listed(db, "tool_calls", _CALLS),
        results=_listed(db, "tool_results", _RESULTS),
    )
    before: dict[str, list[Turn]] = {}
    for row in db.execute("select * from responses order by datetime_utc, id"):
        turns = before.setdefault(row["conversation_id"] or row["id"], [])
        asked = [*turns, *_asked(row, beside, turns)]
        calls = [_call(mapping(dict(call))) for call in beside.calls.get(row["id"], ())]
        reply = _turn("assistant", first_text(row["response"]), tool_calls=calls)
        if not reply.content and not reply.extra:
            yield None
            continue
        thinking = first_text(row["reasoning"]) if "reasoning" in row.keys() else ""  # noqa: SIM118
        yield _heard(row, path, asked, reply, thinking)
        turns[:] = [*asked, reply][-_DEEPEST:]


def _listed(db: sqlite3.Connection, table: str, query: str) -> dict[str, list[sqlite3.Row]]:
    found: dict[str, list[sqlite3.Row]] = {}
    for row in db.execute(query) if _columns(db, table) else ():
        found.setdefault(row["response_id"], []).append(row)
    return found


def _asked(row: sqlite3.Row, beside: _Beside, before: list[Turn]) -> Iterable[Turn]:
    """What a response adds to its conversation: as llm puts it together, fragments first."""
    key = row["id"]
    said = [part["content"] for part in beside.system_fragments.get(key, ())]
    system = "\n\n".join(part.strip() for part in (*said, first_text(row["system"])) if part)
    if system and system not in [turn.content for turn in before if turn.role == "system"][-1:]:
        yield Turn(role="system", content=system)
    for result in beside.results.get(key, ()):
        yield _result(mapping(dict(result)))
    said = [part["content"] for part in beside.fragments.get(key, ())]
    prompt = "\n".join(part for part in (*said, first_text(row["prompt"])) if part)
    files = [{"sha256": part["attachment_id"]} for part in beside.attachments.get(key, ())]
    if prompt or files:
        yield _turn("user", prompt, attachments=files)


# The newer form


@dataclass(frozen=True, kw_only=True)
class _Message:
    key: str
    turn: Turn
    thinking: str


def _turns(db: sqlite3.Connection, path: Path) -> Found:
    """Each turn: the messages up to its parent were asked, those after it were said."""
    for row in db.execute("select * from turns order by datetime_utc, id"):
        chain = _chain(db, row["tip_message_hash"])
        keys = [message.key for message in chain]
        if row["parent_message_hash"] not in keys[:-1]:
            yield None
            continue
        after = keys.index(row["parent_message_hash"]) + 1
        reply = chain[-1].turn
        thinking = "\n".join(m.thinking for m in chain[after:] if m.thinking)
        asked = [message.turn for message in chain[:-1]]
        yield _heard(row, path, asked, reply, thinking) if reply.role == "assistant" else None


def _chain(db: sqlite3.Connection, tip: object) -> list[_Message]:
    """The messages from the first to `tip`; none if one of them is missing, or they are a ring."""
    chain: list[_Message] = []
    seen: set[object] = set()
    while tip is not None:
        row = db.execute("select * from messages where hash = ?", [tip]).fetchone()
        if row is None or tip in seen or len(chain) == _DEEPEST:
            return []
        seen.add(tip)
        chain.append(_message(db, row))
        tip = row["parent_hash"]
    return chain[::-1]


def _message(db: sqlite3.Connection, row: sqlite3.Row) -> _Message:
    rows = db.execute("select * from parts where message_hash = ? order by position", [row["hash"]])
    texts: dict[str, list[str]] = {"text": [], "reasoning": []}
    calls, results, files = [], [], []
    for part in rows:
        payload = json_object(part["payload"])
        if part["type"] in texts:
            texts[part["type"]].append(_part_text(db, part["text"], payload))
        elif part["type"] == "tool_call":
            calls.append(_call(payload))
        elif part["type"] == "tool_result":
            results.append(_result(payload))
        elif part["type"] == "attachment":
            files.append({"sha256": mapping(payload.get("attachment")).get("id", "")})
    text, thinking = "".join(texts["text"]), "\n".join(texts["reasoning"])
    if results:  # several stand in one message
        text = "\n".join(turn.content for turn in results)
        turn = Turn(role="tool", content=text, extra=results[0].extra)
    else:
        turn = _turn(first_text(row["role"], "user"), text, tool_calls=calls, attachments=files)
    return _Message(key=row["hash"], turn=turn, thinking=thinking)


def _part_text(db: sqlite3.Connection, text: object, payload: Json) -> str:
    """The text of a part, which may be made of fragments that are kept once for all prompts."""
    pieces = payload.get("text_ref")
    if not isinstance(pieces, list):
        return first_text(text)
    return "".join(_piece(db, mapping(piece)) for piece in pieces)


def _piece(db: sqlite3.Connection, piece: Json) -> str:
    if "literal" in piece:
        return first_text(piece["literal"])
    number = count(piece.get("fragment"))
    row = db.execute("select content from fragments where id = ?", [number]).fetchone()
    return first_text(row["content"]) if row else ""


# Both


def _turn(role: str, content: str, **beside: list[dict[str, object]]) -> Turn:
    return Turn(role=role, content=content, extra={k: v for k, v in beside.items() if v})


def _call(found: Json) -> dict[str, object]:
    arguments = found.get("arguments")
    asked = arguments if isinstance(arguments, dict) else json_object(arguments)
    function = {"name": first_text(found.get("name")), "arguments": asked}
    return {"id": first_text(found.get("tool_call_id")), "function": function}


def _result(found: Json) -> Turn:
    extra = {
        "tool_name": first_text(found.get("name")),
        "tool_call_id": first_text(found.get("tool_call_id")),
    }
    return Turn(role="tool", content=first_text(found.get("output")), extra=extra)


def _heard(
    row: sqlite3.Row, path: Path, turns: list[Turn], reply: Turn, thinking: str
) -> Heard | None:
    if not is_exchange(turns, reply):
        return None
    columns = row.keys()
    return Heard(
        uid=uid_for("llm", str(row["id"])),
        at=moment(row["datetime_utc"]),
        model=first_text(row["model"]),
        client="llm",
        turns=tuple(turns),
        reply=reply,
        thinking=thinking,
        options=json_object(row["options_json"]),
        total_ms=count(row["duration_ms"]),
        prompt_tokens=count(row["input_tokens"]) if "input_tokens" in columns else None,
        answer_tokens=count(row["output_tokens"]) if "output_tokens" in columns else None,
        source="llm",
        place=f"{path.name}#{row['id']}",
    )
