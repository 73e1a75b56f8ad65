"""Lines of JSON: requests to OpenAI's or Ollama's API with their answers."""

import json
from dataclasses import replace
from pathlib import Path

from ollama_ft.core.errors import BadInput
from ollama_ft.core.exchange import COMPLETE, INCOMPLETE, Heard, Verdict, uid_for
from ollama_ft.kinds.sources.fields import (
    BOM,
    Found,
    Json,
    first_text,
    is_exchange,
    is_shallow,
    mapping,
    moment,
    opinion,
    parsed,
    said,
)
from ollama_ft.runtime.heard import CHAT, GENERATE, V1_CHAT, V1_COMPLETIONS, Overheard, hear


def fits(path: Path) -> bool:
    """Whether it begins as an object."""
    with path.open("rb") as file:
        return file.read(4096).removeprefix(BOM).lstrip().startswith(b"{")


def read(path: Path) -> Found:
    """Each line: {"request": …, "response": …}, or a request with its answer in it."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = parsed(line)
            except ValueError as error:
                raise BadInput(f"{path.name}, line {number}, is no JSON: {error}.") from error
            if not is_shallow(row):
                raise BadInput(f"{path.name}, line {number}, is nested too deeply.")
            yield _from_row(path, number, row) if isinstance(row, dict) else None


def _from_row(path: Path, number: int, row: Json) -> Heard | None:
    request, response = _parts(row)
    messages = request.get("messages")
    if isinstance(messages, list) and not all(isinstance(turn, dict) for turn in messages):
        return None  # half a conversation would be learned as a whole one
    times = (row.get(name) for name in ("at", "timestamp", "created_at", "created"))
    at = moment(*times, response.get("created_at"), response.get("created"))
    kept = Overheard(
        uid="",
        at=at,
        path=_path(isinstance(messages, list), response),
        body=request,
        client=first_text(row.get("client"), row.get("user"), request.get("user"), "jsonl"),
        family="",
        version="",
        version_digest="",
        status=200,
        pieces=[json.dumps(response).encode()],
    )
    heard = hear(kept)
    if heard.reply is None or not is_exchange(heard.turns, heard.reply):
        return None
    return replace(
        heard,
        uid=uid_for("jsonl", f"{row.get('id') or ''} {said(heard.turns, heard.reply)}"),
        model=heard.model or first_text(response.get("model")),
        options={k: v for k, v in heard.options.items() if k not in _NOT_ASKED},
        status=INCOMPLETE if response.get("done") is False else COMPLETE,
        source="jsonl",
        place=f"{path.name}#{number}",
        verdict=_row_verdict(row, at),
    )


# Fields of a line that are beside the request, where both stand in one object.
_NOT_ASKED = frozenset(
    {"response", "output", "completion", "answer", "choices", "message", "done", "done_reason"}
    | {"usage", "id", "at", "timestamp", "created_at", "created", "client", "user", "rating"}
    | {"feedback", "correction", "object", "eval_count", "prompt_eval_count", "request"}
    | {"total_duration", "load_duration", "prompt_eval_duration", "eval_duration"}
    | {"custom_id", "method", "url", "error", "thinking"}
)
_ANSWERS = ("response", "output", "completion", "answer")
# What stands beside Ollama's answer in words, and belongs to it.
_BESIDE = ("thinking", "done_reason", "prompt_eval_count", "eval_count")


def _parts(row: Json) -> tuple[Json, Json]:
    """Request and response of a line, the latter in the form of one of the two APIs."""
    request = mapping(row.get("request")) or mapping(row.get("input")) or row
    request = mapping(request.get("body")) or request  # OpenAI's batch files
    for name in _ANSWERS:
        found = row.get(name)
        if isinstance(found, dict):
            return request, mapping(found.get("body")) or found
        if isinstance(found, str) and found:
            beside = {name: row[name] for name in _BESIDE if name in row}
            return request, beside | {"response": found, "done": row.get("done", True)}
    if isinstance(row.get("choices"), list) or isinstance(row.get("message"), dict):
        return request, row
    turns = request.get("messages")
    if isinstance(turns, list) and turns and mapping(turns[-1]).get("role") == "assistant":
        return {**request, "messages": turns[:-1]}, {"message": turns[-1], "done": True}
    return request, {}


def _path(chat: bool, response: Json) -> str:
    if "choices" in response:
        return V1_CHAT if chat else V1_COMPLETIONS
    return CHAT if chat else GENERATE


def _row_verdict(row: Json, at: str) -> Verdict | None:
    correction = first_text(row.get("correction")).strip()
    if correction:
        return Verdict(rating="corrected", correction=correction, by="jsonl", at=at)
    rating = opinion(row.get("rating")) or opinion(row.get("feedback"))
    return Verdict(rating=rating, by="jsonl", at=at) if rating else None
