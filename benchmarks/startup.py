"""How long commands take of their own, beside the least that a Click program can take.

    python benchmarks/startup.py

Prints CPU seconds (user + system, the best of five) of each command on a home with one family and
ten versions, and the ratio to `python -c "import click"` in the same run.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 5
COMMANDS = (["--help"], ["list"], ["show"], ["history"], ["rollback", "--dry-run"])


def cpu_seconds(command: list[str]) -> float:
    """User and system seconds of one run of `command`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def best(command: list[str]) -> float:
    """The least of several runs: other work on the machine only ever adds."""
    return min(cpu_seconds(command) for _ in range(ROUNDS))


def main() -> None:
    """Make a home, time each command, print the table."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from ollama_ft.core.catalog import open_catalog
    from ollama_ft.stages.promote import promote
    from tests.rows import a_family, a_version, an_evaluation

    with tempfile.TemporaryDirectory() as folder:
        db = open_catalog(Path(folder) / "registry" / "catalog.db")
        family = a_family(db)
        for number in range(11):
            version = a_version(db, family, number)
            promote(db, version, lambda v: "", "")
            an_evaluation(db, version, number)
        db.close()
        os.environ["OLLAMA_FT_HOME"] = folder
        floor = best([sys.executable, "-c", "import click"])
        print(f"{'import click':<22}{floor:.3f} s")
        for words in COMMANDS:
            took = best([sys.executable, "-m", "ollama_ft", *words])
            print(f"{' '.join(words):<22}{took:.3f} s   {took / floor:.1f} x")


if __name__ == "__main__":
    main()
