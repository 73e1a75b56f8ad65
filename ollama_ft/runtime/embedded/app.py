"""The routes, and who may call them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ollama_ft.core.errors import BadInput, NotFound, RuntimeRefused
from ollama_ft.runtime.embedded import openai
from ollama_ft.runtime.embedded.asks import (
    Json,
    body_of,
    chat_ask,
    generate_ask,
    parsed_name,
    value,
)
from ollama_ft.runtime.embedded.blobs import add_blob, blob_status
from ollama_ft.runtime.embedded.create import create, create_ask, refuse
from ollama_ft.runtime.embedded.embed import (
    embed,
    embed_ask,
    embed_reply,
    legacy_ask,
)
from ollama_ft.runtime.embedded.fit import prompt_tokens
from ollama_ft.runtime.embedded.guard import guarded
from ollama_ft.runtime.embedded.library import Library
from ollama_ft.runtime.embedded.listing import loaded, openai_model, openai_models, tags
from ollama_ft.runtime.embedded.options import merged
from ollama_ft.runtime.embedded.pool import Limits, Pool
from ollama_ft.runtime.embedded.registry import pull, push
from ollama_ft.runtime.embedded.replies import (
    BARE_JSON_TYPE,
    JSON_TYPE,
    Lines,
    last_reply,
    refusal,
    reply,
    stream_reply,
    while_there,
    whole,
)
from ollama_ft.runtime.embedded.show import show
from ollama_ft.runtime.embedded.talk import Room, chat_lines, find_model, generate_lines
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.store import Store

# Sorts as 0.33.0, the Ollama whose recorded behaviour this follows; what is after the dash says who
# answers.
VERSION = "0.33.0-ollama-ft"
RUNTIME = "ollama-ft"

# Publish routes (kinds/routes.py) that can be shut: create with adapters, create with an adapter's
# file, pull, and the store in sight.
REFUSABLE = frozenset(("adapters", "files", "registry", "store"))
_OUT_OF_SIGHT = "/not-on-this-machine/models/blobs"  # as a runtime in a container shows its paths

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How this server differs from the plain one."""

    refuse: frozenset[str] = frozenset()  # of REFUSABLE: like runtimes that take nothing so
    keep_blobs: bool = False  # never remove a blob that a name no longer needs
    local_only: bool = True  # answer only calls that name this machine


def make_app(store: Store, limits: Limits, behaviour: Behaviour) -> ASGIApp:
    """The application. Engines start when they are needed, and end with it."""
    library = Library(store)
    pool = Pool(library, limits)
    routes = Routes(Room(library=library, pool=pool), behaviour)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None, None]:
        yield
        await pool.close()

    app = Starlette(
        routes=routes.table(),
        lifespan=lifespan,
        exception_handlers={
            RuntimeRefused: _on_refused,
            404: _on_http,
            405: _on_http,
        },
    )
    return partial(guarded, app) if behaviour.local_only else app


