from dataclasses import replace

import pytest

from ollama_ft.core.conversation import Conversation, Message
from ollama_ft.core.errors import BadInput, Unsupported
from ollama_ft.kinds.context import IN_CONTEXT
from ollama_ft.kinds.rendering import (
    check_lengths,
    prompt_digest,
    render_rows,
    tokenise,
    with_teachers,
)
from ollama_ft.kinds.trainers.job import Row


def chatml(messages):
    turns = "".join(f"<s>{m.role}\n{m.content}<e>\n" for m in messages)
    return f"{turns}<s>assistant\n"


def asked(question, answer, *before):
    last = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Conversation(messages=(*before, *last))


class Letters:
    """A tokenizer whose tokens are characters, but for <e>, which ends a turn, and <s>."""

    end_ids = frozenset({1})
    eos_id = 2

    def encode(self, text, *, add_bos=None):
        ids = []
        while text:
            special = {"<e>": 1, "<s>": 3}.get(text[:3])
            ids.append(special if special else ord(text[0]))
            text = text[3 if special else 1 :]
        return ids


def test_the_target_is_what_the_runtime_puts_behind_the_prompt():
    (rendered,) = render_rows(chatml, [asked("Hi?", "Ho.")])
    assert rendered.prompt == "<s>user\nHi?<e>\n<s>assistant\n"
    assert rendered.target.startswith("Ho.<e>\n<s>user\n")


def test_the_loss_ends_with_the_turn_end_token():
    (rendered,) = render_rows(chatml, [asked("Hi?", "Ho.")])
    row = tokenise(Letters(), rendered, "Ho.")
    assert row.answer == (ord("H"), ord("o"), ord("."), 1)
    assert list(row.prompt) == Letters().encode(rendered.prompt)


def test_a_template_without_a_turn_end_gets_the_end_of_sequence():
    def bare(messages):
        return "\n".join(m.content for m in messages) + "\n"

    (rendered,) = render_rows(bare, [asked("Hi?", "Ho.")])
    assert tokenise(Letters(), rendered, "Ho.").answer[-1] == 2


def test_the_teacher_is_shown_the_passages_and_the_row_is_not():
    bare, told = asked("Hi?", "Ho."), asked("Ho?", "Hi.")
    told = replace(told, passages=("Greetings\nHo is answered by Hi.",))
    rendered = render_rows(chatml, [bare, told])
    rows = [tokenise(Letters(), r, t.answer) for r, t in zip(rendered, [bare, told], strict=True)]
    plain, taught = with_teachers(Letters(), chatml, rows, [bare, told])
    assert plain == rows[0]
    assert taught == replace(rows[1], teacher=taught.teacher)
    shown = "".join(map(chr, taught.teacher))
    assert "Greetings\nHo is answered by Hi." in shown
    assert "Ho?\n\nUse this" in shown


def test_a_row_to_be_learned_in_its_context_shows_the_passages_itself():
    told = replace(asked("Ho?", "Hi."), passages=("Ho is answered by Hi.",), tags=(IN_CONTEXT,))
    (rendered,) = render_rows(chatml, [told])
    assert "Ho is answered by Hi." in rendered.prompt
    row = tokenise(Letters(), rendered, told.answer)
    assert with_teachers(Letters(), chatml, [row], [told]) == [row]


def test_an_answer_that_the_runtime_changes_is_refused_with_both_shown():
    def trimming(messages):
        return chatml([Message(role=m.role, content=m.content.strip()) for m in messages])

    with pytest.raises(Unsupported, match=r"' Ho\.'.*Rendered: 'Ho\."):
        render_rows(trimming, [asked("Hi?", " Ho.")])


def test_a_prompt_is_named_by_what_the_runtime_makes_of_messages():
    def other(messages):
        return chatml(messages).replace("assistant\n", "assistant\n\n")

    assert prompt_digest(chatml) == prompt_digest(chatml) != prompt_digest(other)


def test_too_long_rows_are_counted_and_the_longest_is_told():
    rows = [Row(prompt=(1,) * n, answer=(2,)) for n in (5, 20, 30)]
    check_lengths(rows, 31)
    with pytest.raises(BadInput, match=r"2 of 3 rows .* the longest has 31"):
        check_lengths(rows, 10)
