"""Ollama's model names: `[scheme://][host/][namespace/]model[:tag]`, read and printed as Ollama
does.

What is left out is filled in: registry.ollama.ai, library, latest. Letters, digits and `_` start
each part; `-` may follow anywhere, `.` not in a namespace, `:` only in a host. Ollama keeps a name
as it was typed and finds it in any spelling of its case, so names that we make are lower-case.
"""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from ollama_ft.core.errors import BadInput

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_GRAMMAR = {
    "host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}", re.ASCII),
    "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", re.ASCII),
    "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII),
}


@dataclass(frozen=True, kw_only=True)
class Name:
    """A model's full name. `scheme` says how a registry is called; it is not compared."""

    host: str = DEFAULT_HOST
    namespace: str = DEFAULT_NAMESPACE
    model: str
    tag: str = DEFAULT_TAG
    scheme: str = field(default="https", compare=False)

    def __post_init__(self) -> None:
        for kind, text in zip(_GRAMMAR, self.parts, strict=True):
            if not _GRAMMAR[kind].fullmatch(text):
                raise BadInput(
                    f"{self.full!r} is not a model name: its {kind} {text!r} is not allowed.",
                    mend="write [host/][namespace/]model[:tag] with letters, digits, '_', '-', '.'",
                )

    @classmethod
    def parse(cls, text: str) -> "Name":
        """Read a name. Raises BadInput for what Ollama would refuse, an empty part among it."""
        rest, tag = text, DEFAULT_TAG
        if text.rfind(":") > text.rfind("/"):
            rest, _, tag = text.rpartition(":")
        path, slash, model = rest.rpartition("/")
        if not slash:
            return cls(model=model, tag=tag)
        path, slash, namespace = path.rpartition("/")
        if not slash:
            return cls(namespace=namespace, model=model, tag=tag)
        scheme, _, host = path.rpartition("://")
        return cls(host=host, namespace=namespace, model=model, tag=tag, scheme=scheme or "https")

    @classmethod
    def for_publishing(cls, text: str) -> "Name":
        """Read a name under which we are about to make a model.

        Raises BadInput for upper case, which would meet other spellings of the same name, and for
        the tags that Ollama 0.18 and later takes for a source (`local`, `cloud`, `…-cloud`): such a
        model could never be run.
        """
        name = cls.parse(text)
        if name != name.lower():
            raise BadInput(
                f"{text!r} has upper-case letters, which Ollama does not tell from lower case.",
                mend=f"use {name.lower().short}",
            )
        if is_reserved(name.tag):
            raise BadInput(
                f"The tag {name.tag!r} of {text!r} is reserved: "
                "Ollama reads it as the place where a model runs.",
                mend=f"use another tag, like {name.model}:v1",
            )
        return name

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """Host, namespace, model and tag: the path of the manifest below `manifests/`."""
        return self.host, self.namespace, self.model, self.tag

    @property
    def full(self) -> str:
        """The name with all its parts."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def short(self) -> str:
        """The name as `ollama list` shows it: without the default host and namespace, always with
        the tag."""
        if self.host != DEFAULT_HOST:
            return self.full
        if self.namespace != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def repository(self) -> str:
        """Namespace and model: the path that a registry knows."""
        return f"{self.namespace}/{self.model}"

    def lower(self) -> "Name":
        """The same name in lower case: what Ollama compares."""
        host, namespace, model, tag = (part.lower() for part in self.parts)
        return Name(host=host, namespace=namespace, model=model, tag=tag, scheme=self.scheme)

    def with_tag(self, tag: str) -> "Name":
        """The same model under another tag."""
        host, namespace, model, _ = self.parts
        return Name(host=host, namespace=namespace, model=model, tag=tag, scheme=self.scheme)

    def __str__(self) -> str:
        return self.short


def file_stem(path: str) -> str:
    """A GGUF's file name as a model may be called: "我的模型 (1).gguf" → "1-3f2a91c0".

    Where letters are lost that no model's name may have, the digits tell such files apart.
    """
    stem = re.split(r"[/\\]", path)[-1]
    stem = (stem[:-5] if stem.lower().endswith(".gguf") else stem).lower()
    name = re.sub(r"[^a-z0-9_.-]+", "-", stem).strip("-.")[:60]
    if stem.isascii() and name:
        return name
    return f"{name or 'model'}-{hashlib.sha256(stem.encode('utf-8', 'replace')).hexdigest()[:8]}"


def is_file(name: str) -> bool:
    """Whether a base's name means a GGUF on this machine. `hf.co/user/repository:some.gguf` does
    not, unless there is such a file.
    """
    if "://" in name or not name.lower().endswith(".gguf"):
        return "/" in name and Path(name).expanduser().is_file()
    last = name.rpartition("/")[2]
    return not ("/" in name and ":" in last) or Path(name).expanduser().is_file()


def is_reserved(tag: str) -> bool:
    """Whether Ollama 0.18 and later reads this tag as a source and cuts it off."""
    low = tag.lower()
    return low in ("local", "cloud") or low.endswith("-cloud")
