"""What a runtime says, as records: one frozen class for each kind of answer, read from its JSON.

A field that is missing gets the empty value of its type, since old and new Ollamas differ.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ollama_ft.core.conversation import Message
from ollama_ft.runtime.fields import Json, mapping, mappings, number, text, texts, unexpected

_BLOB = re.compile(r"sha256[-:]([0-9a-f]{64})$")
_NANO = 1e-9  # the API counts durations in nanoseconds


@dataclass(frozen=True, kw_only=True)
class Details:
    """What a runtime says about a model's weights."""

    format: str = ""
    family: str = ""
    families: tuple[str, ...] = ()
    parameter_size: str = ""  # "134.52M"
    quantization_level: str = ""  # "Q4_1"
    parent_model: str = ""


@dataclass(frozen=True, kw_only=True)
class Tag:
    """One line of `ollama list`. `digest` is the manifest's, in 64 hex digits without a prefix."""

    name: str
    digest: str
    size: int  # bytes of all layers
    modified_at: str
    details: Details


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One line of `ollama ps`: a model in memory."""

    name: str
    digest: str
    size: int  # bytes
    size_vram: int  # bytes of it on accelerators
    context_length: int  # tokens
    expires_at: str


@dataclass(frozen=True, kw_only=True)
class Shown:
    """All that `show` tells about a model. Digests carry the prefix sha256:."""

    name: str
    modelfile: str
    template: str  # the text that the runtime renders with: a Go template, or the GGUF's Jinja
    parameters: Mapping[str, object]
    system: str
    license: str
    messages: tuple[Message, ...]
    details: Details
    model_info: Json
    capabilities: tuple[str, ...]
    base_blob: str  # from the FROM line; "" if the line names no blob
    base_path: str  # the FROM line itself: a path on the server
    adapter_blobs: tuple[str, ...]
    renderer: str = ""
    parser: str = ""

    @property
    def architecture(self) -> str:
        """The GGUF's general.architecture."""
        return text(self.model_info, "general.architecture") or self.details.family

    @property
    def go_template(self) -> str:
        """The template layer; "" where the runtime renders with the GGUF's own Jinja instead."""
        return "" if "{%" in self.template else self.template

    @property
    def layers(self) -> tuple[str, ...]:
        """The digests that decide what runs: the base, then its adapters."""
        return (self.base_blob, *self.adapter_blobs)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One line of a pull, push, create or upload; byte counts are 0 where it has none."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


@dataclass(frozen=True, kw_only=True)
class TokenChance:
    """A token with its natural-log probability. `bytes` is exact where the text is half a
    character."""

    token: str
    logprob: float
    bytes: bytes


