"""The process that reads documents. A line names a reader and a file; a line with blocks answers.

In: {"kind", "path"}. Out: {"blocks": [{"kind", "text", "level", "page"} …]} or {"error", "mend"}.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from ollama_ft.core.errors import BadInput, FtError
from ollama_ft.core.plugins import collect
from ollama_ft.kinds.readers.block import MOST_BLOCKS, MOST_LETTERS, Block

MEMORY = 2 << 30  # bytes of address space


def main() -> None:
    """Answer until stdin ends."""
    _limit_memory()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a parser prints is no answer
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")
        answers.flush()


def _answer(asked: dict[str, str]) -> dict[str, object]:
    try:
        blocks = _read(asked["kind"], Path(asked["path"]))
    except FtError as error:
        return {"error": str(error), "mend": error.mend}
    except MemoryError:
        return {"error": "It needs too much memory to be read.", "mend": ""}
    except Exception as error:  # a parser may fail in any way over a file from outside
        return {"error": f"It cannot be read: {error!r:.200}.", "mend": ""}
    return {"blocks": [asdict(block) for block in blocks]}


def _read(kind: str, path: Path) -> list[Block]:
    blocks, letters = [], 0
    for block in collect("readers")[kind].thing.read(path):
        blocks.append(block)
        letters += len(block.text)
        if letters > MOST_LETTERS or len(blocks) > MOST_BLOCKS:
            raise BadInput(
                f"It holds more than {MOST_LETTERS:,} letters or {MOST_BLOCKS:,} paragraphs.",
                mend="divide it",
            )
    return blocks


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


if __name__ == "__main__":
    main()
