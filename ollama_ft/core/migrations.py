"""Every change ever made to the catalog, oldest first. Add at the end; never edit a step."""

from ollama_ft.core.sqlite import Database, Migrations, create_table
from ollama_ft.core.words import TOKENIZER

migrations = Migrations("ollama_ft")


@migrations()
def m001_bases_and_families(db: Database) -> None:
    """What stages/base.py and stages/family.py append."""
    create_table(
        db,
        "bases",
        {"name": str, "pinned": str, "blob_digest": str, "manifest_digest": str, "size": int}
        | {"architecture": str, "parameter_size": str, "quantization": str, "licence": str}
        | {"source_json": str},
    )
    create_table(
        db,
        "families",
        {"name": str, "base": int, "system": str, "template": str, "parameters_json": str},
        {"base": "bases"},
    )
    create_table(db, "uses", {"family": str})
    db.table("families").create_index(["name"], unique=True)


@migrations()
def m002_what_is_trained(db: Database) -> None:
    """What stages/dataset.py, stages/train.py and stages/convert.py append."""
    create_table(
        db,
        "datasets",
        {"family": str, "digest": str, "parent": int, "rows": int, "train": int}
        | {"validation": int, "test": int, "duplicates": int, "conflicts": int}
        | {"sources_json": str},
        {"parent": "datasets"},
        frozenset({"parent"}),
    )
    create_table(db, "recipes", {"name": str, "digest": str, "text": str})
    create_table(
        db,
        "runs",
        {"family": str, "digest": str, "base": int, "dataset": int, "recipe": int, "seed": int}
        | {"prompt_digest": str, "peft_digest": str, "seconds": float, "metrics_json": str}
        | {"software_json": str, "place": str},
        {"base": "bases", "dataset": "datasets", "recipe": "recipes"},
    )
    create_table(
        db,
        "adapters",
        {"run": int, "digest": str, "size": int, "tensors": int, "max_error": float},
        {"run": "runs"},
    )


@migrations()
def m003_what_is_served(db: Database) -> None:
    """What stages/family.py, publish.py, verify.py, evaluate.py and promote.py append."""
    create_table(
        db,
        "versions",
        {"family": str, "number": int, "digest": str, "base": int, "run": int, "adapter": int}
        | {"dataset": int, "parent": int, "system": str, "template": str, "parameters_json": str},
        {"base": "bases", "run": "runs", "adapter": "adapters", "dataset": "datasets"}
        | {"parent": "versions"},
        frozenset({"run", "adapter", "dataset", "parent"}),
    )
    db.table("versions").create_index(["family", "number"], unique=True)
    create_table(
        db,
        "publications",
        {"version": int, "runtime": str, "runtime_version": str, "address": str, "route": str}
        | {"tag": str, "digest": str, "capabilities_json": str},
        {"version": "versions"},
    )
    create_table(
        db,
        "proofs",
        {"version": int, "publication": int, "passed": int, "digest": str, "figures_json": str},
        {"version": "versions", "publication": "publications"},
    )
    create_table(
        db,
        "evaluations",
        {"version": int, "suite_digest": str, "questions": int, "right": int}
        | {"perplexity": float, "digest": str, "metrics_json": str},
        {"version": "versions"},
        frozenset({"perplexity"}),
    )
    moves = {"family": str, "version": int, "action": str, "parent": int, "reason": str}
    to_parent = {"version": "versions"}
    create_table(db, "intents", moves, to_parent, frozenset({"parent"}))
    create_table(
        db,
        "promotions",
        {"intent": int} | moves | {"outcome": str, "digest": str},
        to_parent | {"intent": "intents", "parent": "promotions"},
        frozenset({"parent"}),
    )
    db.table("promotions").create_index(["intent"], unique=True)


