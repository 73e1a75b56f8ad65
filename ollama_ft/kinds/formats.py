"""Dataset formats: from a row of somebody's file to a conversation.

A format is two plain functions behind a name: `matches` says by a row's keys whether it is of this
kind, `parse` makes a conversation of it or says what is wrong. Which format a file has is found
out by looking at its first rows; all of its rows must be of that one format.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from ollama_ft.core.conversation import SPLITS, Conversation, Message
from ollama_ft.core.errors import BadInput
from ollama_ft.core.plugins import Register, collect, hookimpl
from ollama_ft.kinds.containers import Part, Reading, parts, raw_rows
from ollama_ft.kinds.filters import fault
from ollama_ft.kinds.json_rows import FileFault

Row = Mapping[str, object]
Numbered = tuple[int, Conversation]

LOOK = 20  # rows that decide which format a file has


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way to write a conversation as a JSON object."""

    name: str
    keys: str  # what a row looks like, for messages: '"prompt" and "completion"'
    matches: Callable[[Row], bool]
    parse: Callable[[Row], Conversation]


class RowFault(ValueError):
    """What is wrong with a row, as the end of "row 7 …". Never leaves this room.

    Where `what` has a {}, `value` is shown, which stands in the file. `kind` is without it.
    """

    def __init__(self, what: str, value: object = None) -> None:
        super().__init__(what.replace("{}", _cut(repr(value))))
        self.kind = re.sub(r" \([^)]*\)", "", re.sub(r"\d+", "…", what.replace("{}", "…")))


class BadRow(BadInput):
    """A row that is not fit: where it stands, and what is wrong without a word of its text."""

    def __init__(self, name: str, number: int, fault: RowFault) -> None:
        mend = f"correct row {number} or take it out of {name}, then run the command again"
        super().__init__(f"{name}, row {number} {fault}.", mend=mend)
        self.number, self.kind = number, fault.kind


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


OnBad = Callable[[BadRow], None]
Mend = Callable[[Conversation], Conversation]  # what is set right before a row is judged


def read_rows(
    path: Path, format: str | None = None, on_bad: OnBad | None = None
) -> Iterator[Numbered]:
    """Yield (row number, conversation) for each row of a file; of a dataset_info.json, of all its.

    The number is the line for JSONL, the spreadsheet's row for CSV, and the place from 1 elsewhere.
    `format` names the format if it is not to be found out. Memory does not grow with the file.

    Raises BadInput that names file, row and what to do: for the first bad row, unless `on_bad`
    takes it and the row is left out; always for a file that is empty or that cannot be read on.
    """
    for part in parts(path, Reading(format=format)):
        yield from read_part(part, on_bad)


def read_part(
    part: Part, on_bad: OnBad | None = None, mend: Mend | None = None
) -> Iterator[Numbered]:
    """The same for one file of which more is known (see containers.Part); `mend` repairs rows."""
    rows = raw_rows(part)
    first = list(islice(rows, LOOK))
    kind = _named(part.format) if part.format else _found_out(part.path, first)
    for number, row in chain(first, rows):
        try:
            yield number, _parse(kind, row, mend)
        except RowFault as error:
            bad = BadRow(part.called, number, error)
            if on_bad is None:
                raise bad from error
            on_bad(bad)


def find_format(part: Part) -> str:
    """The name of the format that a part's rows have. Raises BadInput as `read_part` does."""
    if part.format:
        return _named(part.format).name
    return _found_out(part.path, list(islice(raw_rows(part), LOOK))).name


def _named(name: str) -> Format:
    loaded = collect("formats")
    if name not in loaded:
        raise BadInput(f"There is no format {name!r}.", mend=f"use one of {', '.join(loaded)}")
    kind: Format = loaded[name].thing
    return kind


def _found_out(path: Path, first: list[tuple[int, object]]) -> Format:
    if not first:
        raise BadInput(f"{path.name} is empty.", mend="give a file with at least one row")
    # The format of most of the first rows, so that one bad row does not decide for all.
    objects = [row for _, row in first if isinstance(row, dict)]
    kinds: list[Format] = [loaded.thing for loaded in collect("formats").values()]
    counts = [sum(kind.matches(row) for row in objects) for kind in kinds]
    if any(counts):
        return kinds[counts.index(max(counts))]
    if not objects:
        raise _no_objects(path, *first[0])
    keys = ", ".join(f'"{key}"' for key in objects[0]) or "no keys"
    known = "; ".join(f"{kind.name}: {kind.keys}" for kind in kinds)
    raise BadInput(
        f"The rows of {path.name} have {keys}, which is no format that I know.",
        mend=f"name them with --map question=…,answer=…, or use one format's keys ({known})",
    )


