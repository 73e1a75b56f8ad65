"""Manners: what a training may send out of a runtime's memory, and that it comes back."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from ollama_ft.core.errors import OutOfResources, Stopped
from ollama_ft.runtime import memory
from ollama_ft.runtime.client import Ollama
from ollama_ft.runtime.host import parse_host
from ollama_ft.runtime.memory import in_the_way, leave_all, room, seconds_left, unload

GB = 10**9


class Runtime:
    """An Ollama with models in memory, for as long as nobody sends them away."""

    def __init__(self, *models: dict, linger: int = 0, embeds: tuple[str, ...] = ()) -> None:
        self.models = {m["name"]: m for m in models}
        self.linger = linger  # how many more looks a model that was sent away is still seen
        self.embeds = embeds
        self.leaving: dict[str, int] = {}
        self.loads: list[tuple[str, dict]] = []

    def client(self, host: str = "127.0.0.1") -> Ollama:
        return Ollama(parse_host(host), transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/ps":
            return httpx.Response(200, json={"models": self.look()})
        body = json.loads(request.content)
        name = body["model"]
        if body.get("keep_alive") == 0:
            self.leaving[name] = self.linger
        elif name in self.embeds and request.url.path == "/api/generate":
            return httpx.Response(400, json={"error": f'"{name}" does not support generate'})
        else:
            self.loads.append((request.url.path, body))
        return httpx.Response(200, json={"model": name, "done": True})

    def look(self) -> list[dict]:
        for name in [n for n, left in self.leaving.items() if left <= 0]:
            self.models.pop(name, None)
        self.leaving = {name: left - 1 for name, left in self.leaving.items()}
        return list(self.models.values())


def model(name: str, size: int = GB, vram: int = 0, minutes: float = 5.0) -> dict:
    until = datetime.now(UTC) + timedelta(minutes=minutes)
    return {
        "name": name,
        "size": size,
        "size_vram": vram,
        "context_length": 4096,
        "expires_at": until.isoformat().replace("+00:00", "123Z"),  # Go's nine digits
    }


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(memory, "LOOK_EVERY", 0.0)


@pytest.mark.parametrize(
    ("device", "host", "names"),
    [
        ("cpu", "127.0.0.1", ["half", "slow"]),
        ("cuda", "127.0.0.1", ["fast", "half"]),
        ("mps", "127.0.0.1", ["fast", "half", "slow"]),
        ("cpu", "192.0.2.7", []),
    ],
)
def test_only_what_lies_where_the_training_computes_is_in_its_way(device, host, names):
    runtime = Runtime(model("slow"), model("fast", vram=GB), model("half", size=2 * GB, vram=GB))
    assert sorted(m.name for m in in_the_way(runtime.client(host), device)) == names


def test_others_go_only_if_somebody_agrees_and_ours_go_in_any_case():
    runtime = Runtime(model("theirs"))
    client, notes = runtime.client(), []
    guests = in_the_way(client, "cpu")
    runtime.models["bot:v0"] = model("bot:v0")
    with room(client, "cpu", guests, leave_all, notes.append):
        assert list(runtime.models) == ["theirs"]
    assert runtime.loads == []
    assert [n.text for n in notes] == [
        "stays in memory at the runtime: theirs 1.0 GB (--unload frees it)"
    ]


def test_the_training_begins_when_they_are_gone_and_they_come_back_as_they_were():
    runtime = Runtime(model("a"), model("b", minutes=9e6), linger=3, embeds=("a",))
    client, shown = runtime.client(), []
    guests = in_the_way(client, "cpu")

    def agree(models):
        shown.extend(m.name for m in models)
        return True

    with room(client, "cpu", guests, agree, lambda event: None):
        assert runtime.models == {}
    assert shown == ["a", "b"]
    (first, b), (second, a) = runtime.loads
    assert (first, b["model"], b["keep_alive"]) == ("/api/generate", "b", -1)
    assert (second, a["model"]) == ("/api/embed", "a")
    assert 290 <= a["keep_alive"] <= 300
    assert a["options"] == {"num_ctx": 4096}


def test_they_come_back_after_a_training_that_failed_too():
    runtime = Runtime(model("a"))
    client = runtime.client()
    with (
        pytest.raises(Stopped),
        room(client, "cpu", in_the_way(client, "cpu"), lambda models: True, lambda event: None),
    ):
        raise Stopped("not a number")
    assert [body["model"] for _, body in runtime.loads] == ["a"]


def test_a_model_that_stays_is_named_with_the_command_that_stops_it():
    runtime = Runtime(model("busy"), linger=10**6)
    client = runtime.client()
    with pytest.raises(OutOfResources, match="busy stays in memory") as caught:
        unload(client, client.ps(), patience=0.01)
    assert caught.value.mend == "ollama stop busy"


def test_the_time_left_is_what_the_runtime_said():
    (there,) = Runtime(model("a")).client().ps()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for text, left in (
        ("2026-01-01T00:04:00.123456789Z", 240),
        ("2318-04-11T23:47:16.854775807Z", -1),
        ("2025-12-31T23:59:00Z", None),
        ("0001-01-01T00:00:00Z", None),
        ("soon", None),
    ):
        assert seconds_left(replace(there, expires_at=text), at) == left
