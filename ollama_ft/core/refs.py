"""References to versions: "support", "support:v3", "v3", "support@prev", "support~1", a digest."""

import re
from dataclasses import dataclass, replace

from ollama_ft.core.catalog import every, newest, row
from ollama_ft.core.errors import BadInput, NotFound
from ollama_ft.core.records import Family, Origin, Promotion, Use, Version, VersionTag
from ollama_ft.core.sqlite import Database

FORM = re.compile(
    r"(?P<family>[a-z0-9_][a-z0-9_./-]*?)?"
    r"(?::v(?P<number>[0-9]{1,9})|(?::(?P<latest>latest))|@(?P<name>live|prev|base)"
    r"|~(?P<back>[0-9]{1,9}))?"
)
BARE_NUMBER = re.compile(r"v([0-9]{1,9})")
DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{6,64})")


@dataclass(frozen=True, kw_only=True)
class Live:
    """What `family:latest` points to, and the promotion that made it so."""

    version: Version
    promotion: Promotion


def current_family(db: Database) -> Family:
    """The family that commands act on when none is named.

    Raises NotFound if there is no family at all.
    """
    use = newest(db, Use)
    if use is None:
        raise NotFound("There is no family yet.", mend="ollama-ft new --from smollm2:135m")
    return family(db, use.family)


def family(db: Database, name: str | None) -> Family:
    """The family with this name; the current one for None. Raises NotFound.

    It stands where its live version stands: after a `rebase`, on the new base with its prompt.
    """
    if name is None:
        return current_family(db)
    found = newest(db, Family, name=name)
    if found is None:
        known = ", ".join(sorted(f.name for f in every(db, Family))) or "none yet"
        raise NotFound(f"There is no family {name!r}. Known: {known}.", mend="ollama-ft list")
    current = live(db, name)
    if current is None or current.version.base == found.base:
        return found
    on = current.version
    return replace(
        found,
        base=on.base,
        system=on.system,
        template=on.template,
        parameters_json=on.parameters_json,
    )


def bare(db: Database, family: str, base: int) -> Version | None:
    """The family's version that is nothing but this base: v0, or a later one after a `rebase`."""
    return newest(db, Version, family=family, base=base, run=None)


def live(db: Database, name: str) -> Live | None:
    """The live version of a family; None before the first promotion."""
    promotion = newest(db, Promotion, family=name, outcome="done")
    if promotion is None:
        return None
    return Live(version=row(db, Version, promotion.version), promotion=promotion)


def way_back(db: Database, version: Version) -> str:
    """The command that brings a version's weights again, once they are gone from the home."""
    origin = newest(db, Origin, version=version.key)
    if origin is None:
        return f"ollama-ft train {version.family}, or bring data/adapters back from a copy"
    return f"ollama-ft {'pull' if origin.kind == 'registry' else 'import'} {origin.source}"


def tags(db: Database, version: Version) -> list[str]:
    """The words that are on a version now, sorted."""
    told: dict[str, bool] = {}
    for tag in every(db, VersionTag, version=version.key):  # newest first
        told.setdefault(tag.name, bool(tag.present))
    return sorted(name for name, present in told.items() if present)


def resolve(db: Database, ref: str | None) -> Version:
    """The version that `ref` means; None and "" mean the live one of the current family.

    Raises BadInput if it is no reference at all or a digest prefix that fits several versions,
    NotFound if it names nothing.
    """
    if not ref:
        return _live_version(db, current_family(db).name)
    if number := BARE_NUMBER.fullmatch(ref):
        return _numbered(db, current_family(db).name, int(number[1]))
    if (digest := DIGEST.fullmatch(ref)) and newest(db, Family, name=ref) is None:
        return _by_digest(db, digest[1])
    match = FORM.fullmatch(ref)
    if match is None:
        raise BadInput(
            f"{ref!r} is not a reference to a version: "
            "support, support:v3, v3, support@prev, support~1, or 6 or more digits of a digest.",
            mend="ollama-ft list",
        )
    return _in_family(db, family(db, match["family"]).name, match)


def _in_family(db: Database, name: str, match: re.Match[str]) -> Version:
    if match["number"] is not None:
        return _numbered(db, name, int(match["number"]))
    if match["name"] == "base":
        return _numbered(db, name, 0)
    if match["name"] == "prev":
        return _back(db, name, 1)
    return _back(db, name, int(match["back"] or 0))


def _back(db: Database, name: str, steps: int) -> Version:
    # Walks the promotions' parents, as rollback does.
    version = _live_version(db, name)
    at = live(db, name)
    for _ in range(steps):
        parent = at.promotion.parent if at else None
        if parent is None:
            raise NotFound(
                f"{name} has had no live version that far back.", mend="ollama-ft history"
            )
        promotion = row(db, Promotion, parent)
        version = row(db, Version, promotion.version)
        at = Live(version=version, promotion=promotion)
    return version


def _live_version(db: Database, name: str) -> Version:
    found = live(db, name)
    if found is None:
        raise NotFound(f"{name} has no live version yet.", mend=f"ollama-ft promote {name}:v0")
    return found.version


def _numbered(db: Database, name: str, number: int) -> Version:
    found = newest(db, Version, family=name, number=number)
    if found is None:
        raise NotFound(f"{name} has no version v{number}.", mend="ollama-ft list")
    return found


def _by_digest(db: Database, prefix: str) -> Version:
    fits = [v for v in every(db, Version) if v.digest.removeprefix("sha256:").startswith(prefix)]
    if not fits:
        raise NotFound(f"No version's digest begins with {prefix}.", mend="ollama-ft list --json")
    if len(fits) > 1:
        tags = ", ".join(v.tag for v in fits)
        raise BadInput(f"{prefix} fits several versions: {tags}.", mend="give more digits")
    return fits[0]
