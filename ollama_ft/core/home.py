"""The home: where the catalog, the store, the datasets and the exported Modelfiles live."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ollama_ft.core.errors import BadInput, Conflict

MARKER = "ollama-ft.yaml"


@dataclass(frozen=True, kw_only=True)
class Home:
    """The folder that everything of ours is in, and how it was chosen."""

    path: Path
    origin: str  # "--home" | "OLLAMA_FT_HOME" | "project" | "user"

    @property
    def catalog(self) -> Path:
        """The SQLite file."""
        return self.path / "registry" / "catalog.db"

    @property
    def log(self) -> Path:
        """The SQLite file with what was asked and answered."""
        return self.path / "registry" / "log.db"

    @property
    def models(self) -> Path:
        """The store, in Ollama's own layout."""
        return self.path / "registry" / "models"

    @property
    def modelfiles(self) -> Path:
        """Exported Modelfiles: modelfiles/<family>/vN.Modelfile."""
        return self.path / "modelfiles"

    def data(self, kind: str) -> Path:
        """The folder for artefacts of one kind: datasets, runs, proofs, evaluations."""
        return self.path / "data" / kind

    def texts(self, kind: str) -> list[Path]:
        """Folders for one kind of text (recipes, bases …), the home's own first: it wins."""
        return [self.path / "registry" / kind, shipped() / "registry" / kind]

    @contextmanager
    def lock(self, family: str) -> Iterator[None]:
        """Hold the family's lock, so that two commands never work on it at once.

        Who holds it may take it again. A lock dies with its owner.

        Raises Conflict, with the owner's process id, if another process holds it.
        """
        from filelock import FileLock, Timeout

        folder = self.path / "registry" / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        owner = folder / f"{family.replace('/', '--')}.pid"
        lock = FileLock(owner.with_suffix(".lock"), timeout=0, is_singleton=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise _worked_on(family, owner) from error
        outermost = lock.lock_counter == 1
        try:
            if outermost:
                owner.write_text(f"{os.getpid()}\n")
            yield
        finally:
            if outermost:
                owner.unlink(missing_ok=True)
            lock.release()


def _worked_on(family: str, owner: Path) -> Conflict:
    try:
        pid = owner.read_text().strip()
    except OSError:  # it is just beginning or ending
        pid = ""
    if not pid:
        return Conflict(
            f"{family} is being worked on by another process.",
            mend="the same command again, in a moment",
        )
    return Conflict(
        f"{family} is being worked on by process {pid}.",
        mend=f"wait for it, or end it: kill {pid}",
    )


def find_home(flag: Path | None, env: Mapping[str, str], start: Path) -> Home:
    """Choose the home: --home, OLLAMA_FT_HOME, a parent folder with ollama-ft.yaml, user data.

    Raises BadInput for the ~ of a user that there is not.
    """
    if flag is not None:
        return Home(path=_named(flag), origin="--home")
    if named := env.get("OLLAMA_FT_HOME", "").strip():
        return Home(path=_named(Path(named)), origin="OLLAMA_FT_HOME")
    for folder in (start.absolute(), *start.absolute().parents):
        if (folder / MARKER).is_file():
            return Home(path=folder, origin="project")
    from platformdirs import user_data_path

    return Home(path=user_data_path("ollama-ft", appauthor=False), origin="user")


def _named(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise BadInput(f"{path}: there is no such user.", mend="write the folder out") from error


def machine_cache() -> Path:
    """The folder for what was measured of this machine: the same for all homes of one user."""
    from platformdirs import user_cache_path

    return user_cache_path("ollama-ft", appauthor=False)


def shipped() -> Path:
    """The folder with the texts that came with ollama-ft: registry/, modelfiles/, data/.

    In a wheel they lie inside the package; in a checkout, beside it.
    """
    package = Path(__file__).parent.parent
    inside = package / "shipped"
    return inside if inside.is_dir() else package.parent