@dataclass(frozen=True, kw_only=True)
class TokenChoice:
    """One generated token and the likeliest ones at its place, best first."""

    chosen: TokenChance
    top: tuple[TokenChance, ...]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One finished generation.

    `done` is False when the stream ended without its last line: Ollama breaks off an answer that
    repeats one token again and again. Then the counts and durations are 0 and `done_reason` is
    empty.
    """

    text: str
    thinking: str = ""
    done: bool = False
    done_reason: str = ""  # "stop" | "length" | "load" | "unload"
    prompt_tokens: int = 0
    answer_tokens: int = 0
    total_seconds: float = 0.0
    load_seconds: float = 0.0
    prompt_seconds: float = 0.0
    answer_seconds: float = 0.0
    logprobs: tuple[TokenChoice, ...] = ()
    model: str = ""

    @property
    def first_token(self) -> tuple[TokenChance, ...]:
        """The likeliest first tokens, best first; empty if no log-probabilities were asked for."""
        return self.logprobs[0].top if self.logprobs else ()


@dataclass(kw_only=True)
class AnswerParts:
    """An answer that is still arriving: add each line of the stream, then take `answer()`."""

    pieces: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    choices: list[TokenChoice] = field(default_factory=list)
    last: Json = field(default_factory=dict)

    def add(self, line: Json) -> str:
        """Take one line; return the text that it adds."""
        message = mapping(line, "message")
        piece = text(line, "response") + text(message, "content")
        self.pieces.append(piece)
        self.thoughts.append(text(line, "thinking") + text(message, "thinking"))
        self.choices += [_choice(entry) for entry in mappings(line, "logprobs")]
        self.last = line
        return piece

    def answer(self) -> Answer:
        """What arrived so far, as one answer."""
        last = self.last
        return Answer(
            text="".join(self.pieces),
            thinking="".join(self.thoughts),
            done=last.get("done") is True,
            done_reason=text(last, "done_reason"),
            prompt_tokens=number(last, "prompt_eval_count"),
            answer_tokens=number(last, "eval_count"),
            total_seconds=number(last, "total_duration") * _NANO,
            load_seconds=number(last, "load_duration") * _NANO,
            prompt_seconds=number(last, "prompt_eval_duration") * _NANO,
            answer_seconds=number(last, "eval_duration") * _NANO,
            logprobs=tuple(self.choices),
            model=text(last, "model"),
        )


def tag(line: Json) -> Tag:
    """Read one entry of /api/tags."""
    return Tag(
        name=text(line, "name"),
        digest=text(line, "digest"),
        size=number(line, "size"),
        modified_at=text(line, "modified_at"),
        details=details(mapping(line, "details")),
    )


def loaded(line: Json) -> Loaded:
    """Read one entry of /api/ps."""
    return Loaded(
        name=text(line, "name"),
        digest=text(line, "digest"),
        size=number(line, "size"),
        size_vram=number(line, "size_vram"),
        context_length=number(line, "context_length"),
        expires_at=text(line, "expires_at"),
    )


def progress(line: Json) -> Progress:
    """Read one line of a pull, push or create."""
    return Progress(
        status=text(line, "status"),
        digest=text(line, "digest"),
        total=number(line, "total"),
        completed=number(line, "completed"),
    )


def shown(name: str, body: Json) -> Shown:
    """Read the answer of /api/show."""
    modelfile = text(body, "modelfile")
    base_path, adapters = _head(modelfile)
    return Shown(
        name=name,
        modelfile=modelfile,
        template=text(body, "template"),
        parameters=parameters(text(body, "parameters")),
        system=text(body, "system"),
        license=text(body, "license"),
        messages=tuple(
            Message(role=text(m, "role"), content=text(m, "content"))
            for m in mappings(body, "messages")
        ),
        details=details(mapping(body, "details")),
        model_info=mapping(body, "model_info"),
        capabilities=texts(body, "capabilities"),
        base_blob=blob_digest(base_path),
        base_path=base_path,
        adapter_blobs=tuple(blob_digest(path) for path in adapters),
        renderer=text(body, "renderer"),
        parser=text(body, "parser"),
    )


def details(body: Json) -> Details:
    """Read the `details` object of tags, ps and show."""
    return Details(
        format=text(body, "format"),
        family=text(body, "family"),
        families=texts(body, "families"),
        parameter_size=text(body, "parameter_size"),
        quantization_level=text(body, "quantization_level"),
        parent_model=text(body, "parent_model"),
    )


def blob_digest(path: str) -> str:
    """Return the "sha256:<hex>" that a blob's path ends in; "" if it ends in none."""
    match = _BLOB.search(path)
    return f"sha256:{match[1]}" if match else ""


def parameters(listing: str) -> dict[str, object]:
    """Read the parameters as `show` lists them, one name and value on each line.

    `stop` is always a list, as in /api/create. Values are printed as Go prints them: text in double
    quotes with escapes that Python shares.
    """
    found: dict[str, object] = {}
    for line in listing.splitlines():
        name, _, written = line.strip().partition(" ")
        if not name:
            continue
        value = _go_value(written.strip())
        if name == "stop":
            earlier = found.get(name, [])
            assert isinstance(earlier, list)
            value = [*earlier, value]
        found[name] = value
    return found


def _go_value(written: str) -> object:
    if written in ("true", "false"):
        return written == "true"
    if not re.fullmatch(r'".*"|-?[0-9][0-9.e+-]*', written):
        return written
    try:
        return ast.literal_eval(written)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return written


def _head(modelfile: str) -> tuple[str, list[str]]:
    """Return the FROM path and the ADAPTER paths.

    Only the instructions at the top are read: they come first, and a SYSTEM text further down may
    hold a line that looks like one.
    """
    base, adapters = "", []
    for line in modelfile.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM" and not base:
            base = rest.strip()
        elif word == "ADAPTER":
            adapters.append(rest.strip())
        elif word and not word.startswith("#") and word not in ("FROM", "DRAFT"):
            break
    return base, adapters


def _choice(entry: Json) -> TokenChoice:
    return TokenChoice(
        chosen=_chance(entry), top=tuple(_chance(top) for top in mappings(entry, "top_logprobs"))
    )


def _chance(entry: Json) -> TokenChance:
    raw = entry.get("bytes")
    token = text(entry, "token")
    if isinstance(raw, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in raw):
        exact = bytes(raw)
    else:
        exact = token.encode()
    chance = entry.get("logprob")
    if not isinstance(chance, int | float):
        raise unexpected("logprob", chance)
    return TokenChance(token=token, logprob=float(chance), bytes=exact)