def _no_objects(path: Path, number: int, row: object) -> BadInput:
    what = row.what if isinstance(row, FileFault) else f"is no JSON object but {str(row)[:40]!r}"
    return BadInput(
        f"{path.name}, row {number} {what}.",
        mend='write one {"instruction": …, "output": …} on each line',
    )


def _parse(kind: Format, row: object, mend: Mend | None) -> Conversation:
    if isinstance(row, FileFault):
        raise RowFault(row.what)
    if not isinstance(row, dict):
        raise RowFault("is no JSON object but {}", row)
    if not kind.matches(row):
        for other in (loaded.thing for loaded in collect("formats").values()):
            if other.matches(row):
                raise RowFault(f"is {other.name}, but the file is {kind.name}: split it in two")
        raise RowFault(f"is not {kind.name}: it needs {kind.keys}")
    conversation = _with_fields(kind.parse(row), row)
    if mend is not None:
        conversation = mend(conversation)
    if what := fault(conversation):
        raise RowFault(what)
    return conversation


def _with_fields(conversation: Conversation, row: Row) -> Conversation:
    """The conversation with the optional fields that any format may carry.

    Other people's "tags", "source" and "passages" may be anything; ours are texts, and the rest is
    let be. A "split", "cluster", "accept" or "must_not_say" that is not understood would change
    what is measured: that is a fault.
    """
    source = row.get("source")
    return replace(
        conversation,
        split=_split(row.get("split")),
        accept=_texts(row, "accept"),
        tags=_texts(row, "tags") if _is_texts(row.get("tags")) else (),
        source=source if isinstance(source, str) else "",
        must_not_say=_texts(row, "must_not_say"),
        cluster=_cluster(row.get("cluster")),
        passages=_texts(row, "passages") if _is_texts(row.get("passages")) else (),
    )


def _cluster(value: object) -> str:
    # Tables number their clusters; a number with a missing one among them comes as 7.0.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or value != value:
        return ""
    if not isinstance(value, str):
        raise RowFault('has the "cluster" {}, which is neither a text nor a number', value)
    return value


def _split(value: object) -> str | None:
    if value is None or value == "":
        return None
    names = {name: name for name in SPLITS} | dict.fromkeys(("valid", "val", "dev"), "validation")
    if not isinstance(value, str) or value.lower() not in names:
        raise RowFault(f'has the split {{}}; "split" is one of {", ".join(SPLITS)}', value)
    return names[value.lower()]


def _texts(row: Row, key: str) -> tuple[str, ...]:
    value = _list(row.get(key))
    if not _is_texts(value):
        raise RowFault(f'has a "{key}" that is neither a text nor a list of texts')
    if isinstance(value, list):
        return tuple(value)
    return (str(value),) if value else ()


