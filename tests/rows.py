"""Rows for tests of the catalog: a family with a base and versions, made without any training."""

from ollama_ft.core import judged_records, loop_records, records, shelf_records, watch_records
from ollama_ft.core.catalog import append
from ollama_ft.core.conversation import Conversation
from ollama_ft.core.judged_records import Reply
from ollama_ft.core.records import (
    Adapter,
    Base,
    Dataset,
    Evaluation,
    Family,
    Proof,
    Publication,
    RecipeText,
    Run,
    Use,
    Version,
)
from ollama_ft.core.sqlite import Database
from ollama_ft.stages.evaluate import reply_key

SHA = "sha256:" + "0" * 63
PAGES = (records, judged_records, shelf_records, loop_records, watch_records)
RECORDS = [record for page in PAGES for record in page.RECORDS]


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def a_family(db: Database, name: str = "bot") -> Family:
    base = append(
        db,
        Base(
            name="tiny:1m",
            pinned="ollama-ft/base-00000000:latest",
            blob_digest=digest("0"),
            manifest_digest=digest("1"),
            size=98_362_432,
            architecture="llama",
            parameter_size="1M",
            quantization="Q4_1",
            licence="apache-2.0",
            source_json="{}",
        ),
    )
    family = Family(name=name, base=base.key, system="", template="", parameters_json="{}")
    append(db, Use(family=name))
    return append(db, family)


def a_version(db: Database, family: Family, number: int, *, proved: bool | None = True) -> Version:
    """v0 is bare; others get a run, an adapter and, unless `proved` is None, a proof."""
    made: dict[str, int] = {}
    if number:
        dataset = append(
            db,
            Dataset(
                family=family.name,
                digest=digest("d"),
                parent=None,
                rows=10,
                train=7,
                validation=2,
                test=1,
                duplicates=0,
                conflicts=0,
                sources_json="{}",
            ),
        )
        recipe = append(db, RecipeText(name="default", digest=digest("e"), text=""))
        run = append(
            db,
            Run(
                family=family.name,
                digest=f"sha256:{number:064d}",
                base=family.base,
                dataset=dataset.key,
                recipe=recipe.key,
                seed=0,
                prompt_digest=digest("f"),
                peft_digest=digest("a"),
                seconds=1.0,
                metrics_json='{"general_perplexity": {"base": 19.0, "tuned": 20.0}}',
                software_json="{}",
                place="cpu, 1 threads, fp32",
            ),
        )
        adapter = append(
            db,
            Adapter(
                run=run.key, digest=f"sha256:{number:064x}", size=9_800_000, tensors=4, max_error=0
            ),
        )
        made = {"run": run.key, "adapter": adapter.key, "dataset": dataset.key}
    version = append(
        db,
        Version(
            family=family.name,
            number=number,
            digest=f"sha256:{number + 10:x}{'b' * 63}"[:71],
            base=family.base,
            system="",
            template="",
            parameters_json="{}",
            **made,
        ),
    )
    if number and proved is not None:
        a_proof(db, version, passed=proved)
    return version


def a_proof(db: Database, version: Version, *, passed: bool) -> Proof:
    publication = append(
        db,
        Publication(
            version=version.key,
            runtime="embedded",
            runtime_version="0.33.0",
            address="http://127.0.0.1:1",
            route="adapters",
            tag=version.tag,
            digest="0" * 64,
            capabilities_json="{}",
        ),
    )
    return append(
        db,
        Proof(
            version=version.key,
            publication=publication.key,
            passed=int(passed),
            digest=digest("c"),
            figures_json="{}",
        ),
    )


def an_evaluation(db: Database, version: Version, right: int, questions: int = 10) -> Evaluation:
    return append(
        db,
        Evaluation(
            version=version.key,
            suite_digest=digest("9"),
            questions=questions,
            right=right,
            perplexity=19.0,
            digest=digest("8"),
            metrics_json='{"stops": 1.0}',
        ),
    )


def a_reply(
    db: Database, version: Version, question: Conversation, text: str, done_reason: str = "stop"
) -> Reply:
    """What a version answered to a question, as `evaluate` keeps it."""
    prompt, options = reply_key(question)
    return append(
        db,
        Reply(
            version_digest=version.digest,
            prompt_digest=prompt,
            options_digest=options,
            text=text,
            done_reason=done_reason,
            prompt_tokens=9,
            answer_tokens=9,
            prompt_seconds=0.1,
            answer_seconds=0.1,
            total_seconds=0.2,
            load_seconds=0.0,
        ),
    )
