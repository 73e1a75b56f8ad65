"""The rows of the log: what was asked, what was answered, and what people thought of it.

The log is a file of its own (core/logbook.py), so that what people asked can be kept, moved and
forgotten apart from the catalog, and no question waits for a training that writes. Its rows may be
deleted, by `forget` and when their days are over; none is ever edited.
"""

from dataclasses import dataclass

from ollama_ft.core.records import Record


@dataclass(frozen=True, kw_only=True)
class Said(Record):
    """One message of a logged conversation. Equal conversations share their rows."""

    table = "messages"
    key_hash: bytes  # SHA-256 over the parent's, the role, the content and `extra_json`
    parent: int | None  # the message before; None for the first
    role: str
    content: str
    extra_json: str  # tool calls, names, digests of images; "{}" for most


@dataclass(frozen=True, kw_only=True)
class Exchange(Record):
    """One question with its answer. `prompt` is the last message that the model was shown."""

    table = "exchanges"
    uid: str  # the same wherever the log is read; begins with the time in milliseconds
    family: str  # "" for a model that is of no family
    version: str  # the tag that answered: "support:v3"
    version_digest: str  # of the version row; "" for a model of no family
    model: str  # as the client wrote it
    client: str
    path: str  # "/api/chat"
    prompt: int
    question: int  # the last message of the user's
    reply: int | None  # None where nothing was answered
    thinking: str
    options_json: str  # the request without its messages
    context_json: str  # what was retrieved for the question: a list, "[]" if nothing was
    first_ms: float | None  # until the first byte of the answer
    total_ms: float | None
    prompt_tokens: int | None
    answer_tokens: int | None
    done_reason: str
    status: str  # "complete" | "incomplete" (broke off; never trained on) | "failed" (refused)
    error: str
    source: str  # "proxy", or the import it came by
    place: str  # where the import found it: "export.json#chat-7/3"; "" for the proxy
    redacted: int  # placeholders that stand for something personal


@dataclass(frozen=True, kw_only=True)
class Feedback(Record):
    """What somebody thought of an answer. An exchange's newest by `at` is what counts."""

    table = "feedback"
    exchange: int
    rating: str  # "up" | "down" | "corrected"
    correction: str  # the answer as it should have been; "" unless corrected
    by: str
