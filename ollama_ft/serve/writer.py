"""Off the request's path: from what was overheard to the log, in a thread of its own.

    event loop → queue → redact → spool → log

The queue and the spool are bounded. When one is full, or neither spool nor log can be written, the
answers still flow, and what is lost is counted. An exchange is acknowledged when it is in the spool
or in the log; from then on a kill does not lose it.
"""

import sqlite3
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ollama_ft.core.errors import FtError
from ollama_ft.core.exchange import Entry, Heard, Rated, to_line
from ollama_ft.core.logbook import Pen, older_than, open_log, remove, stored
from ollama_ft.core.sqlite import Database
from ollama_ft.runtime.heard import Overheard, hear
from ollama_ft.serve.counts import Counts
from ollama_ft.serve.spool import LIMIT, Spool

Item = Overheard | Rated

QUEUE_ITEMS = 20_000
QUEUE_BYTES = 128 << 20
_BATCH = 200  # exchanges written at once
_PAUSE = 0.02  # seconds; lets a batch gather, and the event loop have the interpreter
_RETRY = 1.0  # seconds between tries while the log cannot be written
_BUSY_MS = 250  # how long a locked log is waited for; the spool has what waits
_REMEMBERED = 50_000  # uids whose state is known
_PRUNE = 3600.0  # seconds between looks for what is too old
_PRUNE_ROWS = 2_000  # rows removed at a time

