"""Bring a version to a runtime under a tag of its own, look at what is served, and point at it.

A version is always made from the pristine base and under a new tag: Ollama stacks a second adapter
on a base that has one, drops the blobs of a tag that is made again, and serves errors while a tag
is replaced. How it gets there is a route (kinds/routes.py); routes are tried in their order until
the runtime serves exactly what was asked for.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ollama_ft.core.conversation import Message
from ollama_ft.core.errors import BadInput, Conflict, RuntimeRefused
from ollama_ft.core.plugins import collect
from ollama_ft.runtime.answers import Shown
from ollama_ft.runtime.assemble import Texts, assemble
from ollama_ft.runtime.client import Ollama, Watch
from ollama_ft.runtime.names import Name

ALREADY_THERE = "already there"


@dataclass(frozen=True, kw_only=True)
class PublishSpec:
    """A version as it shall be served. Digests carry the prefix sha256:.

    The texts are complete, as nothing is taken over from the base on most routes. `base_name` is
    the base's pinned name at the runtime; the paths are files of our own store.
    """

    tag: str  # "support:v3"
    base_name: str
    base_blob: str
    base_path: Path
    adapter_blob: str | None = None
    adapter_path: Path | None = None
    system: str = ""
    template: str = ""  # a Go template; "": the GGUF's own Jinja, or the base's template
    parameters: Mapping[str, object] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    license: tuple[str, ...] = ()
    merge: Callable[[], tuple[str, Path]] | None = None  # one GGUF of base and adapter, made now
    merged: tuple[str, ...] = ()  # digests of such GGUFs, made earlier: serving one is the same

    @property
    def layers(self) -> tuple[str, ...]:
        """The digests that decide what runs: the base, then the adapter."""
        return (self.base_blob, self.adapter_blob) if self.adapter_blob else (self.base_blob,)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A version that a runtime serves."""

    tag: str
    route: str
    manifest_digest: str  # 64 hex digits, as `ollama list` shows the first 12 of
    base_digest: str
    adapter_blob: str | None
    refused: tuple[tuple[str, str], ...] = ()  # routes that were tried before, and why they failed


# Returns the spec of what it brought, where that is not the one that it was given.
Route = Callable[[Ollama, PublishSpec, Watch | None], PublishSpec | None]


def pinned_name(blob: str) -> str:
    """The name that keeps the base with this blob: "ollama-ft/base-b179c952:latest"."""
    return f"ollama-ft/base-{blob.removeprefix('sha256:')[:8]}:latest"


def ensure_base(
    client: Ollama,
    name: str,
    *,
    base_blob: str,
    blob_path: Path,
    known_as: str | None = None,
    template: str = "",
    on_progress: Watch | None = None,
) -> str:
    """Make the runtime hold the base with this blob under the pinned `name`; return the name.

    Under a name of its own, nobody's `ollama pull` moves it. If the runtime has the same blob as
    `known_as`, that is copied, which costs nothing; else the GGUF is uploaded. Ollama 0.30 to 0.33
    rewrite an uploaded GGUF, and a version must run on the weights that it was trained on: then the
    runtime is made to pull it from us, which leaves it as it is.

    Raises Conflict if the pinned name has other content, RuntimeRefused if no way works.
    """
    present = client.find(name)
    if present is not None:
        if present.layers != (base_blob,):
            raise Conflict(
                f"{name} is at the runtime with another base ({_listed(present.layers)}).",
                mend=f"ollama rm {name}",
            )
        return name
    if known_as and (known := client.find(known_as)) and known.layers == (base_blob,):
        client.copy(known_as, name)
        return name
    client.upload_blob(base_blob, blob_path, on_progress)
    client.create(name, files={"base.gguf": base_blob}, template=template, on_progress=on_progress)
    made = client.show(name)
    if made.layers != (base_blob,):
        client.delete(name)
        _hand_over_base(client, name, made, base_blob, blob_path, on_progress)
    return name


def _hand_over_base(
    client: Ollama, name: str, made: Shown, blob: str, path: Path, on_progress: Watch | None
) -> None:
    """Bring the GGUF to a runtime that rewrites what is uploaded, by letting it pull.

    `made` is what the runtime made of the upload: all but the weights is taken from there. Raises
    RuntimeRefused if that fails, too.
    """
    from ollama_ft.runtime.loopback import hand_over

    texts = Texts(
        template=made.go_template,
        system=made.system,
        parameters=made.parameters,
        license=(made.license,) if made.license else (),
    )
    whole = assemble([("model", blob, path.stat().st_size)], texts, made.details)
    rewrote = (
        f"The runtime at {client.address} rewrote the base on import: it would serve "
        f"{_listed(made.layers)}, and the version was trained on {_short(blob)}"
    )
    mend = "let the runtime hold the base first (ollama pull), and start the family from there"
    try:
        hand_over(client, name, whole.manifest, {**whole.blobs, blob: path}, on_progress)
    except RuntimeRefused as error:
        raise RuntimeRefused(
            f"{rewrote}. It does not pull it either: {error}", mend=mend
        ) from error
    if client.show(name).layers != (blob,):
        client.delete(name)
        raise RuntimeRefused(f"{rewrote}.", mend=mend)


