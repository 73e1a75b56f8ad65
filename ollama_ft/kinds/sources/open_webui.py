"""What Open WebUI exports: chats, and feedback with the chats it is about."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from ollama_ft.core.errors import BadInput
from ollama_ft.core.exchange import COMPLETE, INCOMPLETE, Heard, Turn, Verdict, uid_for
from ollama_ft.kinds.sources.details import without_details
from ollama_ft.kinds.sources.fields import (
    BOM,
    Found,
    Json,
    first_text,
    is_exchange,
    mapping,
    moment,
    opinion,
    parsed,
    said,
)

FILE_LIMIT = 2 << 30  # bytes of an export, which is read as a whole
_ROLES = ("system", "user", "assistant", "tool")

Messages = Mapping[str, Json]


def fits(path: Path) -> bool:
    """Whether it begins as a list."""
    with path.open("rb") as file:
        return file.read(4096).removeprefix(BOM).lstrip().startswith(b"[")


def read(path: Path) -> Found:
    """Exported chats, or exported feedback with the chats it is about."""
    for number, entry in enumerate(_json_list(path), 1):
        if not isinstance(entry, dict):
            yield None
        elif "snapshot" in entry or ("meta" in entry and "data" in entry):
            yield _feedback(path, number, entry)
        else:
            yield from _chat(path, number, entry)


def _chat(path: Path, number: int, entry: Json) -> Found:
    """Every answer in a chat, those that were asked for again among them."""
    chat = mapping(entry.get("chat")) or entry
    messages = _messages(chat)
    name = first_text(entry.get("id"), chat.get("id"))
    answers = [key for key, message in messages.items() if message.get("role") == "assistant"]
    if not answers:
        yield None
    for key in answers:
        heard = _heard(entry, chat, key, messages)
        yield _placed(heard, path, number, name, key) if heard else None


def _feedback(path: Path, number: int, entry: Json) -> Heard | None:
    meta = mapping(entry.get("meta"))
    outer = mapping(mapping(entry.get("snapshot")).get("chat"))
    chat = mapping(outer.get("chat")) or outer
    key = first_text(meta.get("message_id"))
    messages = _messages(chat)
    heard = _heard(entry, chat, key, messages) if key in messages else None
    if heard is None:
        return None
    name = first_text(meta.get("chat_id"), outer.get("id"))
    heard = _placed(heard, path, number, name, key)
    rating = opinion(mapping(entry.get("data")).get("rating"))
    if not rating:
        return heard
    at = moment(entry.get("updated_at"), entry.get("created_at"))
    return replace(heard, verdict=Verdict(rating=rating, by=_by(entry), at=at))


def _messages(chat: Json) -> dict[str, Json]:
    """The messages by their ids; older exports have a list alone."""
    tree = mapping(mapping(chat.get("history")).get("messages"))
    if tree:
        return {str(key): mapping(message) for key, message in tree.items()}
    rows = chat.get("messages")
    found: dict[str, Json] = {}
    before = None
    for number, row in enumerate(rows if isinstance(rows, list) else []):
        key = _key(mapping(row).get("id")) or str(number)
        found[key] = {"parentId": before, **mapping(row)}
        before = key
    return found


def _heard(entry: Json, chat: Json, key: str, messages: Messages) -> Heard | None:
    """One answer with all that was said before it. Its id and place come later."""
    message = messages[key]
    reply, thinking = _reply(message.get("content"))
    turns = _turns(chat, key, messages)
    # An `error` that is only true has its message in the place of the answer.
    if not turns or not is_exchange(turns, reply) or message.get("error") is True:
        return None
    rating = opinion(mapping(message.get("annotation")).get("rating"))
    meta, at = mapping(entry.get("meta")), moment(message.get("timestamp"), entry.get("created_at"))
    broken = message.get("done") is False or message.get("error")
    return Heard(
        uid="",
        at=at,
        # In the arena `model` is the arena; who answered there is the one that was selected.
        model=first_text(
            message.get("selectedModelId"), message.get("model"), meta.get("model_id")
        ),
        client=_by(entry),
        turns=tuple(turns),
        reply=reply,
        thinking=thinking,
        status=INCOMPLETE if broken else COMPLETE,
        source="open-webui",
        verdict=Verdict(rating=rating, by=_by(entry), at=at) if rating else None,
    )


def _placed(heard: Heard, path: Path, number: int, name: str, key: str) -> Heard:
    """With its place in the file, and an id that a chat without one gets from what was said."""
    assert heard.reply is not None, "what has no answer does not come here"
    what = f"{name}/{key}" if name else f"/{key} {said(heard.turns, heard.reply)}"
    place = f"{path.name}#{name or number}/{key}"
    return replace(heard, uid=uid_for("open-webui", what), place=place)


def _reply(content: object) -> tuple[Turn, str]:
    """The answer alone, and what the model thought."""
    parts = without_details(first_text(content))
    calls = [{"function": {"name": name}} for name in parts.calls]
    extra = {"tool_calls": calls} if calls else {}
    return Turn(role="assistant", content=parts.content, extra=extra), parts.thinking


def _turns(chat: Json, key: str, messages: Messages) -> list[Turn]:
    """From the first message to the one before `key`; none if one of them is missing or odd, or if
    they are a ring: half a conversation would be learned as a whole one."""
    turns: list[Turn] = []
    seen = {key}
    parent = messages[key].get("parentId")
    while parent not in (None, ""):
        key = _key(parent)
        turn = _turn(messages[key]) if key in messages and key not in seen else None
        if turn is None:
            return []
        seen.add(key)
        turns.append(turn)
        parent = messages[key].get("parentId")
    system = first_text(mapping(chat.get("params")).get("system"), chat.get("system"))
    if system and turns and turns[-1].role != "system":
        turns.append(Turn(role="system", content=system))
    return turns[::-1]


def _turn(message: Json) -> Turn | None:
    role, content = message.get("role"), message.get("content") or ""
    if role not in _ROLES or not isinstance(content, str):
        return None
    if role == "assistant":
        return _reply(content)[0]
    files = message.get("files")
    found = [mapping(file) for file in (files if isinstance(files, list) else [])]
    urls = [first_text(file.get("url")) for file in found if file.get("type") == "image"]
    images = [{"sha256": sha256(url.encode("utf-8", "replace")).hexdigest()} for url in urls]
    return Turn(role=str(role), content=content, extra={"images": images} if images else {})


def _key(value: object) -> str:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if whole or isinstance(value, str) else ""


def _by(entry: Json) -> str:
    user = first_text(entry.get("user_id"))
    return f"open-webui:{user}" if user else "open-webui"


def _json_list(path: Path) -> list[object]:
    if path.stat().st_size > FILE_LIMIT:
        raise BadInput(f"{path.name} is larger than {FILE_LIMIT >> 30} GiB; export it in parts.")
    try:
        body = parsed(path.read_bytes())
    except ValueError as error:
        raise BadInput(f"{path.name} is no JSON: {error}.") from error
    if not isinstance(body, list):
        raise BadInput(f"{path.name} is no export of Open WebUI: it must be a list.")
    return body