WAITING, ACKNOWLEDGED, LOST = "waiting", "acknowledged", "lost"


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How the log is kept."""

    path: Path
    clean: Callable[[Entry], Entry] | None  # takes out what is personal; None: as it was said
    retain_days: float | None = None  # None: for ever
    spool_limit: int = LIMIT

    @property
    def spool_path(self) -> Path:
        """The spool lies beside the log."""
        return self.path.with_suffix(".spool")

    @property
    def counts_path(self) -> Path:
        """So does the file of figures."""
        return self.path.with_suffix(".counts")


class Writer:
    """The queue and its thread. `offer` and `state` are for the event loop."""

    def __init__(self, keeping: Keeping) -> None:
        """Write what an earlier process left in the spool, and count what it lost.

        Raises BadInput if the log is no SQLite database; a log that is locked or on a full disk is
        tried again later.
        """
        self.keeping = keeping
        self.counts = Counts(keeping.counts_path)
        self.trouble = ""  # why the log cannot be written; "" if it can
        self.acknowledged = 0
        self._spool = Spool(keeping.spool_path, keeping.spool_limit)
        self._db: Database | None = None
        self._pen: Pen | None = None
        self._behind = self._spool.size > 0  # the spool has what the log lacks
        self._settled = False
        self._anew = not keeping.path.exists()
        self._retry_at = 0.0
        self._prune_at = 0.0
        self._queue: deque[Item] = deque()
        self._bytes = 0
        self._states: OrderedDict[str, str] = OrderedDict()
        self._wake = threading.Event()
        self._ending = False
        with suppress(sqlite3.OperationalError):
            self._open()
        self._catch_up()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self, seconds: float = 10.0) -> None:
        """Write what is in the queue, then end."""
        self._ending = True
        self._wake.set()
        self._thread.join(seconds)
        self._spool.close()
        self.counts.close()
        if self._db is not None:
            self._db.close()

    # For the event loop

    def begin(self, uid: str) -> None:
        """Count a question before it is passed on."""
        self.counts.add("begun")
        self._remember(uid, WAITING)

    def offer(self, item: Item) -> bool:
        """Queue what was overheard, or count it as lost if the queue is full. Never waits."""
        size = _size(item)
        if len(self._queue) >= QUEUE_ITEMS or self._bytes + size > QUEUE_BYTES:
            if isinstance(item, Overheard):
                self.counts.add("lost_full")
                self._remember(item.uid, LOST)
            return False
        self._bytes += size
        self._queue.append(item)
        if not self._wake.is_set():
            self._wake.set()
        return True

    def state(self, uid: str) -> str:
        """What became of an exchange of this process: waiting, acknowledged, lost; "" unknown."""
        return self._states.get(uid, "")

    @property
    def waiting(self) -> int:
        """Entries in the queue."""
        return len(self._queue)

    @property
    def spooled(self) -> int:
        """Bytes in the spool."""
        return self._spool.size

    def _remember(self, uid: str, state: str) -> None:
        self._states[uid] = state
        if len(self._states) > _REMEMBERED:
            self._states.popitem(last=False)

    # The thread

    def _run(self) -> None:
        while True:
            self._wake.wait(_RETRY)
            self._wake.clear()
            if not self._ending:
                time.sleep(_PAUSE)
            while batch := self._take():
                self._keep(batch)
            if self._behind and (self._ending or time.monotonic() >= self._retry_at):
                self._catch_up()
            if self._ending and not self._queue:
                return
            self._prune()

    def _take(self) -> list[Item]:
        batch: list[Item] = []
        while self._queue and len(batch) < _BATCH:
            item = self._queue.popleft()
            self._bytes -= _size(item)
            batch.append(item)
        return batch

    def _keep(self, batch: Sequence[Item]) -> None:
        if (self._behind or not self._settled) and time.monotonic() >= self._retry_at:
            self._catch_up()
        found = [pair for item in batch if (pair := self._entry(item)) is not None]
        entries = [entry for entry, _ in found]
        spooled = self._into_spool([line for _, line in found])
        written = not self._behind and self._into_log(entries)
        if spooled and written:
            self._empty_spool()
        elif spooled:
            self._behind = True
        state = ACKNOWLEDGED if spooled or written else LOST
        for entry in entries:
            if state == LOST:
                self._lose(entry)
            elif isinstance(entry, Heard):
                self._remember(entry.uid, state)
                self.acknowledged += 1

    def _entry(self, item: Item) -> tuple[Entry, str] | None:
        """The entry, redacted, and its line. What cannot be read, redacted or made a line of is
        lost, never written."""
        clean = self.keeping.clean
        try:
            entry = item if isinstance(item, Rated) else hear(item)
            entry = clean(entry) if clean else entry
            return entry, to_line(entry)
        except Exception as error:  # hostile content must not end the thread
            self.trouble = f"an exchange could not be read: {error!r}"
            self._lose(item)
            return None

    def _lose(self, item: Item | Heard) -> None:
        if isinstance(item, Rated):
            self.counts.add("lost_feedback")
        else:
            self.counts.add("lost_unwritten")
            self._remember(item.uid, LOST)

    def _empty_spool(self) -> None:
        with suppress(OSError):  # what is written again later is passed over
            self._spool.clear()

    def _into_spool(self, lines: Sequence[str]) -> bool:
        try:
            self._spool.add(lines)
        except OSError as error:
            self.trouble = f"the spool cannot be written: {error}"
            return False
        return True

    def _into_log(self, entries: Sequence[Entry]) -> bool:
        try:
            self._open().write(entries)
        except (sqlite3.Error, FtError, OSError) as error:
            self.trouble = f"the log cannot be written: {error}"
            self._retry_at = time.monotonic() + _RETRY
            return False
        self.trouble = ""
        return True

    def _open(self) -> Pen:
        if self._pen is None:
            self._db = open_log(self.keeping.path, busy_ms=_BUSY_MS)
            self._pen = Pen(self._db)
        return self._pen

    def _catch_up(self) -> None:
        """Bring what waits in the spool to the log, then count what earlier processes lost."""
        if self._behind:
            if not all(self._into_log(batch) for batch in self._spool.batches()):
                return
            self._empty_spool()
            self._behind = False
        if not self._settled and self._into_log([]) and self._db is not None:
            self.counts.settle(stored(self._db) - self.acknowledged, anew=self._anew)
            self._settled = True

    def _prune(self) -> None:
        """Remove what is older than its days, a little at a time."""
        days = self.keeping.retain_days
        if days is None or self._db is None or time.monotonic() < self._prune_at:
            return
        moment = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
        try:
            old = older_than(self._db, moment, _PRUNE_ROWS)
            remove(self._db, old, last=len(old) < _PRUNE_ROWS)
        except sqlite3.Error as error:
            self.trouble = f"old exchanges cannot be removed: {error}"
            old = []
        self._prune_at = time.monotonic() + (0 if len(old) == _PRUNE_ROWS else _PRUNE)


def _size(item: Item) -> int:
    return item.asked + item.size + 2_000 if isinstance(item, Overheard) else 1_000