class Routes:
    """One method for each route."""

    def __init__(self, room: Room, behaviour: Behaviour) -> None:
        self.room = room
        self.store = room.library.store
        self.behaviour = behaviour

    def table(self) -> list[Route]:
        """Every route with its methods."""
        get, post = ["GET"], ["POST"]  # Starlette adds HEAD to GET
        return [
            Route("/", self.root, methods=get),
            Route("/api/version", self.version, methods=get),
            Route("/api/status", self.status, methods=get),
            Route("/api/tags", self.tags, methods=get),
            Route("/api/ps", self.ps, methods=get),
            Route("/api/show", self.show, methods=post),
            Route("/api/create", self.create, methods=post),
            Route("/api/blobs/{digest}", self.blob, methods=["HEAD", "POST"]),
            Route("/api/copy", self.copy, methods=post),
            Route("/api/delete", self.delete, methods=["DELETE"]),
            Route("/api/pull", self.pull, methods=post),
            Route("/api/push", self.push, methods=post),
            Route("/api/generate", self.generate, methods=post),
            Route("/api/chat", self.chat, methods=post),
            Route("/api/embed", self.embed, methods=post),
            Route("/api/embeddings", self.embeddings, methods=post),
            Route("/api/tokenize", self.tokenize, methods=post),
            Route("/v1/chat/completions", _openai(self.v1_chat), methods=post),
            Route("/v1/completions", _openai(self.v1_completions), methods=post),
            Route("/v1/embeddings", _openai(self.v1_embeddings), methods=post),
            Route("/v1/models", self.v1_models, methods=get),
            Route("/v1/models/{model:path}", _openai(self.v1_model), methods=get),
        ]

    async def root(self, request: Request) -> Response:
        """The sentence by which an Ollama is known."""
        return PlainTextResponse("Ollama is running")

    async def version(self, request: Request) -> Response:
        """The version; `runtime` is ours, and tells the embedded runtime from an Ollama."""
        return reply({"version": VERSION, "runtime": RUNTIME})

    async def status(self, request: Request) -> Response:
        """No cloud here."""
        return reply({"cloud": {"disabled": True, "source": "env"}})

    async def tags(self, request: Request) -> Response:
        """Every model."""
        return reply(await asyncio.to_thread(tags, self.room.library))

    async def ps(self, request: Request) -> Response:
        """Every model in memory."""
        return reply(loaded(self.room.pool.loaded()))

    async def show(self, request: Request) -> Response:
        """Everything about one model."""
        body = await body_of(request)
        called = _called(body)
        if not called:
            raise RuntimeRefused("model is required", status=400)
        model = self.room.library.find(called)
        if model is None:
            raise RuntimeRefused(f"model '{_shown(called)}' not found", status=404)
        verbose = value(body, "verbose", bool, False)
        shown = await asyncio.to_thread(show, model, verbose=verbose)
        if "store" in self.behaviour.refuse:
            modelfile = str(shown["modelfile"]).replace(str(self.store.blobs), _OUT_OF_SIGHT)
            shown = {**shown, "modelfile": modelfile}
        return reply(shown)

    async def create(self, request: Request) -> Response:
        """Make a model."""
        body = await body_of(request)
        ask = create_ask(body)
        refuse(self.store, ask, self.behaviour.refuse)
        lines = create(self.room.library, ask, self.behaviour.keep_blobs)
        return await _progress(body, lines)

    async def blob(self, request: Request) -> Response:
        """Say whether a blob is there, or take it."""
        digest = request.path_params["digest"]
        if request.method == "HEAD":
            missing = blob_status(self.store, digest)
            return refusal(missing) if missing else Response()
        return Response(status_code=await add_blob(self.store, digest, request.stream()))

    async def copy(self, request: Request) -> Response:
        """Give a model another name, in one step: nobody finds the name missing or half-written."""
        body = await body_of(request)
        source, target = (
            _name(value(body, key, str, ""), key) for key in ("source", "destination")
        )
        try:
            await asyncio.to_thread(self._copy, source, target)
        except NotFound as error:
            raise RuntimeRefused(f'model "{body["source"]}" not found', status=404) from error
        return Response()

    async def delete(self, request: Request) -> Response:
        """Take a name away, and the blobs that nothing needs any more."""
        called = _called(await body_of(request))
        try:
            name = Name.parse(called)
        except BadInput as error:
            raise RuntimeRefused(f'name "{called}" is invalid', status=400) from error
        try:
            await asyncio.to_thread(self._delete, name)
        except NotFound as error:
            raise RuntimeRefused(f"model '{called}' not found", status=404) from error
        return Response()

    async def pull(self, request: Request) -> Response:
        """Fetch a model from a registry."""
        body = await body_of(request)
        name = parsed_name(_called(body))
        if "registry" in self.behaviour.refuse:
            raise RuntimeRefused("this server does not pull", status=403)
        insecure = value(body, "insecure", bool, False)
        return await _progress(body, pull(self.store, name, insecure=insecure))

    async def push(self, request: Request) -> Response:
        """Send a model to a registry."""
        body = await body_of(request)
        if not _called(body):
            raise RuntimeRefused("model is required", status=400)
        name = parsed_name(_called(body))
        insecure = value(body, "insecure", bool, False)
        return await _progress(body, push(self.store, name, insecure=insecure))

    async def generate(self, request: Request) -> Response:
        """Complete a prompt."""
        ask = generate_ask(await body_of(request))
        lines = generate_lines(self.room, ask)
        is_bare = ask.manner.debug or not (ask.prompt or ask.suffix)
        return await _talk(request, lines, stream=ask.manner.stream and not is_bare)

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        ask = chat_ask(await body_of(request))
        lines = chat_lines(self.room, ask)
        is_bare = ask.manner.debug or not ask.messages
        return await _talk(request, lines, stream=ask.manner.stream and not is_bare)

    async def embed(self, request: Request) -> Response:
        """Embeddings of one or more texts."""
        ask = embed_ask(await body_of(request))
        return reply(embed_reply(ask, await embed(self.room, ask)))

    async def embeddings(self, request: Request) -> Response:
        """The older form: one text, not a list."""
        ask = legacy_ask(await body_of(request))
        try:
            done = await embed(self.room, ask)
        except RuntimeRefused as error:
            status = 500 if error.status == 501 else error.status
            raise RuntimeRefused(str(error), status=status) from error
        return reply({"embedding": list(done.vectors[0]) if done.vectors else []})

    async def tokenize(self, request: Request) -> Response:
        """Ours only: {"model", "content"} → {"tokens": […]}, the ids that the engine would read."""
        body = await body_of(request)
        model = find_model(self.room, _called(body))
        content = value(body, "content", str, "")
        context = merged(model.parameters).context
        async with self.room.pool.engine(model, context) as engine:
            tokens = await prompt_tokens(engine, content, model.facts.leading_token)
        return reply({"tokens": tokens})

    async def v1_chat(self, request: Request) -> Response:
        """OpenAI's chat."""
        body = await body_of(request)
        try:
            ask = chat_ask(openai.chat_body(body))
        except RuntimeRefused as error:
            return openai.error_reply(error)
        frame = openai.frame_of(body, "chat.completion", "chatcmpl")
        lines = chat_lines(self.room, ask)
        if ask.manner.debug:
            return await _talk(request, lines, stream=False)
        if ask.manner.stream:
            events = openai.stream_events(frame, lines, openai.chat_chunks)
            return await while_there(request, events, lines)
        line = await whole(request, lines)
        return reply(openai.chat_reply(frame, line), media_type=BARE_JSON_TYPE)

    async def v1_completions(self, request: Request) -> Response:
        """OpenAI's completion."""
        body = await body_of(request)
        ask = generate_ask(openai.completion_body(body))
        frame = openai.frame_of(body, "text_completion", "cmpl")
        lines = generate_lines(self.room, ask)
        if ask.manner.stream:
            events = openai.stream_events(frame, lines, openai.completion_chunks)
            return await while_there(request, events, lines)
        line = await whole(request, lines)
        return reply(openai.completion_reply(frame, line), media_type=BARE_JSON_TYPE)

    async def v1_embeddings(self, request: Request) -> Response:
        """OpenAI's embeddings."""
        body = await body_of(request)
        ask = openai.embeddings_ask(body)
        done = await embed(self.room, ask)
        return reply(openai.embeddings_reply(body, ask, done), media_type=BARE_JSON_TYPE)

    async def v1_models(self, request: Request) -> Response:
        """OpenAI's list of models."""
        return reply(openai_models(self.room.library), media_type=BARE_JSON_TYPE)

    async def v1_model(self, request: Request) -> Response:
        """One model in OpenAI's shape."""
        called = request.path_params["model"]
        model = self.room.library.find(called)
        if model is None:
            raise RuntimeRefused(f"model '{_shown(called)}' not found", status=404)
        return reply(openai_model(model, called), media_type=BARE_JSON_TYPE)

    def _copy(self, source: Name, target: Name) -> None:
        self.store.copy(source, self.store.spelled(target))

    def _delete(self, name: Name) -> None:
        gone = self.store.delete_manifest(name)
        if gone is not None and not self.behaviour.keep_blobs:
            self.store.prune(only=gone.digests, older_than=0)


