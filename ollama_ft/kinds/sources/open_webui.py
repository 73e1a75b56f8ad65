"""What Open WebUI exports: chats, and feedback with the chats it is about."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ollama_ft.core.errors import BadInput
from ollama_ft.core.exchange import COMPLETE, INCOMPLETE, Heard, Turn, Verdict, uid_for
from ollama_ft.kinds.sources.fields import Found, Json, mapping, moment

FILE_LIMIT = 2 << 30  # bytes of an export, which is read as a whole


def fits(path: Path) -> bool:
    """Whether it begins as a list."""
    with path.open("rb") as file:
        return file.read(4096).lstrip().startswith(b"[")


def read(path: Path) -> Found:
    """Exported chats, or exported feedback with the chats it is about."""
    for entry in _json_list(path):
        if not isinstance(entry, dict):
            yield None
        elif "snapshot" in entry:
            yield from _webui_feedback(path, entry)
        else:
            chat = entry.get("chat")
            yield from _webui_chat(path, entry, chat if isinstance(chat, dict) else entry)


def _webui_chat(path: Path, entry: Json, chat: Json) -> Found:
    """Every answer in a chat, those that were asked for again among them."""
    messages = _webui_messages(chat)
    name = str(entry.get("id") or chat.get("id") or "")
    for key, message in messages.items():
        if message.get("role") == "assistant":
            yield _webui_heard(path, entry, name, key, messages)


def _webui_feedback(path: Path, entry: Json) -> Found:
    meta, data = mapping(entry.get("meta")), mapping(entry.get("data"))
    outer = mapping(mapping(entry.get("snapshot")).get("chat"))
    messages = _webui_messages(mapping(outer.get("chat")) or outer)
    key = str(meta.get("message_id") or "")
    name = str(meta.get("chat_id") or outer.get("id") or "")
    heard = _webui_heard(path, entry, name, key, messages) if key in messages else None
    rating = _webui_rating(data)
    if heard is None or rating is None:
        yield heard
        return
    verdict = Verdict(
        rating=rating,
        by=_by(entry),
        at=moment(entry.get("updated_at") or entry.get("created_at")),
    )
    yield replace(heard, verdict=verdict)


def _webui_messages(chat: Json) -> dict[str, Json]:
    """The messages by their ids; older exports have a list alone."""
    tree = mapping(mapping(chat.get("history")).get("messages"))
    if tree:
        return {str(key): message for key, message in tree.items() if isinstance(message, dict)}
    rows = chat.get("messages")
    found: dict[str, Json] = {}
    before = None
    for number, row in enumerate(rows if isinstance(rows, list) else []):
        if isinstance(row, dict):
            key = str(row.get("id") or number)
            found[key] = {"parentId": before} | row
            before = key
    return found


def _webui_heard(
    path: Path, entry: Json, name: str, key: str, messages: Mapping[str, Json]
) -> Heard | None:
    message = messages[key]
    turns = _webui_turns(messages, message.get("parentId"))
    content, thinking = _without_details(str(message.get("content") or ""))
    if not turns or not content:
        return None
    rating = _webui_rating(mapping(message.get("annotation")))
    at = moment(message.get("timestamp") or entry.get("created_at"))
    return Heard(
        uid=uid_for("open-webui", f"{name}/{key}"),
        at=at,
        model=str(message.get("model") or mapping(entry.get("meta")).get("model_id") or ""),
        client=_by(entry),
        turns=tuple(turns),
        reply=Turn(role="assistant", content=content),
        thinking=thinking,
        status=INCOMPLETE if message.get("done") is False or message.get("error") else COMPLETE,
        source="open-webui",
        place=f"{path.name}#{name}/{key}",
        verdict=Verdict(rating=rating, by=_by(entry), at=at) if rating else None,
    )


def _webui_turns(messages: Mapping[str, Json], key: object) -> list[Turn]:
    """From the first message to this one. A ring of parents ends where it began."""
    turns: list[Turn] = []
    seen: set[str] = set()
    while isinstance(key, str) and key in messages and key not in seen:
        seen.add(key)
        role = str(messages[key].get("role") or "user")
        content, _ = _without_details(str(messages[key].get("content") or ""))
        turns.append(Turn(role=role, content=content))
        key = messages[key].get("parentId")
    return turns[::-1]


def _webui_rating(data: Json) -> str | None:
    try:
        number = int(str(data.get("rating")))
    except ValueError:
        return None
    return {1: "up", -1: "down"}.get(number)


def _without_details(content: str) -> tuple[str, str]:
    """Content and thinking: Open WebUI keeps the latter in the content, in a <details> block."""
    head, tag, rest = content.partition('<details type="reasoning"')
    if not tag or head.strip():
        return content, ""
    inside, closed, answer = rest.partition("</details>")
    if not closed:
        return "", inside
    thought = inside.partition(">")[2].partition("</summary>")
    return answer.strip(), (thought[2] or thought[0]).strip()


def _by(entry: Json) -> str:
    user = str(entry.get("user_id") or "")
    return f"open-webui:{user}" if user else "open-webui"


def _json_list(path: Path) -> list[object]:
    if path.stat().st_size > FILE_LIMIT:
        raise BadInput(f"{path.name} is larger than {FILE_LIMIT >> 30} GiB; export it in parts.")
    try:
        body = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path.name} is no JSON: {error}.") from error
    if not isinstance(body, list):
        raise BadInput(f"{path.name} is no export of Open WebUI: it must be a list.")
    return body