def publish(
    client: Ollama,
    spec: PublishSpec,
    *,
    route: str | None = None,
    last: Collection[str] = (),
    on_progress: Watch | None = None,
) -> Published:
    """Make the runtime serve `spec` under its tag, by the first route that works.

    Again with the same spec it changes nothing and returns the same. `route` forces one route;
    those in `last` are tried after the others.

    Raises Conflict if the tag has other content, BadInput for a tag or route that cannot be,
    RuntimeRefused with every route's reason if none works; then the tag is not there.
    """
    tag = Name.for_publishing(spec.tag).short
    present = client.find(tag)
    if present is not None:
        if problems := differences(present, spec):
            raise Conflict(
                f"{tag} is at the runtime already, with other content: {'; '.join(problems)}.",
                mend=f"ollama rm {tag}, if nobody needs it",
            )
        return _published(client, spec, ALREADY_THERE, ())
    refused: list[tuple[str, str]] = []
    for name, take in _chosen(route, last).items():
        reason = _try(client, spec, take, on_progress)
        if reason is None:
            return _published(client, spec, name, tuple(refused))
        refused.append((name, reason))
    reasons = "\n".join(f"  {name}: {reason}" for name, reason in refused)
    raise RuntimeRefused(f"No route brings {tag} to {client.address}:\n{reasons}")


def differences(shown: Shown, spec: PublishSpec) -> list[str]:
    """What the runtime would serve otherwise than `spec` says: one phrase each."""
    found = _other_weights(shown, spec)
    if spec.template and shown.template != spec.template:
        found.append("it renders with another template than it was given")
    if shown.system != spec.system:
        found.append("its system text differs")
    if shown.messages != spec.messages:
        found.append("its example messages differ")
    found += [
        f"its {name} is {shown.parameters.get(name)!r}, not {value!r}"
        for name, value in spec.parameters.items()
        if not _same(shown.parameters.get(name), value)
    ]
    return found


def _other_weights(shown: Shown, spec: PublishSpec) -> list[str]:
    if not shown.adapter_blobs and shown.base_blob in spec.merged:
        return []
    found = []
    if shown.base_blob != spec.base_blob:
        found.append(f"its base is {_short(shown.base_blob)}, not {_short(spec.base_blob)}")
    wanted = spec.layers[1:]
    if shown.adapter_blobs != wanted:
        found.append(f"its adapter is {_listed(shown.adapter_blobs)}, not {_listed(wanted)}")
    return found


def point(client: Ollama, source: str, target: str) -> str:
    """Let `target` name what `source` names, and read it back; return the manifest's digest.

    Raises RuntimeRefused if `source` is not there, or if afterwards `target` names something else.
    """
    client.copy(source, Name.for_publishing(target).short)
    wanted, found = manifest_digest(client, source), manifest_digest(client, target)
    if found != wanted and _served(client, target) != _served(client, source):
        raise RuntimeRefused(
            f"{target} was copied from {source}, but stands for {found[:12]} instead of "
            f"{wanted[:12]}.",
            mend="run the command again; somebody else may be moving the same name",
        )
    return found


def _served(client: Ollama, name: str) -> tuple[object, ...]:
    """What decides how a name answers. Two manifests may differ in nothing but a newline."""
    shown = client.show(name)
    return shown.layers, shown.template, shown.system, shown.parameters, shown.messages


def manifest_digest(client: Ollama, name: str) -> str:
    """The digest by which `ollama list` knows a name. Raises RuntimeRefused (404)."""
    wanted = Name.parse(name).lower()
    for tag in client.tags():
        if _parsed(tag.name) == wanted:
            return tag.digest
    raise RuntimeRefused(f"{name} is not in the runtime's list.", status=404)


def _chosen(route: str | None, last: Collection[str]) -> dict[str, Route]:
    """The routes to try, in order; what came in by the plugin door is among them."""
    known: dict[str, Route] = {name: loaded.thing for name, loaded in collect("routes").items()}
    if route is None:
        return dict(sorted(known.items(), key=lambda item: item[0] in last))
    if route not in known:
        raise BadInput(f"There is no route {route!r}. Known: {', '.join(known)}.")
    return {route: known[route]}


def _try(client: Ollama, spec: PublishSpec, route: Route, on_progress: Watch | None) -> str | None:
    """Take one route; return why it failed, and leave no tag then. None if it worked."""
    try:
        spec = route(client, spec, on_progress) or spec
    except RuntimeRefused as error:
        _forget(client, spec.tag)
        return str(error)
    made = client.find(spec.tag)
    problems = differences(made, spec) if made else ["it made nothing"]
    if not problems:
        return None
    _forget(client, spec.tag)
    return "; ".join(problems)


def _forget(client: Ollama, tag: str) -> None:
    if client.find(tag) is not None:
        client.delete(tag)


def _published(
    client: Ollama, spec: PublishSpec, route: str, refused: tuple[tuple[str, str], ...]
) -> Published:
    return Published(
        tag=spec.tag,
        route=route,
        manifest_digest=manifest_digest(client, spec.tag),
        base_digest=spec.base_blob,
        adapter_blob=spec.adapter_blob,
        refused=refused,
    )


def _same(shown: object, wanted: object) -> bool:
    """Whether a parameter, read back from its printed form, is what was sent."""
    if isinstance(wanted, bool) or isinstance(shown, bool):
        return shown is wanted
    if isinstance(wanted, int | float) and isinstance(shown, int | float):
        return math.isclose(shown, wanted, rel_tol=1e-6)
    if isinstance(wanted, str) and isinstance(shown, list):  # one stop sequence, given bare
        return shown == [wanted]
    if isinstance(wanted, list | tuple):
        return isinstance(shown, list) and shown == list(wanted)
    return shown == wanted


def _parsed(name: str) -> Name | None:
    try:
        return Name.parse(name).lower()
    except BadInput:
        return None


def _short(digest: str) -> str:
    return digest[:19] if digest else "none"


def _listed(digests: tuple[str, ...]) -> str:
    return ", ".join(map(_short, digests)) or "none"
