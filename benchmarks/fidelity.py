"""How close the model that is trained comes to the one that llama.cpp serves, on the same ids.

    python -m benchmarks.fidelity              # SmolLM2-135M and Gemma 3 270M, a few minutes

At every position of a text of Python's documentation: the Kullback-Leibler divergence of our
distribution from llama.cpp's, and whether both hold the same token for the likeliest. llama.cpp is
asked as it serves, one token after the other with its usual 16-bit cache, for its 2000 likeliest
tokens; all others count as one outcome. That can only lower the figure: for SmolLM2, 0.0029 instead
of 0.0030 with the whole vocabulary, which takes six minutes. It fails above a mean divergence of
0.01 or below 95 % agreement.
"""

import sys
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import numpy.typing as npt
import torch

from ollama_ft.weights.architectures import load_model
from ollama_ft.weights.reader import open_gguf
from ollama_ft.weights.tokenizer import load_tokenizer
from tests.conftest import MODELS
from tests.engine import engine
from tests.models import fetch

POSITIONS, MOST = 512, 2000
MOST_DIVERGENCE, LEAST_AGREEMENT = 0.01, 0.95


def main() -> None:
    names = sys.argv[1:] or ["smollm2", "gemma3"]
    fine = [compare(name, fetch(name, MODELS)) for name in names]
    sys.exit(0 if all(fine) else 1)


def compare(name: str, path: Path, positions: int = POSITIONS) -> bool:
    """Whether the model is close enough; the figures are printed."""
    with open_gguf(path) as gguf:
        ids = load_tokenizer(gguf).encode(topics["typesseq"])[:positions]
        model = load_model(gguf)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    divergences, agreements, tails, losses = [], [], [], []
    with engine(path, context=positions + 8, exact=False) as served:
        for at in range(len(ids)):
            ours = logits[at].double().log_softmax(-1).numpy()
            theirs = served.next_logprobs(ids[: at + 1], MOST)
            divergence, tail = kullback_leibler(theirs, ours)
            divergences.append(divergence)
            tails.append(tail)
            agreements.append(max(theirs, key=theirs.__getitem__) == int(ours.argmax()))
            if at + 1 < len(ids) and ids[at + 1] in theirs:
                losses.append((-ours[ids[at + 1]], -theirs[ids[at + 1]]))
    mean, agreement = float(np.mean(divergences)), float(np.mean(agreements))
    nll = np.mean(losses, axis=0)
    print(
        f"{name}: {len(ids)} positions · mean KL {mean:.5f}, largest {max(divergences):.4f} · "
        f"top-1 equal {agreement:.1%} · loss {nll[0]:.4f} ours, {nll[1]:.4f} llama.cpp · "
        f"mean tail {np.mean(tails):.1e}"
    )
    return mean <= MOST_DIVERGENCE and agreement >= LEAST_AGREEMENT


def kullback_leibler(
    theirs: dict[int, float], ours: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """KL(theirs || ours) in nats, and the probability of what `theirs` leaves out."""
    tokens = np.fromiter(theirs.keys(), int)
    p = np.fromiter(theirs.values(), float)
    q = ours[tokens]
    rest_p = max(1.0 - float(np.exp(p).sum()), 0.0)
    rest_q = max(1.0 - float(np.exp(q).sum()), 1e-300)
    rest = rest_p * np.log(rest_p / rest_q) if rest_p > 1e-12 else 0.0
    return float((np.exp(p) * (p - q)).sum() + rest), rest_p


if __name__ == "__main__":
    main()
