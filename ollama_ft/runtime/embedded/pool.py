"""Which engines are loaded: one for each base, with every adapter of the store that fits it.

A base and the versions made on it are answered by one process, side by side. A new adapter, or a
longer context, makes a new process the next time it is needed; requests that run in the old one end
there undisturbed.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ollama_ft.core.errors import RuntimeRefused
from ollama_ft.runtime.embedded.adapters import misfit
from ollama_ft.runtime.embedded.asks import seconds
from ollama_ft.runtime.embedded.engine import TERMINATED, Engine, Plan, start_engine
from ollama_ft.runtime.embedded.library import Library, Model

FOREVER = float("inf")
_CACHE_BUDGET = 1 << 30  # bytes for the keys and values of all slots of one engine
_ADAPTER_BUDGET = 512 << 20  # bytes of adapters that are loaded ahead
_MOST_ADAPTERS = 32


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is loaded at once."""

    bases: int = 3  # as Ollama's default without an accelerator
    slots: int = 4
    keep_alive: float = 300.0  # seconds
    threads: int = field(default_factory=lambda: len(_cores()))


@dataclass(kw_only=True)
class Seat:
    """An engine's place in the pool."""

    engine: Engine
    model: Model  # the one that was asked last
    used: float  # monotonic seconds, when a request last ended
    keep_alive: float
    timer: asyncio.TimerHandle | None = None
    retired: bool = False

    @property
    def expires(self) -> float:
        """When it will be unloaded, in seconds since 1970; infinite for never."""
        return time.time() + self.used + self.keep_alive - time.monotonic()

    @property
    def size(self) -> int:
        """Bytes that it takes, nearly: the weights, and the keys and values of all slots."""
        plan = self.engine.plan
        cache = self.model.facts.cache_bytes * plan.context * plan.slots
        files = (plan.base, *plan.adapters)
        return cache + sum(path.stat().st_size for path in files if path.exists())


