"""The rows of the way from the log to the next version: what was chosen, what was forgotten."""

from dataclasses import dataclass

from ollama_ft.core.records import Record


@dataclass(frozen=True, kw_only=True)
class Harvest(Record):
    """What was chosen from the log for one dataset; its rows name their exchange in `source`.

    `digest` is of the JSON lines with the answers that should not have been given.
    """

    table = "harvests"
    family: str
    dataset: int
    digest: str
    taken: int  # exchanges that the dataset learns from
    negatives: int
    counts_json: str  # rule -> [came, stayed], and what was asked for


@dataclass(frozen=True, kw_only=True)
class Forgotten(Record):
    """An exchange that was deleted on purpose, and a version that had learned from it."""

    table = "forgotten"
    exchange: str  # the uid
    family: str
    version: int | None  # None if no version had


RECORDS: tuple[type[Record], ...] = (Harvest, Forgotten)
