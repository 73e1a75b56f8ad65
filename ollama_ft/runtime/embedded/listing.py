"""What is there and what is loaded: /api/tags, /api/ps, and the models of /v1."""

import math

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.runtime.embedded.library import Library, Model
from ollama_ft.runtime.embedded.pool import Seat
from ollama_ft.runtime.embedded.prompt import capabilities
from ollama_ft.runtime.embedded.replies import Json, far_future, moment


def tags(library: Library) -> Json:
    """Every model, newest first."""
    return {"models": [_tag(model) for model in library.all()]}


def loaded(seats: list[Seat]) -> Json:
    """Every engine, under the name of the model that was asked last."""
    return {"models": [_seat(seat) for seat in seats]}


def openai_models(library: Library) -> Json:
    """Every model in OpenAI's shape."""
    return {"object": "list", "data": [openai_model(model) for model in library.all()]}


def openai_model(model: Model, called: str = "") -> Json:
    """One model in OpenAI's shape."""
    return {
        "id": called or model.name.short,
        "object": "model",
        "created": int(model.stored.modified),
        "owned_by": model.name.namespace,
    }


def details(model: Model, *, parent: str) -> dict[str, object]:
    """The `details` that tags, ps and show have in common."""
    config = model.config
    return {
        "parent_model": parent,
        "format": config.get("model_format", ""),
        "family": config.get("model_family", ""),
        "families": config.get("model_families") or None,
        "parameter_size": config.get("model_type", ""),
        "quantization_level": config.get("file_type", ""),
    }


def _tag(model: Model) -> Json:
    lengths, able = _from_the_weights(model)
    return {
        "name": model.name.short,
        "model": model.name.short,
        "modified_at": moment(model.stored.modified),
        "size": model.stored.size,
        "digest": model.stored.digest,
        "details": details(model, parent=model.parent) | lengths,
        **able,
    }


def _from_the_weights(model: Model) -> tuple[dict[str, object], Json]:
    """What only the GGUF tells; nothing where it cannot be read, so that the list still shows the
    model: lengths, for the details, and capabilities."""
    try:
        facts, able = model.facts, capabilities(model)
    except RuntimeRefused:
        return {}, {}
    lengths = {
        "context_length": facts.context_length,
        "embedding_length": facts.embedding_length,
    }
    found: dict[str, object] = {key: length for key, length in lengths.items() if length}
    return found, {"capabilities": list(able)}


def _seat(seat: Seat) -> Json:
    model = seat.model
    return {
        "name": model.name.short,
        "model": model.name.short,
        "size": seat.size,
        "digest": model.stored.digest,
        "details": details(model, parent=""),
        "expires_at": moment(seat.expires) if math.isfinite(seat.expires) else far_future(),
        "size_vram": 0,
        "context_length": seat.engine.plan.context,
    }
