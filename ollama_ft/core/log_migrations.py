"""Every change ever made to the log, oldest first. Add at the end; never edit a step.

The log is a file of its own, so its steps are apart from the catalog's.
"""

from ollama_ft.core.sqlite import Database, Migrations, create_table
from ollama_ft.core.words import WIDE, in_pairs, spaced

log_migrations = Migrations("ollama_ft_log")


@log_migrations()
def l001_exchanges(db: Database) -> None:
    """What core/logbook.py writes: messages, exchanges, feedback, the words to search for."""
    create_table(
        db,
        "messages",
        {"key_hash": bytes, "parent": int, "role": str, "content": str, "extra_json": str},
        {"parent": "messages"},
        frozenset({"parent"}),
    )
    db.table("messages").create_index(["key_hash"], unique=True)
    db.table("messages").create_index(["parent"])
    create_table(
        db,
        "exchanges",
        {"uid": str, "family": str, "version": str, "version_digest": str, "model": str}
        | {"client": str, "path": str, "prompt": int, "question": int, "reply": int}
        | {"thinking": str, "options_json": str, "context_json": str, "first_ms": float}
        | {"total_ms": float, "prompt_tokens": int, "answer_tokens": int, "done_reason": str}
        | {"status": str, "error": str, "source": str, "place": str, "redacted": int},
        {"prompt": "messages", "question": "messages", "reply": "messages"},
        frozenset({"reply", "first_ms", "total_ms", "prompt_tokens", "answer_tokens"}),
    )
    for columns in (["at"], ["family", "version"], ["prompt"], ["question"], ["reply"]):
        db.table("exchanges").create_index(columns)
    db.table("exchanges").create_index(["uid"], unique=True)
    create_table(
        db,
        "feedback",
        {"exchange": int, "rating": str, "correction": str, "by": str},
        {"exchange": "exchanges"},
    )
    db.table("feedback").create_index(["exchange"])
    # Without a copy of the texts; rowid = exchanges.id.
    db.execute("create virtual table words using fts5(question, answer, content='')")
    db.execute("create table tallies (name text primary key, value integer not null) strict")
    _create_view(db, "select max(id) from feedback where exchange = e.id")


@log_migrations()
def l002_narrow_letters(db: Database) -> None:
    """Texts with letters as wide as Chinese characters are found by those of a keyboard, too."""
    has = f"glob '*[{WIDE}]*'"
    found = db.execute(
        f"""
        select e.id, q.content, coalesce(r.content, '') from exchanges e
        join messages q on q.id = e.question left join messages r on r.id = e.reply
        where q.content {has} or r.content {has}
        """
    ).fetchall()
    for key, *texts in found:
        db.execute(
            "insert into words (words, rowid, question, answer) values ('delete', ?, ?, ?)",
            [key, *map(in_pairs, texts)],
        )
        db.execute(
            "insert into words (rowid, question, answer) values (?, ?, ?)",
            [key, *map(spaced, texts)],
        )


@log_migrations()
def l003_newest_opinion(db: Database) -> None:
    """Of opinions on one answer the last one given counts, not the last that came into the log."""
    db.execute("drop view exchanges_view")
    _create_view(
        db, "select id from feedback where exchange = e.id order by at desc, id desc limit 1"
    )


def _create_view(db: Database, counts: str) -> None:
    """Exchanges with their texts and the opinion whose id the query `counts` finds."""
    db.create_view(
        "exchanges_view",
        f"""
        select e.*, q.content as question_text, coalesce(r.content, '') as answer,
          f.rating, f.correction, f.by as rated_by, f.at as rated_at
        from exchanges e
        join messages q on q.id = e.question
        left join messages r on r.id = e.reply
        left join feedback f on f.id = ({counts})
        """,
    )
