"""The only one who speaks to a model: a client of Ollama's HTTP API, typed and careful.

with Ollama(parse_host("")) as client:
    print(client.chat("smollm2:135m", [Message(role="user", content="Hello")]).text)
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from ollama_ft.core.conversation import Message
from ollama_ft.core.errors import RuntimeRefused, RuntimeUnavailable
from ollama_ft.runtime import answers
from ollama_ft.runtime.answers import (
    Answer,
    AnswerParts,
    Loaded,
    Progress,
    Shown,
    Tag,
)
from ollama_ft.runtime.fields import Json, mapping, mappings, text
from ollama_ft.runtime.host import Address
from ollama_ft.runtime.wire import Wire

Options = Mapping[str, object]
Watch = Callable[[Progress], None]

_PIECE = 1 << 20  # bytes read and sent at a time in an upload


class Ollama:
    """One runtime at one address. A context manager; its methods may be called from several
    threads.

    Every method raises RuntimeUnavailable if no runtime answers, RuntimeRefused with the runtime's
    own words if it says no.
    """

    def __init__(
        self, address: Address, *, api_key: str = "", transport: httpx.BaseTransport | None = None
    ) -> None:
        """`api_key` is sent as a bearer token; `transport` replaces the network in tests."""
        self.address = address
        self._wire = Wire(address, api_key=api_key, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    # What is there

    def version(self) -> str:
        """The runtime's version, "0.33.0"; a build from source says "0.0.0"."""
        said = text(self._wire.get("/api/version"), "version")
        if not said:
            raise RuntimeRefused(f"What answers at {self.address} tells no version.")
        return said

    def is_embedded(self) -> bool:
        """Whether the runtime is our own embedded one, which says so beside its version."""
        return text(self._wire.get("/api/version"), "runtime") == "ollama-ft"

    def tags(self) -> list[Tag]:
        """All models, newest first."""
        return [answers.tag(line) for line in mappings(self._wire.get("/api/tags"), "models")]

    def ps(self) -> list[Loaded]:
        """The models in memory."""
        return [answers.loaded(line) for line in mappings(self._wire.get("/api/ps"), "models")]

    def show(self, name: str) -> Shown:
        """Everything about one model. Raises RuntimeRefused with status 404 if it is not there."""
        return answers.shown(name, self._wire.post("/api/show", {"model": name}, repeatable=True))

    def find(self, name: str) -> Shown | None:
        """As show; None if the runtime has no such model."""
        try:
            return self.show(name)
        except RuntimeRefused as error:
            if error.status == 404:
                return None
            raise

    # Making, naming, forgetting

    def create(
        self,
        name: str,
        *,
        base: str | None = None,
        files: Mapping[str, str] | None = None,
        adapters: Mapping[str, str] | None = None,
        system: str | None = None,
        template: str | None = None,
        parameters: Mapping[str, object] | None = None,
        messages: Sequence[Message] | None = None,
        license: str | Sequence[str] | None = None,
        on_progress: Watch | None = None,
    ) -> None:
        """Make the model `name` from a base at the runtime, or from uploaded files (name → digest).

        What is None or empty is left out: an empty map is an error to Ollama, not an absence.
        """
        wanted: dict[str, object] = {
            "from": base,
            "files": files,
            "adapters": adapters,
            "system": system,
            "template": template,
            "parameters": parameters,
            "messages": [_plain(message) for message in messages or ()],
            "license": license if isinstance(license, str) else list(license or ()),
        }
        body = {key: value for key, value in wanted.items() if value}
        self._follow("/api/create", {"model": name} | body, on_progress)

    def pull(self, name: str, *, insecure: bool = False, on_progress: Watch | None = None) -> None:
        """Let the runtime fetch a model from its registry; `insecure` means plain http."""
        body: dict[str, object] = {"model": name}
        self._follow("/api/pull", body | ({"insecure": True} if insecure else {}), on_progress)

    def copy(self, source: str, target: str) -> None:
        """Let `target` name what `source` names; an earlier `target` is silently replaced."""
        self._wire.post("/api/copy", {"source": source, "destination": target}, repeatable=True)

    def delete(self, name: str) -> None:
        """Forget a name, and the layers that no other name uses. Raises RuntimeRefused (404)."""
        self._wire.delete("/api/delete", {"model": name})

    def has_blob(self, digest: str) -> bool:
        """Whether the runtime holds the blob with this "sha256:<hex>" digest."""
        status = self._wire.head(f"/api/blobs/{digest}")
        if status in (200, 404):
            return status == 200
        raise RuntimeRefused(f"The runtime refused to look for {digest!r}.", status=status)

    def upload_blob(self, digest: str, path: Path, on_progress: Watch | None = None) -> bool:
        """Make the runtime hold this file; return False if it did already.

        Ollama drops blobs that no model uses, so do it just before each create.
        """
        if self.has_blob(digest):
            return False
        size = path.stat().st_size
        pieces = _pieces(path, digest, size, on_progress)
        self._wire.upload(f"/api/blobs/{digest}", pieces, size)
        return True

    # Asking

    def chat(
        self,
        name: str,
        messages: Sequence[Message],
        *,
        options: Options | None = None,
        on_text: Callable[[str], None] | None = None,
        logprobs: int = 0,
        think: bool | None = None,
        format: str | Json | None = None,
        keep_alive: str | int | None = None,
    ) -> Answer:
        """Ask for the next turn. `on_text` gets each piece as it comes.

        `logprobs`: how many of the likeliest tokens to tell for each place (1 to 20; 0: none).
        """
        body: dict[str, object] = {
            "messages": [_plain(message) for message in messages],
            "think": think,
        }
        return self._ask("/api/chat", name, body, options, on_text, logprobs, format, keep_alive)

    def generate(
        self,
        name: str,
        prompt: str,
        *,
        raw: bool = False,
        options: Options | None = None,
        on_text: Callable[[str], None] | None = None,
        logprobs: int = 0,
        think: bool | None = None,
        format: str | Json | None = None,
        keep_alive: str | int | None = None,
    ) -> Answer:
        """Continue a prompt; with `raw`, exactly as written, with no template around it."""
        body: dict[str, object] = {"prompt": prompt, "raw": raw or None, "think": think}
        return self._ask(
            "/api/generate", name, body, options, on_text, logprobs, format, keep_alive
        )

    def ask_many(
        self,
        name: str,
        conversations: Sequence[Sequence[Message]],
        *,
        options: Options | None = None,
        workers: int = 4,
        think: bool | None = None,
        format: str | Json | None = None,
        on_answer: Callable[[int, Answer], None] | None = None,
    ) -> list[Answer]:
        """Ask several conversations at once; return the answers in their order.

        `on_answer` gets each with its place as it comes, in one thread. The first error ends the
        rest.
        """
        from concurrent.futures import ThreadPoolExecutor, as_completed

        found: dict[int, Answer] = {}
        with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
            waiting = {
                pool.submit(
                    self.chat, name, messages, options=options, think=think, format=format
                ): place
                for place, messages in enumerate(conversations)
            }
            try:
                for future in as_completed(waiting):
                    place = waiting[future]
                    found[place] = future.result()
                    if on_answer:
                        on_answer(place, found[place])
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        return [found[place] for place in range(len(conversations))]

    def render(
        self,
        name: str,
        messages: Sequence[Message],
        *,
        options: Options | None = None,
        think: bool | None = False,
    ) -> str:
        """The exact prompt that these messages become, from the runtime's own template engine.

        Ollama loads the model for it and cuts to num_ctx: give a large one. `think` is False unless
        asked otherwise, because Ollama's default has changed between versions.

        Raises RuntimeUnavailable if the runtime is older than 0.11.8, which cannot tell.
        """
        body: dict[str, object] = {
            "model": name,
            "messages": [_plain(message) for message in messages],
            "stream": False,
            "truncate": False,
            "think": think,
            "options": {"num_predict": 1, **(options or {})},
            "_debug_render_only": True,
        }
        said = self._wire.post("/api/chat", _given(body), repeatable=True)
        if "_debug_info" not in said:
            raise RuntimeUnavailable(
                f"The runtime at {self.address} does not show how it renders a prompt.",
                mend="use Ollama 0.11.8 or newer",
            )
        return text(mapping(said, "_debug_info"), "rendered_template")

    def embed(self, name: str, texts: Sequence[str]) -> list[list[float]]:
        """One vector of length 1 for each text."""
        body = {"model": name, "input": list(texts)}
        vectors = self._wire.post("/api/embed", body, repeatable=True).get("embeddings")
        if not isinstance(vectors, list) or len(vectors) != len(texts):
            raise RuntimeRefused(f"{name} gave no vector for each of {len(texts)} texts.")
        return [[float(x) for x in vector] for vector in vectors]

    def unload(self, name: str) -> None:
        """Free the memory of this model, and of every other one on the same base."""
        self._wire.post("/api/generate", {"model": name, "keep_alive": 0}, repeatable=True)

    def load(self, name: str, *, keep_alive: int | None = None, context: int = 0) -> None:
        """Bring a model into memory: for how many seconds (-1: for ever; None: the runtime's own
        wont), with how many tokens of context (0: as the model has it)."""
        body: dict[str, object] = {"model": name, "keep_alive": keep_alive}
        body["options"] = {"num_ctx": context} if context else None
        try:
            self._wire.post("/api/generate", _given(body), repeatable=True)
        except RuntimeRefused as error:
            if error.status != 400:
                raise
            # A model that only embeds does not generate.
            self._wire.post("/api/embed", _given(body) | {"input": ""}, repeatable=True)

    # How

    def _ask(
        self,
        path: str,
        name: str,
        body: Json,
        options: Options | None,
        on_text: Callable[[str], None] | None,
        logprobs: int,
        format: str | Json | None,
        keep_alive: str | int | None,
    ) -> Answer:
        wanted: dict[str, object] = {
            "model": name,
            **body,
            "options": options,
            "format": format,
            "keep_alive": keep_alive,
        }
        if logprobs:
            wanted |= {"logprobs": True, "top_logprobs": logprobs}
        parts = AnswerParts()
        for line in self._wire.lines(path, _given(wanted), repeatable=True):
            piece = parts.add(line)
            if on_text and piece:
                on_text(piece)
        return parts.answer()

    def _follow(self, path: str, body: Json, on_progress: Watch | None) -> None:
        """Follow a stream of progress to its "success". Raises RuntimeRefused if it has none."""
        status = ""
        for line in self._wire.lines(path, body, repeatable=False):
            step = answers.progress(line)
            status = step.status
            if on_progress:
                on_progress(step)
        if status != "success":
            raise RuntimeRefused(
                f"The runtime at {self.address} ended {path} after {status!r}, without success."
            )


def _plain(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _given(body: Json) -> dict[str, object]:
    return {key: value for key, value in body.items() if value is not None}


def _pieces(path: Path, digest: str, size: int, on_progress: Watch | None) -> Iterator[bytes]:
    sent = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
            sent += len(piece)
            if on_progress:
                on_progress(Progress(status="uploading", digest=digest, total=size, completed=sent))


def user_message(question: str, *, system: str = "") -> list[Message]:
    """The conversation that asks one question."""
    head: Iterable[Message] = [Message(role="system", content=system)] if system else []
    return [*head, Message(role="user", content=question)]
