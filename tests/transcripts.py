"""The recorded requests: read, sent to a server, and compared with what a real Ollama answered.

`data/transcripts/records.jsonl` has one record a line. Lists and streams are shortened there to their
first and last items; a long prompt stands as {"repeat", "times", "rest"}.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

RECORDS = Path(__file__).parent / "data" / "transcripts" / "records.jsonl"
BASE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MADE_BASE = "sha256:941f309b54caaad6747569ba43712bcde44a2be3bae16c3282ff499c37c54af5"

# What differs from one run or machine to the next; only the type is compared.
VOLATILE = frozenset(
    [
        "created_at",
        "modified_at",
        "expires_at",
        "created",
        "id",
        "size",
        "digest",
        "total_duration",
        "load_duration",
        "prompt_eval_duration",
        "eval_duration",
        "version",
        "elapsed",
    ]
)
# What a random adapter or a sampled answer says; compared where `exact_text` is set.
SPOKEN = frozenset(
    [
        "response",
        "content",
        "text",
        "token",
        "logprob",
        "bytes",
        "context",
        "eval_count",
        "completion_tokens",
        "total_tokens",
        "embedding",
        "done_reason",
        "finish_reason",
    ]
)
# What we say besides: `runtime` beside the version tells us from an Ollama.
OURS = frozenset(("runtime",))
# Ollama's list says of an embedding model that it completes texts; its show, as ours, says the truth.
ODD_ROWS = frozenset(("minilm:latest",))
# Progress that only a server has which rewrites uploads.
_REWRITING = ("verifying conversion",)


def records(server: str) -> list[dict[str, object]]:
    """The records of one of the two servers, in the order in which they were made."""
    rows = [json.loads(line) for line in RECORDS.read_text("utf-8").splitlines()]
    return [row for row in rows if row["server"] == server]


@dataclass
class Player:
    """Sends recorded requests to a server, with our files in place of the recorded ones."""

    client: httpx.Client
    files: Mapping[str, Path]
    digests: Mapping[str, str]  # recorded -> ours
    hosts: dict[str, str] = field(default_factory=dict)  # recorded registry -> ours

    def send(self, record: Mapping[str, object]) -> httpx.Response:
        """Send one recorded request."""
        path = self.mapped(str(record["path"]))
        client: Callable[..., httpx.Response] = self.client.request
        headers = dict(record.get("headers") or {})  # type: ignore[call-overload]
        content = self.content(record.get("body"))
        if "/v2/" in path:
            path = f"http://{self.hosts['127.0.0.1:5000']}{path}"
        return client(str(record["method"]), path, headers=headers, content=content)

    def content(self, body: object) -> bytes | None:
        """The body's bytes."""
        if body is None:
            return None
        if isinstance(body, dict) and "<binary file>" in body:
            return self.files[body["<binary file>"]].read_bytes()
        if isinstance(body, dict) and "<binary>" in body:
            return b"x"
        if isinstance(body, str):
            return body.encode()
        return self.mapped(json.dumps(_expanded(body))).encode()

    def mapped(self, text: str) -> str:
        """The text with our digests and registries."""
        for theirs, ours in self.digests.items():
            text = text.replace(theirs, ours).replace(
                theirs.replace(":", "-"), ours.replace(":", "-")
            )
        for theirs, ours in self.hosts.items():
            text = text.replace(theirs, ours)
        return text

    def upload(self, name: str) -> str:
        """Upload a fixture; its digest."""
        content = self.files[name].read_bytes()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert self.client.post(f"/api/blobs/{digest}", content=content).status_code in (200, 201)
        return digest

    def post(self, path: str, **body: object) -> httpx.Response:
        """A request of the test's own, which must succeed."""
        response = self.client.post(path, json=body)
        assert response.status_code == 200, response.text
        return response


def differences(
    record: Mapping[str, object], response: httpx.Response, player: Player, exact_text: bool
) -> list[str]:
    """In words: how the answer differs from the recorded one. Empty if it conforms."""
    found: list[str] = []
    if response.status_code != record["status"]:
        found.append(
            f"status {response.status_code}, recorded {record['status']}: {response.text[:200]}"
        )
        return found
    wanted, given = str(record["type"]), response.headers.get("content-type", "")
    if wanted.replace(" ", "") != given.replace(" ", ""):
        found.append(f"content type {given!r}, recorded {wanted!r}")
    if record["method"] == "HEAD":
        return found
    compare = _Comparer(player, exact_text)
    if "lines" in record:
        lines = [json.loads(line) for line in response.text.splitlines() if line]
        found += compare.lines(record["lines"], lines)
    elif "events" in record:
        found += compare.lines(record["events"], list(_events(response.text)))
    elif "json" in record:
        found += compare.values(record["json"], response.json(), "")
    elif "text" in record and response.text != record["text"]:
        found.append(f"body {response.text[:100]!r}, recorded {str(record['text'])[:100]!r}")
    return found