@migrations()
def m004_views(db: Database) -> None:
    """`live`, `status` and `versions_view`: read over the newest rows, never stored."""
    db.create_view(
        "live",
        """
        select p.family, p.version, v.number, p.id as promotion, p.parent, p.at as since
        from promotions p join versions v on v.id = p.version
        where p.id in (select max(id) from promotions where outcome = 'done' group by family)
        """,
    )
    db.create_view(
        "status",
        """
        select v.id as version, v.family, v.number,
          case
            when v.id = live.version then 'live'
            when v.id = previous.version then 'previous'
            when v.number = 0 then 'base'
            when proof.passed is null then 'unproved'
            when proof.passed = 0 then 'failed'
            when exists (select 1 from promotions where version = v.id and outcome = 'done')
              then 'retired'
            else 'candidate'
          end as status
        from versions v
        left join live on live.family = v.family
        left join promotions previous on previous.id = live.parent
        left join proofs proof
          on proof.id = (select max(id) from proofs where version = v.id)
        """,
    )
    db.create_view(
        "versions_view",
        """
        select v.id as version, v.family, v.number, v.at, v.digest, status.status,
          parent.number as parent, a.size, a.digest as adapter_digest, d.rows, d.digest as dataset,
          e.questions, e.right, e.perplexity, b.name as base, b.size as base_size
        from versions v
        join status on status.version = v.id
        join bases b on b.id = v.base
        left join versions parent on parent.id = v.parent
        left join adapters a on a.id = v.adapter
        left join datasets d on d.id = v.dataset
        left join evaluations e
          on e.id = (select max(id) from evaluations where version = v.id)
        where v.number = 0 or status.status != 'unproved'
        """,
    )


@migrations()
def m005_origins(db: Database) -> None:
    """What stages/adopt.py appends for a version that was not trained here."""
    columns = {"version": int, "kind": str, "source": str, "digest": str, "signer": str}
    create_table(db, "origins", columns, {"version": "versions"})


@migrations()
def m006_judged(db: Database) -> None:
    """What stages/measure.py, stages/judge.py and stages/rate.py append."""
    create_table(
        db,
        "measurements",
        {"evaluation": int, "name": str, "value": float},
        {"evaluation": "evaluations"},
        frozenset({"value"}),
    )
    pair: dict[str, type] = {"first": int, "second": int}
    create_table(
        db,
        "judgements",
        pair
        | {"question_digest": str, "prompt_digest": str, "judge": str, "judge_digest": str}
        | {"shown_first": int, "verdict": str, "reason": str},
        {"first": "versions", "second": "versions", "shown_first": "versions"},
    )
    create_table(
        db,
        "ratings",
        pair
        | {"version": int, "question_digest": str, "rater": str, "shown": int}
        | {"relevance": int, "fluency": int, "expertise": int},
        {"first": "versions", "second": "versions", "version": "versions"},
    )


@migrations()
def m007_knowledge(db: Database) -> None:
    """What stages/knowledge.py appends: documents, their passages, words and vectors."""
    create_table(
        db,
        "documents",
        {"family": str, "path": str, "digest": str, "kind": str, "title": str, "size": int}
        | {"passages": int, "removed": int},
    )
    create_table(db, "chunks", {"digest": str, "heading": str, "text": str, "tokens": int})
    create_table(
        db,
        "placements",
        {"document": int, "chunk": int, "place": int, "page": int},
        {"document": "documents", "chunk": "chunks"},
        frozenset({"page"}),
    )
    create_table(db, "embedders", {"name": str, "digest": str, "dimensions": int})
    create_table(
        db,
        "vectors",
        {"chunk": int, "embedder": int, "data": bytes},
        {"chunk": "chunks", "embedder": "embedders"},
    )
    db.table("documents").create_index(["family", "path"])
    db.table("chunks").create_index(["digest"], unique=True)
    db.table("placements").create_index(["chunk"])
    db.table("placements").create_index(["document"])
    db.table("vectors").create_index(["embedder", "chunk"], unique=True)
    # Only the index: its text is made of the chunk's by core/words.py, and the rowid is its id.
    db.execute(f"create virtual table words using fts5(text, content='', tokenize='{TOKENIZER}')")
    # A cross join keeps this order: whoever asks knows chunks, and a family has many documents.
    db.create_view(
        "shelf",
        """
        select d.family, d.path, d.title, d.kind, d.id as document,
          p.chunk, p.place, p.page
        from placements p cross join documents d on d.id = p.document
        where d.removed = 0 and not exists (
          select 1 from documents newer
          where newer.family = d.family and newer.path = d.path and newer.id > d.id
        )
        """,
    )