async def _progress(body: Json, lines: Lines) -> Response:
    if value(body, "stream", bool, True):
        return await stream_reply(lines)
    return await last_reply(lines)


async def _talk(request: Request, lines: Lines, *, stream: bool) -> Response:
    if stream:
        return await while_there(request, stream_reply(lines, JSON_TYPE), lines)
    return reply(await whole(request, lines))


def _called(body: Json) -> str:
    """The model's name; `name` is the field's older form."""
    return value(body, "model", str, "") or value(body, "name", str, "")


def _shown(called: str) -> str:
    try:
        return Name.parse(called).short
    except BadInput:
        return called


def _name(text: str, field: str) -> Name:
    try:
        return Name.parse(text)
    except BadInput as error:
        raise RuntimeRefused(f'{field} "{text}" is invalid', status=400) from error


def _openai(handler: Handler) -> Handler:
    async def wrapped(request: Request) -> Response:
        try:
            return await handler(request)
        except RuntimeRefused as error:
            return openai.error_reply(error, BARE_JSON_TYPE)

    return wrapped


async def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RuntimeRefused)
    return refusal(error)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: "404 page not found", 405: "405 method not allowed"}[error.status_code]
    headers = {**(error.headers or {}), "content-type": "text/plain"}
    return Response(said, error.status_code, headers=headers)