class _Comparer:
    def __init__(self, player: Player, exact_text: bool) -> None:
        self.player = player
        self.exact_text = exact_text

    def lines(self, wanted: object, given: list[object]) -> list[str]:
        """Progress line by line; pieces of text by the shape of the first and the last two."""
        assert isinstance(wanted, list)
        wanted = [line for line in wanted if not _is_rewriting(line)]
        if any(
            isinstance(line, dict) and {"response", "message", "choices"} & line.keys()
            for line in wanted
        ):
            ends = -2 if "[DONE]" in wanted else -1
            pairs = [(wanted[0], given[0]), *zip(wanted[ends:], given[ends:], strict=True)]
        else:
            wanted, given = _without_pieces(wanted), _without_pieces(given)
            if len(wanted) != len(given):
                return [f"{len(given)} lines {given}, recorded {len(wanted)} {wanted}"]
            pairs = list(zip(wanted, given, strict=True))
        return [text for a, b in pairs for text in self.values(a, b, "line")]

    def values(self, wanted: object, given: object, at: str) -> list[str]:
        key = at.rpartition(".")[2].partition("[")[0]
        if isinstance(wanted, dict) and isinstance(given, dict):
            return self._objects(wanted, given, at)
        if isinstance(wanted, list) and isinstance(given, list):
            return self._lists(wanted, given, at)
        if _kind(wanted) != _kind(given):
            return [
                f"{at}: {_kind(given)} {str(given)[:80]}, recorded {_kind(wanted)} {str(wanted)[:80]}"
            ]
        if key in VOLATILE or (key in SPOKEN and not self.exact_text):
            return []
        return self._plain(wanted, given, at, key)

    def _objects(self, wanted: dict[str, object], given: dict[str, object], at: str) -> list[str]:
        found = []
        given = {key: value for key, value in given.items() if key not in OURS}
        if wanted.keys() != given.keys():
            lacks, has = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
            found.append(f"{at}: lacks {lacks}, has besides {has}")
        for key in wanted.keys() & given.keys():
            found += self.values(wanted[key], given[key], f"{at}.{key}")
        return found

    def _lists(self, wanted: list[object], given: list[object], at: str) -> list[str]:
        if at.endswith((".models", ".data")) and wanted and isinstance(wanted[0], dict):
            return self._named(wanted, given, at)
        if at.endswith(".tensors"):  # Ollama's rewriting sorts them
            names = [_name(row) for row in wanted]
            given = sorted(given, key=lambda row: [*names, _name(row)].index(_name(row)))
        if bool(wanted) != bool(given):
            return [f"{at}: {len(given)} items, recorded {len(wanted)}"]
        pairs = zip(wanted[:3], given[:3], strict=False)
        return [text for n, (a, b) in enumerate(pairs) for text in self.values(a, b, f"{at}[{n}]")]

    def _named(self, wanted: list[object], given: list[object], at: str) -> list[str]:
        """Models are compared by name: the recorder took no note of some that were made in between."""
        theirs, ours = ({_name(row): row for row in rows} for rows in (wanted, given))
        theirs = {self.player.mapped(name): row for name, row in theirs.items()}
        if theirs.keys() != ours.keys():
            lacks, has = sorted(theirs.keys() - ours.keys()), sorted(ours.keys() - theirs.keys())
            return [f"{at}: lacks {lacks}, has besides {has}"]
        names = theirs.keys() - ODD_ROWS
        return [text for name in names for text in self.values(theirs[name], ours[name], f"{at}[]")]

    def _plain(self, wanted: object, given: object, at: str, key: str) -> list[str]:
        if isinstance(wanted, int | float) and isinstance(given, int | float):
            same = bool(
                np.isclose(wanted, given, rtol=1e-3, atol=0.15 if "logprob" in at else 1e-9)
            )
        elif isinstance(wanted, str) and isinstance(given, str):
            theirs, ours = _canonical(self.player.mapped(wanted)), _canonical(given)
            if key in ("parameters", "modelfile"):  # Go prints a map in no order
                theirs, ours = ("\n".join(sorted(text.split("\n"))) for text in (theirs, ours))
            # An error may say more than Ollama's words, after them.
            same = ours == theirs or (key == "error" and ours.startswith(f"{theirs}: "))
        else:
            same = wanted == given
        return [] if same else [f"{at}: {str(given)[:300]!r}, recorded {str(wanted)[:300]!r}"]


def _canonical(text: str) -> str:
    """The text without what stands for the machine: folders, ports, digests of made layers."""
    text = re.sub(r"/[^\s\"]*/(blobs|manifests)/", r"/models/\1/", text)
    text = re.sub(r"sha256([:-])[0-9a-f]{64}", r"sha256\g<1>…", text)
    text = re.sub(r"^(pushing|pulling) [0-9a-f]{12}$", r"\1 …", text)
    text = re.sub(r"^(creating new|using existing) layer", "layer", text)
    return re.sub(r"(proxyconnect tcp: )?dial tcp [\w.-]+:\d+", "dial tcp …", text)


def _without_pieces(lines: list[object]) -> list[object]:
    """Of a transfer's many lines for one blob, the last; in all, the blobs in no order."""
    rows = [line for line in lines if isinstance(line, dict) and "completed" not in line]
    pieces = {
        line["status"][:7] for line in lines if isinstance(line, dict) and "completed" in line
    }
    return [*sorted(pieces), *rows]