class Pool:
    """The loaded engines."""

    def __init__(self, library: Library, limits: Limits) -> None:
        self.limits = limits
        self._library = library
        self._seats: dict[Path, Seat] = {}
        self._loading = asyncio.Lock()
        self._freed = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def engine(
        self, model: Model, context: int, keep_alive: float | None = None
    ) -> AsyncGenerator[Engine, None]:
        """An engine that can answer for this model with this context, loaded if it must be.

        Raises RuntimeRefused (500) where the GGUF or an adapter cannot be loaded.
        """
        seat = await self._seat(model, context)
        seat.engine.running += 1
        if keep_alive is not None:
            seat.keep_alive = keep_alive
        _show(seat, model)
        try:
            yield seat.engine
        finally:
            seat.engine.running -= 1
            seat.used = time.monotonic()
            self._rest(seat)

    def loaded(self) -> list[Seat]:
        """What is loaded, the last used first."""
        seats = [seat for seat in self._seats.values() if seat.engine.is_alive]
        return sorted(seats, key=lambda seat: seat.used, reverse=True)

    async def unload(self, model: Model) -> None:
        """Give up the engine of this model's base, as soon as no request runs in it."""
        seat = self._seats.get(model.base_path)
        if seat is None:
            return
        seat.keep_alive = 0.0
        if seat.engine.running == 0:
            await self._close(seat)

    async def close(self) -> None:
        """End every engine."""
        await asyncio.gather(*(self._close(seat) for seat in list(self._seats.values())))
        await asyncio.gather(*self._closing)

    # Parts

    async def _seat(self, model: Model, context: int) -> Seat:
        self._check(model)
        least = self._plan(model, context, ())
        seat = self._fitting(least)
        if seat is not None:
            return seat
        async with self._loading:
            return self._fitting(least) or await self._load(model, least)

    def _check(self, model: Model) -> None:
        for path in model.adapter_paths:
            reason = misfit(path, model.base_path)
            if reason:
                raise RuntimeRefused(f"{TERMINATED}: {reason}", status=500)

    def _fitting(self, plan: Plan) -> Seat | None:
        seat = self._seats.get(plan.base)
        if seat is None or not seat.engine.is_alive or not seat.engine.plan.covers(plan):
            return None
        return seat

    async def _load(self, model: Model, least: Plan) -> Seat:
        old = self._seats.pop(least.base, None)
        context = least.context
        if old is not None:
            # Who asked for a longer context will ask again.
            context = max(context, old.engine.plan.context)
            self._retire(old)
        await self._make_room()
        full = self._plan(model, context, self._siblings(model))
        try:
            engine = await start_engine(full, self.limits.threads)
        except RuntimeRefused:
            if full == least:
                raise
            engine = await start_engine(least, self.limits.threads)
        now = time.monotonic()
        seat = Seat(engine=engine, model=model, used=now, keep_alive=self.limits.keep_alive)
        self._seats[least.base] = seat
        return seat

    def _plan(self, model: Model, context: int, siblings: tuple[Path, ...]) -> Plan:
        facts = model.facts
        context = min(context, facts.context_length or context)
        context = -(-context // 256) * 256  # llama.cpp rounds up as well
        fitting = _CACHE_BUDGET // max(facts.cache_bytes * context, 1)
        if facts.is_encoder:
            fitting = 1
        return Plan(
            base=model.base_path,
            adapters=tuple(dict.fromkeys((*model.adapter_paths, *siblings))),
            context=context,
            slots=max(1, min(self.limits.slots, fitting)),
            embedding=facts.is_encoder,
        )

    def _siblings(self, model: Model) -> tuple[Path, ...]:
        """Other adapters on the same base, newest first, as many as the budget allows."""
        found: dict[Path, int] = {}
        for other in self._library.all():
            if other.base is None or other.base_path != model.base_path:
                continue
            for path in other.adapter_paths:
                if path.exists() and not misfit(path, model.base_path):
                    found[path] = path.stat().st_size
        chosen: list[Path] = []
        total = 0
        for path, size in found.items():
            total += size
            if total > _ADAPTER_BUDGET or len(chosen) == _MOST_ADAPTERS:
                break
            chosen.append(path)
        return tuple(chosen)

    async def _make_room(self) -> None:
        """Close the engine that was not used for longest, until one more may come; wait for a busy
        one."""
        while len(self._seats) >= self.limits.bases:
            idle = [seat for seat in self._seats.values() if seat.engine.running == 0]
            if idle:
                await self._close(min(idle, key=lambda seat: seat.used))
            else:
                self._freed.clear()
                await self._freed.wait()

    def _rest(self, seat: Seat) -> None:
        """What follows when a request has left an engine."""
        self._freed.set()
        if seat.engine.running:
            return
        if seat.retired or seat.keep_alive <= 0:
            self._close_later(seat)
        elif seat.keep_alive != FOREVER:
            self._set_timer(seat)

    def _set_timer(self, seat: Seat) -> None:
        if seat.timer:
            seat.timer.cancel()
        loop = asyncio.get_running_loop()
        seat.timer = loop.call_later(seat.keep_alive, self._expire, seat)

    def _expire(self, seat: Seat) -> None:
        rested = time.monotonic() - seat.used
        if seat.engine.running == 0 and rested >= seat.keep_alive - 0.01:
            self._close_later(seat)

    def _retire(self, seat: Seat) -> None:
        seat.retired = True
        if seat.engine.running == 0:
            self._close_later(seat)

    def _close_later(self, seat: Seat) -> None:
        if self._seats.get(seat.engine.plan.base) is seat:
            del self._seats[seat.engine.plan.base]
        task = asyncio.create_task(self._close(seat))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, seat: Seat) -> None:
        if seat.timer:
            seat.timer.cancel()
        if self._seats.get(seat.engine.plan.base) is seat:
            del self._seats[seat.engine.plan.base]
        await seat.engine.close()


def limits_from(environment: "os._Environ[str] | dict[str, str]") -> Limits:
    """Limits as Ollama's variables set them; what is not a number is passed over."""
    plain = Limits()
    return Limits(
        bases=_number(environment.get("OLLAMA_MAX_LOADED_MODELS"), plain.bases),
        slots=_number(environment.get("OLLAMA_NUM_PARALLEL"), plain.slots),
        keep_alive=_seconds(environment.get("OLLAMA_KEEP_ALIVE"), plain.keep_alive),
    )


def _seconds(text: str | None, default: float) -> float:
    try:
        wish = seconds(float(text) if text and text.lstrip("-").isdigit() else text or None)
    except RuntimeRefused:
        return default
    return default if wish is None else wish


def _number(text: str | None, default: int) -> int:
    text = (text or "").strip()
    return int(text) if text.isdigit() and int(text) > 0 else default


def _show(seat: Seat, model: Model) -> None:
    # Two names for the same manifest are one model: the one that came first goes on being shown.
    if seat.model.stored.digest != model.stored.digest:
        seat.model = model


def _cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