def _is_texts(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return value is None or isinstance(value, str)


def _text(row: Row, key: str) -> str:
    if key not in row:
        raise RowFault(f'has no "{key}"')
    value = row[key]
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        raise RowFault(f'has a "{key}" that is not text but {kind}')
    return value


def _optional(row: Row, key: str) -> str:
    return _text(row, key) if row.get(key) is not None else ""


# --- the built-in formats ---


def parse_alpaca(row: Row) -> Conversation:
    """The alpaca form: instruction, output, and maybe input, system and history.

    The input goes below the instruction. `history` is a list of earlier [question, answer].
    """
    parts = (_text(row, "instruction"), _optional(row, "input"))
    question = "\n".join(part for part in parts if part)
    turns = [("system", _optional(row, "system"))]
    for earlier in _history(_list(row.get("history")) or []):
        turns += [("user", earlier[0]), ("assistant", earlier[1])]
    return _conversation([*turns, ("user", question), ("assistant", _text(row, "output"))])


def _history(value: object) -> list[tuple[str, str]]:
    pairs = []
    for pair in value if isinstance(value, list) else [value]:
        if not isinstance(pair, list) or [type(text) for text in pair] != [str, str]:
            raise RowFault('has a "history" that is no list of [question, answer]')
        pairs.append((pair[0], pair[1]))
    return pairs


def parse_pair(question: str, answer: str) -> Callable[[Row], Conversation]:
    """The form with one question and one answer under these two keys, and maybe a system."""

    def parse(row: Row) -> Conversation:
        turns = [("system", _optional(row, "system")), ("user", _text(row, question))]
        return _conversation([*turns, ("assistant", _text(row, answer))])

    return parse


def parse_turns(key: str) -> Callable[[Row], Conversation]:
    """The forms with a list of turns: OpenAI's role/content and sharegpt's from/value.

    Turns of tools, and answers that are only a call of one, are left out and counted.
    """

    def parse(row: Row) -> Conversation:
        turns = _list(row[key])
        if not isinstance(turns, list):
            raise RowFault(f'has "{key}" that is no list')
        read = [_turn(turn, number) for number, turn in enumerate(turns, start=1)]
        kept = [turn for turn in read if turn is not None]
        system = [("system", _optional(row, "system"))]
        return replace(_conversation(system + kept), dropped=len(read) - len(kept))

    return parse


def _list(value: object) -> object:
    """A list that stands as JSON in a cell of a table, or the value as it is."""
    if isinstance(value, str) and value.startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


_ROLES = {
    "user": ("user", "human"),
    "assistant": ("assistant", "gpt", "model", "bot", "chatgpt"),
    "system": ("system", "developer"),
    "tool": ("tool", "function", "function_call", "function_response", "observation", "ipython"),
}
_ROLE = {alias: role for role, aliases in _ROLES.items() for alias in aliases}


def _turn(turn: object, number: int) -> tuple[str, str] | None:
    """(role, content) of one turn; None if it is a tool's."""
    if not isinstance(turn, dict):
        raise RowFault(f"has a turn {number} that is no JSON object")
    named = _first(turn, "from", "role")
    role = _ROLE.get(named.lower()) if isinstance(named, str) else None
    if role is None:
        known = ", ".join(a for r in ("user", "assistant", "system") for a in _ROLES[r])
        raise RowFault(f"has the role {{}} in turn {number}; known are {known}", named)
    content = _first(turn, "value", "content")
    calls = bool(turn.get("tool_calls") or turn.get("function_call"))
    if role == "tool" or (calls and not content):
        return None
    return role, _content(content, number)


def _first(turn: Row, *keys: str) -> object:
    # Parquet gives every turn all keys that any turn has: those that it has not are None.
    return next((turn[key] for key in keys if turn.get(key) is not None), None)


def _content(content: object, number: int) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        kind = "null" if content is None else type(content).__name__
        raise RowFault(f"has a turn {number} whose content is not text but {kind}")
    return "".join(_part(part, number) for part in content)


def _part(part: object, number: int) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    if isinstance(text, str):
        return text
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise RowFault(f"has {{}} in turn {number}; only text can be learned", kind)


def _conversation(turns: list[tuple[str, str]]) -> Conversation:
    kept = [turn for turn in turns if turn[0] != "system" or turn[1].strip()]
    return Conversation(messages=tuple(Message(role=role, content=text) for role, text in kept))


def _has(*keys: str) -> Callable[[Row], bool]:
    return lambda row: all(key in row for key in keys)


FORMATS = {
    kind.name: kind
    for kind in (
        Format(
            name="openai",
            keys='"messages" with "role" and "content"',
            matches=_has("messages"),
            parse=parse_turns("messages"),
        ),
        Format(
            name="sharegpt",
            keys='"conversations" with "from" and "value"',
            matches=_has("conversations"),
            parse=parse_turns("conversations"),
        ),
        Format(
            name="alpaca",
            keys='"instruction" and "output"',
            matches=_has("instruction", "output"),
            parse=parse_alpaca,
        ),
        Format(
            name="prompt-completion",
            keys='"prompt" and "completion"',
            matches=_has("prompt", "completion"),
            parse=parse_pair("prompt", "completion"),
        ),
        Format(
            name="question-answer",
            keys='"question" and "answer"',
            matches=_has("question", "answer"),
            parse=parse_pair("question", "answer"),
        ),
    )
}


@hookimpl
def register_formats(register: Register) -> None:
    """Bring in the formats above."""
    for name, kind in FORMATS.items():
        register(name, kind)
