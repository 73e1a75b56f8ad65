"""Lines of JSON: requests to OpenAI's or Ollama's API with their answers."""

import json
from dataclasses import replace
from pathlib import Path

from ollama_ft.core.errors import BadInput
from ollama_ft.core.exchange import COMPLETE, Heard, Verdict, uid_for
from ollama_ft.kinds.sources.fields import Found, Json, mapping, moment
from ollama_ft.runtime.heard import CHAT, GENERATE, V1_CHAT, V1_COMPLETIONS, Overheard, hear


def fits(path: Path) -> bool:
    """Whether it begins as an object."""
    with path.open("rb") as file:
        return file.read(4096).lstrip().startswith(b"{")


def read(path: Path) -> Found:
    """Each line: {"request": …, "response": …}, or a request with its answer in it."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise BadInput(f"{path.name}, line {number}, is no JSON: {error}.") from error
            yield _from_row(path, number, row) if isinstance(row, dict) else None


def _from_row(path: Path, number: int, row: Json) -> Heard | None:
    request, response = _parts(row)
    chat = isinstance(request.get("messages"), list)
    at = moment(row.get("at") or row.get("timestamp") or row.get("created_at"))
    kept = Overheard(
        uid="",
        at=at,
        path=_path(chat, response),
        body=request,
        client=str(row.get("client") or row.get("user") or request.get("user") or "jsonl"),
        family="",
        version="",
        version_digest="",
        status=200,
        pieces=[json.dumps(response).encode()],
    )
    heard = hear(kept)
    if heard.reply is None or not (heard.reply.content or heard.reply.extra):
        return None
    if not any(turn.role == "user" and turn.content for turn in heard.turns):
        return None
    key = str(row["id"]) if row.get("id") else _canonical(heard)
    options = {k: v for k, v in heard.options.items() if k not in _NOT_ASKED}
    return replace(
        heard,
        uid=uid_for("jsonl", key),
        model=heard.model or str(response.get("model", "")),
        options=options,
        status=COMPLETE,
        source="jsonl",
        place=f"{path.name}#{number}",
        verdict=_row_verdict(row, at),
    )


# Fields of a line that are beside the request, where both stand in one object.
_NOT_ASKED = frozenset(
    {"response", "output", "completion", "answer", "choices", "message", "done", "done_reason"}
    | {"usage", "id", "at", "timestamp", "created_at", "created", "client", "user", "rating"}
    | {"feedback", "correction", "object", "eval_count", "prompt_eval_count", "request"}
)
_ANSWERS = ("response", "output", "completion", "answer")


def _parts(row: Json) -> tuple[Json, Json]:
    """Request and response of a line, the latter in the form of one of the two APIs."""
    request = mapping(row.get("request")) or mapping(row.get("input")) or row
    request = mapping(request.get("body")) or request  # OpenAI's batch files
    for name in _ANSWERS:
        said = row.get(name)
        if isinstance(said, dict):
            return request, mapping(said.get("body")) or said
        if isinstance(said, str):
            return request, {"response": said, "done": True}
    if "choices" in row or "message" in row:
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
    correction = row.get("correction")
    if isinstance(correction, str) and correction.strip():
        return Verdict(rating="corrected", correction=correction.strip(), by="jsonl", at=at)
    said = str(row.get("rating") or row.get("feedback") or "").lower()
    rating = {"up": "up", "1": "up", "good": "up", "down": "down", "-1": "down", "bad": "down"}
    return Verdict(rating=rating[said], by="jsonl", at=at) if said in rating else None


def _canonical(heard: Heard) -> str:
    """What makes two lines without an id the same one: what was said."""
    said = [*heard.turns, *([heard.reply] if heard.reply else [])]
    return json.dumps([[t.role, t.content, t.extra] for t in said], sort_keys=True)
