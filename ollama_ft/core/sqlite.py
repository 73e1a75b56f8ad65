"""sqlite-utils, imported lean. Everybody takes Database and Migrations from here."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without(*modules: str) -> Iterator[None]:
    # sqlite-utils imports pandas and numpy wherever they are installed, to know column types that
    # no catalog row has. That would cost 0.3 s of every `ollama-ft list`.
    hidden = [name for name in modules if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _without("pandas", "numpy"):
    from sqlite_utils import Database, Migrations

__all__ = ["Database", "Migrations", "create_table"]

ROW = {"id": int, "at": str}  # what every table has


def create_table(
    db: Database,
    name: str,
    columns: dict[str, type],
    parents: dict[str, str] | None = None,
    nullable: frozenset[str] = frozenset(),
) -> None:
    """Create a strict table of rows that are appended, with an id and a time.

    `parents` maps a column to the table whose id it holds; all columns but `nullable` are required.
    """
    db.table(name).create(
        ROW | columns,
        pk="id",
        foreign_keys=[(column, table, "id") for column, table in (parents or {}).items()],
        not_null={"at", *columns} - nullable,
        strict=True,
    )
