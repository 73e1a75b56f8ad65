"""Logs as other programs leave them, and the command that brings them in.

`data/llm_logs` holds logs that the llm program itself wrote; the chats and the feedback of Open WebUI
have the keys that its pages write.
"""

import json
import sqlite3
from pathlib import Path

LOGS = Path(__file__).parent / "data" / "llm_logs"
CHINESE = ("我要退货，怎么办？", "请在七天内寄回商品。")


def importer(ft, folder):
    """Import a file with this content; how much was new, known, and passed over."""

    def run(name, content, *options):
        path = folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        (came,) = json.loads(ft("logs", "import", path, "--json", *options))["imported"]
        return came["new"], came["known"], came["passed_over"]

    return run


def rows(ft, *options):
    """All exchanges, in the order in which they came."""
    return json.loads(ft("logs", "--json", "-n", "0", *options))["exchanges"][::-1]


def show(ft, ref="last"):
    return json.loads(ft("logs", "show", ref, "--json"))


def said(ft, ref="last"):
    return [(turn["role"], turn["content"]) for turn in show(ft, ref)["messages"]]


def lines(*found):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)


def asked(question="When do you open?", **more):
    return {"model": "m", "messages": [{"role": "user", "content": question}], **more}


def answered(text="At nine."):
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def llm_log(tmp_path, version):
    path = tmp_path / "logs.db"
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path)
    db.executescript((LOGS / f"{version}.sql").read_text())
    db.close()
    return path


def message(key, parent, role, content, **more):
    base = {"id": key, "parentId": parent, "childrenIds": [], "role": role, "content": content}
    return {key: {**base, "timestamp": 1_760_000_000, **more}}


def a_chat(messages, key="chat-1", **more):
    """As `Export chat (.json)` and the export of all chats write it."""
    history = {"messages": messages, "currentId": next(reversed(messages), None)}
    inner = {"id": "", "title": "Hours", "models": ["bot"], "params": {}, "history": history}
    return {"id": key, "user_id": "user-7", "title": "Hours", "chat": {**inner, **more}}


def an_answer(key="a1", parent="u1", content="At nine.", **more):
    facts = {"model": "bot", "modelIdx": 0, "done": True, **more}
    return message(key, parent, "assistant", content, **facts)


OPEN = message("u1", None, "user", "When do you open?", models=["bot"])


def feedback(chat, key, rating, **more):
    """As the export of the feedback writes it, with the chat as it was then."""
    return {
        "id": "feedback-1",
        "user_id": "user-7",
        "type": "rating",
        "data": {"rating": rating, "model_id": "bot", "reason": "", "comment": "", "tags": []},
        "meta": {"model_id": "bot", "message_id": key, "chat_id": chat["id"], "arena": False},
        "snapshot": {"chat": chat},
        "created_at": 1_760_000_100,
        "updated_at": 1_760_000_200,
    } | more