def _is_rewriting(line: object) -> bool:
    return isinstance(line, dict) and line.get("status") in _REWRITING


def _events(text: str) -> Iterator[object]:
    for line in text.splitlines():
        if line.startswith("data: "):
            yield line[6:] if line == "data: [DONE]" else json.loads(line[6:])


def _expanded(body: object) -> object:
    if isinstance(body, dict) and set(body) == {"repeat", "times", "rest"}:
        return str(body["repeat"]) * int(body["times"]) + str(body["rest"])
    if isinstance(body, dict):
        return {key: _expanded(value) for key, value in body.items()}
    return [_expanded(value) for value in body] if isinstance(body, list) else body


def _kind(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return type(value).__name__


def _name(row: object) -> str:
    assert isinstance(row, dict)
    return str(row.get("name") or row.get("id") or row.get("index"))


def write_adapters(folder: Path) -> dict[str, Path]:
    """The random and the broken adapters of the recording, by the names that it uses."""
    kinds: dict[str, dict[str, object]] = {
        "a.gguf": {"seed": 1, "scale": 0.3, "name": "adapter-a"},
        "b.gguf": {"seed": 2, "scale": 0.3, "name": "adapter-b"},
        "c.gguf": {"seed": 3, "scale": 0.3, "name": "adapter-c"},
        "zero.gguf": {"seed": 4, "scale": 0.0, "name": "adapter-zero"},
        "wrongarch.gguf": {"seed": 1, "architecture": "qwen2"},
        "wrongshape.gguf": {"seed": 1, "width": 1024},
        "notype.gguf": {"seed": 1, "kind": ""},
        "noalpha.gguf": {"seed": 1, "alpha": 0.0},
    }
    paths = {name: write_adapter(folder / name, **kind) for name, kind in kinds.items()}  # type: ignore[arg-type]
    paths |= write_peft(folder)
    good = paths["a.gguf"].read_bytes()
    texts = {
        "truncated.gguf": good[: len(good) // 2],
        "trunchdr.gguf": good[:200],
        "garbage.gguf": b"GGUF" + bytes(np.random.default_rng(0).integers(0, 256, 4096, np.uint8)),
        "notgguf.bin": b"hello this is not a gguf file at all\n" * 10,
    }
    for name, content in texts.items():
        paths[name] = folder / name
        paths[name].write_bytes(content)
    return paths


def write_adapter(
    path: Path,
    *,
    seed: int,
    scale: float = 0.05,
    name: str = "",
    architecture: str = "llama",
    width: int = 576,
    kind: str = "adapter",
    alpha: float = 16.0,
) -> Path:
    """A random LoRA of rank 8 on q and v of SmolLM2-135M, byte for byte the recorded one."""
    import gguf

    rank, layers, random = 8, 30, np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    for key, text in (("general.type", kind), ("general.name", name), ("adapter.type", "lora")):
        if text:
            writer.add_string(key, text)
    if alpha:
        writer.add_float32("adapter.lora.alpha", alpha)
    writer.add_file_type(0)
    for layer in range(layers):
        for target, rows in (("attn_q", width), ("attn_v", 192 if width == 576 else width)):
            a = (random.standard_normal((rank, width)) / np.sqrt(width)).astype(np.float32)
            b = (random.standard_normal((rows, rank)) * scale).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.{target}.weight.lora_a", a)
            writer.add_tensor(f"blk.{layer}.{target}.weight.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_peft(folder: Path) -> dict[str, Path]:
    """The recorded PEFT adapter of rank 8 on q, k and v, and its variants of the configuration."""
    import struct

    random, header, values = np.random.default_rng(7), {}, []
    for layer in range(30):
        for module, rows in (("q_proj", 576), ("k_proj", 192), ("v_proj", 192)):
            stem = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            a = random.standard_normal((8, 576)) / np.sqrt(576)
            b = random.standard_normal((rows, 8)) * 0.3
            for name, matrix in ((f"{stem}.lora_A.weight", a), (f"{stem}.lora_B.weight", b)):
                start = sum(map(len, values))
                values.append(matrix.astype(np.float32).tobytes())
                ends = [start, start + len(values[-1])]
                header[name] = {"dtype": "F32", "shape": list(matrix.shape), "data_offsets": ends}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    paths = {"adapter_model.safetensors": folder / "adapter_model.safetensors"}
    content = struct.pack("<Q", len(head)) + head + b"".join(values)
    paths["adapter_model.safetensors"].write_bytes(content)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "target_modules": ["q_proj", "k_proj", "v_proj"],
        "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "bias": "none",
        "fan_in_fan_out": False,
    }
    texts = {
        "adapter_config.json": json.dumps(config, indent=1),
        "float.json": json.dumps(config | {"lora_alpha": 16.0}),
        "frac.json": json.dumps(config | {"lora_alpha": 16.5}),
        "rslora.json": json.dumps(config | {"use_rslora": True}),
    }
    for name, text in texts.items():
        paths[name] = folder / name
        paths[name].write_text(text)
    return paths
