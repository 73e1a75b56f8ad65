"""What a name stands for: its manifest, and the small blobs that say how the model is used."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ollama_ft.core.errors import BadInput, NotFound, RuntimeRefused
from ollama_ft.runtime.embedded.facts import Facts, read_facts
from ollama_ft.runtime.names import Name
from ollama_ft.runtime.store import Layer, Manifest, Store, StoredModel

Json = Mapping[str, object]


@dataclass(frozen=True)
class Model:
    """A stored model with its parts. `base` is the last model layer, as Ollama chooses."""

    stored: StoredModel
    store: Store
    config: Json

    @property
    def name(self) -> Name:
        """As it is spelled in the store."""
        return self.stored.name

    @property
    def manifest(self) -> Manifest:
        """The layers."""
        return self.stored.manifest

    @cached_property
    def base(self) -> Layer | None:
        """The layer whose GGUF is run; None for a model without one."""
        found = self.manifest.of_kind("model")
        return found[-1] if found else None

    @cached_property
    def base_path(self) -> Path:
        """The base's file. Raises RuntimeRefused if the model has none."""
        if self.base is None:
            raise RuntimeRefused(f"{self.name.short} has no GGUF to run", status=500)
        return self.store.blob_path(self.base.digest)

    @cached_property
    def adapter_paths(self) -> tuple[Path, ...]:
        """The adapters' files, in the manifest's order."""
        return tuple(
            self.store.blob_path(layer.digest) for layer in self.manifest.of_kind("adapter")
        )

    @cached_property
    def facts(self) -> Facts:
        """What the base's GGUF says. Raises RuntimeRefused where it cannot be read."""
        try:
            return read_facts(self.base_path)
        except (BadInput, NotFound) as error:
            raise RuntimeRefused(str(error), status=500) from error

    @cached_property
    def template(self) -> str | None:
        """The template layer's text; older models call it prompt."""
        return self._last_text("template") or self._last_text("prompt")

    @cached_property
    def system(self) -> str:
        """The model's own system message; "" if it has none."""
        return self._last_text("system") or ""

    @cached_property
    def licenses(self) -> tuple[str, ...]:
        """Every licence text."""
        return tuple(self._text(layer) for layer in self.manifest.of_kind("license"))

    @cached_property
    def parameters(self) -> Json:
        """The model's own options, not checked yet."""
        found = self._json("params")
        return found if isinstance(found, dict) else {}

    @cached_property
    def messages(self) -> tuple[Json, ...]:
        """Turns that stand before every conversation."""
        found = self._json("messages")
        return (
            tuple(turn for turn in found if isinstance(turn, dict))
            if isinstance(found, list)
            else ()
        )

    @property
    def parent(self) -> str:
        """The name that the base was taken from; "" for an upload."""
        return self.base.source if self.base else ""

    def _json(self, kind: str) -> object:
        text = self._last_text(kind)
        try:
            return json.loads(text) if text else None
        except ValueError as error:
            raise RuntimeRefused(
                f"{self.name.short}: its {kind} layer is not JSON", status=500
            ) from error

    def _last_text(self, kind: str) -> str | None:
        found = self.manifest.of_kind(kind)
        return self._text(found[-1]) if found else None

    def _text(self, layer: Layer) -> str:
        try:
            return self.store.read_blob(layer.digest).decode("utf-8", "replace")
        except (NotFound, BadInput) as error:
            raise RuntimeRefused(str(error), status=500) from error


class Library:
    """The models of a store, each read once for each manifest."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[tuple[Name, str], Model] = {}

    def find(self, text: str) -> Model | None:
        """The model of this name; None if there is none, or the text is no name."""
        try:
            return self._model(self.store.read(Name.parse(text)))
        except (NotFound, BadInput):
            return None

    def all(self) -> list[Model]:
        """Every model, newest first."""
        models = [self._model(stored) for stored in self.store.list()]
        known = {(model.name, model.stored.digest): model for model in models}
        self._known = known  # forget what is gone
        return models

    def _model(self, stored: StoredModel) -> Model:
        key = (stored.name, stored.digest)
        known = self._known.get(key)
        if known is None or known.stored != stored:
            known = Model(stored=stored, store=self.store, config=self._config(stored))
            self._known[key] = known
        return known

    def _config(self, stored: StoredModel) -> Json:
        try:
            config = json.loads(self.store.read_blob(stored.manifest.config.digest))
        except (NotFound, BadInput, ValueError):
            return {}
        return config if isinstance(config, dict) else {}
