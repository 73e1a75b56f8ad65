"""A family: a line of versions under one Ollama name, all with the same prompt.

Reads:  bases, families
Writes: families, uses
"""

import json
import re
from collections.abc import Mapping

from ollama_ft.core.catalog import append, newest
from ollama_ft.core.errors import BadInput, Conflict
from ollama_ft.core.records import Base, Family, Use
from ollama_ft.core.sqlite import Database
from ollama_ft.runtime.names import file_stem, is_file

NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,79}")
VERSION = re.compile(r"v[0-9]+")


def derive_name(base_name: str) -> str:
    """The family's name for a base when none is given: "qwen2.5:0.5b" → "qwen2.5-0.5b-ft"."""
    last = file_stem(base_name) if is_file(base_name) else base_name.lower().rsplit("/", 1)[-1]
    model, _, tag = last.partition(":")
    parts = [model, *([tag] if tag and tag != "latest" else []), "ft"]
    return re.sub(r"[^a-z0-9_.]+", "-", "-".join(parts))[-80:].strip("-.")


def create(
    db: Database,
    name: str,
    base: Base,
    *,
    system: str,
    template: str,
    parameters: Mapping[str, object],
) -> Family:
    """Start a family on `base`, or return the one that was started just so.

    Raises BadInput if Ollama would not take the name, Conflict if the family stands on other
    ground (another base or prompt); nothing is written then.
    """
    check_name(name)
    wanted = Family(
        name=name,
        base=base.key,
        system=system,
        template=template,
        parameters_json=json.dumps(parameters, ensure_ascii=False, sort_keys=True),
    )
    found = newest(db, Family, name=name)
    if found is None:
        return append(db, wanted)
    differing = [
        k for k in ("base", "system", "template") if getattr(found, k) != getattr(wanted, k)
    ]
    # By value: a Modelfile says 0 where we say 0.0.
    if json.loads(found.parameters_json) != json.loads(wanted.parameters_json):
        differing.append("parameters")
    if differing:
        what = ", ".join(differing)
        raise Conflict(
            f"There is a family {name} already, with another {what}.",
            mend=f"ollama-ft train {name} --data …, or choose another name",
        )
    return found


def check_name(name: str) -> None:
    """Raise BadInput unless `name` can be a family: an Ollama model name in lower case, and no
    word that stands for a version."""
    if not NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} cannot be a family's name: lower-case letters, digits, '_', '.', '-', "
            "at most 80, beginning with a letter or digit.",
            mend="ollama-ft new support --from …",
        )
    if VERSION.fullmatch(name):
        raise BadInput(
            f"{name!r} cannot be a family's name: it stands for a version (ollama-ft show v1).",
            mend=f"ollama-ft new support-{name} --from …",
        )


def use(db: Database, name: str) -> None:
    """Make `name` the family that commands act on when none is named."""
    current = newest(db, Use)
    if current is None or current.family != name:
        append(db, Use(family=name))
