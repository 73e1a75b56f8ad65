"""LLaMA-Factory's dataset_info.json: which files it names, and how their rows are written.

Its defaults: alpaca columns (instruction, input, output), sharegpt turns under "conversations" with
"from" and "value" by "human" and "gpt".
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ollama_ft.core.errors import BadInput, NotFound

FILE = "dataset_info.json"
_REMOTE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
_COLUMNS = {  # its name of a column → (our key, its default column)
    "prompt": ("instruction", "instruction"),
    "query": ("input", "input"),
    "response": ("output", "output"),
    "history": ("history", None),
    "system": ("system", None),
}
_ROLES = {  # its name of a tag → (our role, its default)
    "user_tag": ("user", "human"),
    "assistant_tag": ("assistant", "gpt"),
    "system_tag": ("system", "system"),
    "observation_tag": ("tool", "observation"),
    "function_tag": ("function_call", "function_call"),
}

Reshape = Callable[[Mapping[str, object]], Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of a dataset that stands in dataset_info.json."""

    path: Path
    format: str  # our format that `reshape` makes of its rows
    reshape: Reshape


def is_dataset_info(path: Path) -> bool:
    """Whether the path names such a file; `datasets` has files of that name too."""
    if path.name.partition("#")[0] != FILE:
        return False
    body = _body(_file(path))
    return bool(body) and all(
        isinstance(entry, dict) and ("file_name" in entry or any(key in entry for key in _REMOTE))
        for entry in body.values()
    )


def entries(path: Path) -> Iterator[Entry]:
    """The files of all its datasets, or of one: `dataset_info.json#name`.

    Raises NotFound for a dataset that is not there; BadInput for one that is on the network, holds
    preferences instead of answers, or leads out of the folder.
    """
    body = _body(_file(path))
    wanted = path.name.partition("#")[2]
    if wanted and wanted not in body:
        raise NotFound(
            f"{FILE} has no dataset {wanted!r}.", mend=f"use one of {', '.join(map(str, body))}"
        )
    for name, entry in body.items():
        if not wanted or name == wanted:
            yield from _files(path.parent, str(name), entry)


def _file(path: Path) -> Path:
    return path.with_name(path.name.partition("#")[0])


def _body(path: Path) -> Mapping[str, Mapping[str, object]]:
    if not path.is_file():
        raise NotFound(f"{path} does not exist.", mend="give the folder's dataset_info.json")
    try:
        body = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadInput(f"{path.name} is not JSON: {error}.", mend=f"correct {path.name}") from error
    return body if isinstance(body, dict) else {}


def _files(folder: Path, name: str, entry: Mapping[str, object]) -> Iterator[Entry]:
    named = entry.get("file_name")
    if not isinstance(named, str):
        remote = next((f"{key}: {entry[key]}" for key in _REMOTE if key in entry), "no file_name")
        raise BadInput(
            f"The dataset {name!r} is on the network ({remote}), not in a file.",
            mend="download it, and give the file",
        )
    if entry.get("ranking"):
        raise BadInput(
            f"The dataset {name!r} holds preferences (ranking), not one answer to learn.",
            mend=f"give the other datasets as {FILE}#name",
        )
    path = (folder / named).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BadInput(
            f"The dataset {name!r} leads out of its folder: {named}.",
            mend=f"put the file beside {FILE}",
        )
    format, reshape = _shape(name, entry)
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        yield Entry(path=file, format=format, reshape=reshape)


def _shape(name: str, entry: Mapping[str, object]) -> tuple[str, Reshape]:
    columns = _texts(entry.get("columns"))
    if entry.get("formatting", "alpaca") == "alpaca":
        return "alpaca", lambda row: _alpaca(row, columns)
    if entry["formatting"] in ("sharegpt", "openai"):
        tags = _texts(entry.get("tags"))
        return "openai", lambda row: _turns(row, columns, tags)
    raise BadInput(
        f"The dataset {name!r} has the formatting {entry['formatting']!r}; known are alpaca, "
        "sharegpt and openai.",
        mend=f"correct {FILE}",
    )


def _texts(value: object) -> dict[str, str]:
    items = value.items() if isinstance(value, dict) else ()
    return {str(key): text for key, text in items if isinstance(text, str)}


def _alpaca(row: Mapping[str, object], columns: Mapping[str, str]) -> dict[str, object]:
    named = {ours: columns.get(theirs, known) for theirs, (ours, known) in _COLUMNS.items()}
    mapped = set(named.values())
    kept = {key: value for key, value in row.items() if key not in mapped | set(named)}
    return kept | {ours: row[column] for ours, column in named.items() if column and column in row}


def _turns(
    row: Mapping[str, object], columns: Mapping[str, str], tags: Mapping[str, str]
) -> dict[str, object]:
    key = columns.get("messages", "conversations")
    role, content = tags.get("role_tag", "from"), tags.get("content_tag", "value")
    roles = {tags.get(tag, known): ours for tag, (ours, known) in _ROLES.items()}
    turns = row.get(key)
    shaped = {k: v for k, v in row.items() if k not in (key, "system", "tools")}
    if "system" in columns and columns["system"] in row:
        shaped["system"] = row[columns["system"]]
    if key in row:
        shaped["messages"] = (
            [_one(turn, role, content, roles) for turn in turns]
            if isinstance(turns, list)
            else turns
        )
    return shaped


def _one(turn: object, role: str, content: str, roles: Mapping[str, str]) -> object:
    if not isinstance(turn, dict):
        return turn
    named = turn.get(role)
    ours = roles.get(named, named) if isinstance(named, str) else named
    rest = {key: value for key, value in turn.items() if key not in (role, content)}
    return rest | {"role": ours, "content": turn.get(content)}
