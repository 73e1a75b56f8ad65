"""Which rows are trained on, which say when to stop, and which are only asked afterwards."""

from ollama_ft.core.conversation import Conversation

SHARES = ((0.7, "train"), (0.9, "validation"), (1.0, "test"))  # 7:2:1, as upper bounds


def choose_split(row: Conversation) -> str:
    """The split that the row names, or else the one that its question hashes to.

    The hash is of the normalised question alone: a row stays where it is when others come, and two
    rows with the same question are never on both sides.
    """
    if row.split:
        return row.split
    place = int.from_bytes(row.question_key[:8], "big") / 2**64
    # Rounding can make the largest hashes exactly 1.0: they are test rows as well.
    return next((name for bound, name in SHARES if place < bound), SHARES[-1][1])
