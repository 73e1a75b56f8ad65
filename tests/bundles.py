"""A whole bundle made of small files, for tests that need no model."""

import json
from pathlib import Path

from ollama_ft.core.files import digest_bytes
from ollama_ft.kinds import provenance as told
from ollama_ft.kinds.bundle import Packed, pack

AT = "2026-01-02T03:04:05+00:00"
REFERENCE = [
    {
        "messages": [{"role": "user", "content": "几点开门？"}],
        "prefix": "",
        "text": "几点开门？",
        "token_count": 4,
        "base": {"a": -0.1},
        "tuned": {"b": -0.2},
    }
]
ANSWERS = [
    {
        "question_digest": digest_bytes(b"q"),
        "question": "q",
        "expected": "a",
        "answer": "a",
        "right": True,
        "stopped": True,
        "scores": {"contains": 1.0},
    }
]


def some_files(**changes: bytes) -> dict[str, bytes]:
    """The files of a version, by title. `changes` are given with '_' for '.'."""
    files = {
        "adapter.gguf": b"GGUF, or so it says",
        "adapter_config.json": b"{}",
        "adapter_model.safetensors": b"tensors",
        "Modelfile": b"FROM tiny:1m\nADAPTER ./adapter.gguf\n",
        "reference.json": json.dumps(REFERENCE).encode(),
        "proof.json": b'{"passed": true}',
        "evaluation.json": json.dumps(ANSWERS).encode(),
    }
    return files | changes


def some_provenance(files: dict[str, bytes | Path], **version: object) -> told.Provenance:
    """Facts that fit the files."""

    def digest(title: str) -> str:
        content = files[title]
        return digest_bytes(content if isinstance(content, bytes) else content.read_bytes())

    facts = {
        "family": "bot",
        "number": 2,
        "digest": "sha256:" + "b" * 64,
        "at": AT,
        "system": "",
        "template": "",
        "parameters": {"temperature": 0},
    }
    made = told.Provenance(
        version=told.VersionFacts(**(facts | version)),
        base=told.BaseFacts(
            name="tiny:1m",
            blob_digest="sha256:" + "0" * 64,
            manifest_digest="sha256:" + "1" * 64,
            size=1000,
            architecture="llama",
            parameter_size="1M",
            quantization="F32",
            licence="apache-2.0",
        ),
        dataset=told.DatasetFacts(
            digest="sha256:" + "d" * 64,
            at=AT,
            rows=10,
            train=7,
            validation=2,
            test=1,
            duplicates=0,
            conflicts=0,
        ),
        recipe=told.RecipeFacts(
            name="default", digest=digest_bytes(b"rank: 8\n"), text="rank: 8\n"
        ),
        run=told.RunFacts(
            digest="sha256:" + "e" * 64,
            at=AT,
            seed=7,
            prompt_digest="sha256:" + "f" * 64,
            peft_digest=digest("adapter_model.safetensors"),
            seconds=1.5,
            metrics={"general_perplexity": {"base": 19.0, "tuned": 20.0}},
            software={"torch": "2"},
            place="cpu",
        ),
        adapter=told.AdapterFacts(
            digest=digest("adapter.gguf"), at=AT, size=19, tensors=2, max_error=0.0
        ),
        proof=told.ProofFacts(
            digest=digest("proof.json"),
            at=AT,
            passed=True,
            runtime="ollama",
            runtime_version="0.33.0",
            route="adapters",
            figures={},
        )
        if "proof.json" in files
        else None,
        evaluation=told.EvaluationFacts(
            digest=digest("evaluation.json"),
            at=AT,
            suite_digest="sha256:" + "9" * 64,
            questions=1,
            right=1,
            perplexity=20.0,
            metrics={"stops": 1.0},
        )
        if "evaluation.json" in files
        else None,
    )
    whole = made.version.model_copy(update={"digest": version.get("digest") or made.made_of()})
    return made.model_copy(update={"version": whole})


def a_bundle(**changes: bytes) -> Packed:
    """A version, packed."""
    files = some_files(**changes)
    return pack(some_provenance(files), files)