@migrations()
def m008_merges(db: Database) -> None:
    """What stages/publish.py appends where a runtime takes no adapter."""
    create_table(
        db,
        "merges",
        {"adapter": int, "packed_as": str, "digest": str, "size": int, "base_size": int}
        | {"mean_error": float, "max_error": float, "types_json": str},
        {"adapter": "adapters"},
    )


@migrations()
def m009_upkeep(db: Database) -> None:
    """What stages/tag.py and stages/gc.py append."""
    columns = {"version": int, "name": str, "present": int, "reason": str}
    create_table(db, "tags", columns, {"version": "versions"})
    create_table(
        db,
        "removals",
        {"digest": str, "kind": str, "version": int, "size": int, "reason": str},
        {"version": "versions"},
        frozenset({"version"}),
    )


@migrations()
def m010_the_gate(db: Database) -> None:
    """What stages/suite.py, evaluate.py and gate.py append; `list` shows the test questions."""
    create_table(
        db,
        "suites",
        {"name": str, "family": str, "kind": str, "digest": str, "questions": int, "source": str},
    )
    create_table(
        db,
        "replies",
        {"version_digest": str, "prompt_digest": str, "options_digest": str, "text": str}
        | {"done_reason": str, "prompt_tokens": int, "answer_tokens": int}
        | {"prompt_seconds": float, "answer_seconds": float, "total_seconds": float}
        | {"load_seconds": float},
    )
    db.table("replies").create_index(["version_digest", "prompt_digest"])
    create_table(
        db,
        "verdicts",
        {"version": int, "against": int, "gate": str, "gate_digest": str, "outcome": str}
        | {"digest": str, "accepted_json": str, "figures_json": str},
        {"version": "versions", "against": "versions"},
    )
    db.table("evaluations").add_column("suite", str, not_null_default="")
    db.table("datasets").add_column("banned", int, not_null_default=0)
    view = db["versions_view"].schema
    db["versions_view"].drop()
    db.execute(view.replace("where version = v.id)", "where version = v.id and suite = '')"))


@migrations()
def m011_cleanings(db: Database) -> None:
    """What stages/clean.py appends: which dataset was made from which, and what was done."""
    create_table(
        db,
        "cleanings",
        {"family": str, "dataset": int, "parent": int, "came": int, "stayed": int}
        | {"digest": str, "counts_json": str},
        {"dataset": "datasets", "parent": "datasets"},
    )


@migrations()
def m012_harvests(db: Database) -> None:
    """What stages/harvest.py and stages/forget.py append."""
    create_table(
        db,
        "harvests",
        {"family": str, "dataset": int, "digest": str, "taken": int, "negatives": int}
        | {"counts_json": str},
        {"dataset": "datasets"},
    )
    create_table(
        db,
        "forgotten",
        {"exchange": str, "family": str, "version": int},
        {"version": "versions"},
        frozenset({"version"}),
    )
    db.table("forgotten").create_index(["version"])


@migrations()
def m013_watched(db: Database) -> None:
    """What stages/drift.py, decay.py, shadow.py and canary.py append."""
    create_table(
        db,
        "drifts",
        {"family": str, "version": int, "drifted": int, "now": int, "before": int}
        | {"figures_json": str},
        {"version": "versions"},
        frozenset({"version"}),
    )
    create_table(
        db,
        "checks",
        {"family": str, "version": int, "promotion": int, "verdict": str, "action": str}
        | {"figures_json": str},
        {"version": "versions", "promotion": "promotions"},
    )
    create_table(
        db,
        "shadows",
        {"family": str, "live": int, "candidate": int, "questions": int, "agreed": int}
        | {"digest": str, "figures_json": str},
        {"live": "versions", "candidate": "versions"},
    )
    create_table(
        db,
        "canaries",
        {"version": int, "runtime": str, "runtime_version": str, "address": str}
        | {"base_digest": str, "digest": str, "figures_json": str},
        {"version": "versions"},
    )


@migrations()
def m014_indices(db: Database) -> None:
    """What the views look up for each version: without these, `list` is quadratic."""
    for table in ("proofs", "evaluations", "publications", "promotions"):
        db.table(table).create_index(["version"])
    db.table("promotions").create_index(["family"])
