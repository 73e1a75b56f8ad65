"""Packing, prefix sharing, fused layers and the chunked head change nothing but the time."""

import pytest
import torch

from ollama_ft.kinds.trainers import attention, head
from ollama_ft.kinds.trainers.batching import (
    LEAST_FILL,
    heard,
    in_order,
    make_batch,
    plan_batches,
    shared_prefix,
    step_count,
)
from ollama_ft.kinds.trainers.job import Row
from ollama_ft.kinds.trainers.model import Scorer
from tests.trainers import adapted_tiny, gradients, plain_loss, rows, stir

KINDS = {
    "llama": {},
    "mistral": {"sliding_window": 8},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "gemma2": {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 10.0},
    "gemma3": {"num_hidden_layers": 7},
    "phi3": {},
}
LAYOUTS = {
    "a shared prefix and mixed lengths": rows(5, shared=9),
    "a prefix longer than the window": rows(4, shared=20, seed=2),
    "nothing shared": tuple(rows(1, seed=seed)[0] for seed in range(4)),
    "one row": rows(1),
    "equal lengths": (
        Row(prompt=(5, 6, 7, 8, 9, 10, 11, 12), answer=(3, 4, 5, 1)),
        Row(prompt=(5, 6, 7, 8, 9, 10, 21, 22), answer=(6, 7, 8, 1)),
    ),
    "the same prompt twice": (
        Row(prompt=(5, 6, 7, 8, 9, 10), answer=(3, 4, 1)),
        Row(prompt=(5, 6, 7, 8, 9, 10), answer=(8, 1)),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("long", [512, 1], ids=["own attention", "torch's attention"])
def test_loss_and_gradients_are_those_of_the_plain_padded_loop(
    kind: str, layout: str, long: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "LONG", long)
    some = LAYOUTS[layout]
    adapted = adapted_tiny(kind, **KINDS[kind])
    stir(adapted)
    truth = plain_loss(adapted, some)
    slopes = gradients(truth, adapted)
    scorer = Scorer(adapted, rows())
    assert scorer.packed, scorer.why_padded
    loss = scorer(scorer.batch(some))
    torch.testing.assert_close(loss, truth, rtol=1e-5, atol=1e-4)
    for name, slope in gradients(loss, adapted).items():
        scale = slopes[name].abs().max().item()
        torch.testing.assert_close(slope, slopes[name], rtol=1e-4, atol=1e-5 * max(1.0, scale))


def test_the_prefix_is_in_the_line_once() -> None:
    some = rows(5, shared=9)
    batch = make_batch(some)
    alone = sum(len(row) - 9 for row in some)
    assert batch.prefix == 9
    assert batch.ids.shape[1] == -(-(9 + alone) // LEAST_FILL) * LEAST_FILL
    assert batch.row_tokens == sum(map(len, some))


def test_lines_have_few_lengths_and_little_filler() -> None:
    def line(length: int) -> int:
        answer = (1,) * (length - 1)
        return make_batch((Row(prompt=(5,), answer=answer),)).ids.shape[1]

    lengths = range(300, 1200)
    assert len({line(length) for length in lengths}) < 40
    assert all(length <= line(length) < 1.07 * length + 1 for length in lengths)


def test_every_row_keeps_the_token_that_asks_for_its_answer() -> None:
    twice = LAYOUTS["the same prompt twice"]
    assert shared_prefix(twice) == 5
    assert shared_prefix((*twice, Row(prompt=(5, 6, 7), answer=(1,)))) == 0


def test_a_model_that_does_not_take_packed_batches_is_trained_the_plain_way() -> None:
    adapted = adapted_tiny()
    stir(adapted)
    truth = plain_loss(adapted, rows(4))
    decoder = adapted.get_base_model().get_decoder()
    forward = decoder.forward

    def older(input_ids=None, attention_mask=None, use_cache=None):  # knows nothing of `batch`
        return forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    decoder.forward = older
    scorer = Scorer(adapted, rows())
    assert not scorer.packed and "unexpected keyword" in scorer.why_padded
    torch.testing.assert_close(scorer(scorer.batch(rows(4))), truth, rtol=1e-5, atol=1e-4)


def test_attention_that_leaks_between_rows_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.ones(1, 1, dtype=torch.bool)
    monkeypatch.setattr(attention, "_causal", lambda *_: whole)
    scorer = Scorer(adapted_tiny(), rows())
    assert not scorer.packed and "packed loss" in scorer.why_padded


@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize("floats", [1 << 24, 200], ids=["one chunk", "many chunks"])
def test_the_head_in_chunks_gives_loss_and_gradient_of_cross_entropy(
    softcap: float | None, floats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "CHUNK_FLOATS", floats)
    torch.manual_seed(0)
    hidden = torch.randn(11, 8, requires_grad=True)
    layer = torch.nn.Linear(8, 50, bias=False).requires_grad_(False)
    answers = torch.randint(0, 50, (11,))
    logits = layer(hidden)
    logits = logits if softcap is None else torch.tanh(logits / softcap) * softcap
    truth = torch.nn.functional.cross_entropy(logits, answers, reduction="sum") / 3
    (slope,) = torch.autograd.grad(truth, hidden)
    loss = head.answer_loss(hidden, layer, answers, softcap) / 3
    torch.testing.assert_close(loss, truth)
    torch.testing.assert_close(torch.autograd.grad(loss, hidden)[0], slope)


@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize("floats", [1 << 24, 200], ids=["one chunk", "many chunks"])
@pytest.mark.parametrize("bias", [False, True], ids=["plain head", "head with a bias"])
def test_the_head_learns_all_that_a_teacher_says(
    softcap: float | None, floats: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "CHUNK_FLOATS", floats)
    torch.manual_seed(0)
    hidden, teacher = torch.randn(11, 8, requires_grad=True), torch.randn(11, 8)
    layer = torch.nn.Linear(8, 50, bias=bias).requires_grad_(False)

    def told(states: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = layer(states)
        return logits if softcap is None else torch.tanh(logits / softcap) * softcap

    wanted = told(teacher).softmax(-1)
    truth = torch.nn.functional.cross_entropy(told(hidden), wanted, reduction="sum")
    truth = truth + (wanted * wanted.log()).sum()
    loss = head.answer_loss(hidden, layer, teacher, softcap)
    torch.testing.assert_close(loss, truth)
    slopes = [torch.autograd.grad(value, hidden)[0] for value in (loss, truth)]
    torch.testing.assert_close(*slopes)
    assert head.answer_loss(teacher, layer, teacher, softcap).item() == pytest.approx(0, abs=1e-5)


def test_dropout_acts_in_front_of_the_adapter_only_and_only_in_training() -> None:
    from ollama_ft.core.recipe import Recipe

    adapted = adapted_tiny(recipe=Recipe(rank=4, dropout=0.5))
    stir(adapted)
    scorer = Scorer(adapted, rows())
    batch = scorer.batch(rows(4))
    calm = scorer.eval()(batch).item()
    assert scorer(batch).item() == calm == pytest.approx(plain_loss(adapted, rows(4)).item(), 1e-5)
    scorer.train()
    torch.manual_seed(0)
    first = scorer(batch)
    torch.manual_seed(0)
    assert scorer(batch).item() == first.item() != calm
    scale = sum(scorer(batch).item() for _ in range(40)) / 40
    assert scale == pytest.approx(calm, rel=0.3)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    assert scorer(batch).item() == pytest.approx(scorer.eval()(batch).item(), 1e-6)


def test_batches_hang_on_seed_and_epoch_alone_and_hold_every_row_once() -> None:
    some = rows(50)
    plan = plan_batches(some, 8, seed=3, epoch=2)
    assert plan == plan_batches(some, 8, seed=3, epoch=2)
    assert sorted(i for batch in plan for i in batch) == list(range(50))
    assert plan != plan_batches(some, 8, seed=3, epoch=1) != plan_batches(some, 8, seed=4, epoch=1)
    assert sorted(map(len, plan)) == [2, 8, 8, 8, 8, 8, 8]


def test_of_rows_that_are_known_as_many_are_drawn_as_are_new_and_others_each_time() -> None:
    some, known = rows(50), range(5, 50)
    epochs = [plan_batches(some, 4, seed=3, epoch=n, known=known) for n in range(2)]
    assert epochs[0] == plan_batches(some, 4, seed=3, epoch=0, known=known)
    drawn = [sorted(i for batch in plan for i in batch) for plan in epochs]
    assert [len(one) for one in drawn] == [10, 10] == [heard(50, 45)] * 2
    assert all(one[:5] == [0, 1, 2, 3, 4] for one in drawn)
    assert drawn[0] != drawn[1]
    assert heard(50, 3) == 50  # fewer are known than new: all are heard


def test_rows_of_a_batch_are_alike_in_length() -> None:
    some = rows(128)
    spread = [
        max(len(some[i]) for i in batch) - min(len(some[i]) for i in batch)
        for batch in plan_batches(some, 8, seed=0, epoch=0)
    ]
    assert sum(spread) / len(spread) < 3  # of 17 that the lengths are apart
    assert in_order(some, 8) == in_order(some, 8)


@pytest.mark.parametrize(
    ("count", "epochs", "steps"), [(9, 1, 3), (9, 0.5, 2), (8, 3, 6), (1, 0.1, 1)]
)
def test_steps_count_the_last_short_batch_and_parts_of_an_epoch(
    count: int, epochs: float, steps: int
) -> None:
    assert step_count(count, 4, epochs) == steps
