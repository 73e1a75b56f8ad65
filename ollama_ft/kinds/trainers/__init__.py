"""Trainers: from a job to an adapter. One file or folder each, under the recipe's `adapter` name.

job.py          what a trainer is given, tells and leaves (no torch)
lora.py         LoRA on the dequantised base: train and its loop
batching.py     rows to packed tensors; the order of a run's batches
attention.py    attention over a packed batch with a shared prefix
fused.py        LoRA layers, norms and gates with fewer passes over memory
head.py         the loss on answer tokens without all the logits
model.py        base, adapter, and the module that scores a batch
machine.py      measured: precision, kernel, threads
estimate.py     measured: time, memory, disk of a run
retain.py       general text at every step, to be said as the base says it
teacher.py      what the base says with passages in its prompt, on disk
schedule.py     which rows, what learning rate, at which step
checkpoint.py   the file a killed run goes on from
watchdog.py     what stops a run that cannot end well
interrupt.py    Ctrl-C between two steps
reference.py    what the trained model says, for the proof
environment.py  what OpenMP and oneDNN are told, before torch is loaded
quiet.py        keeps third-party chatter off the screen
"""

from collections.abc import Callable

from ollama_ft.core.plugins import Register, hookimpl
from ollama_ft.kinds.trainers.job import Job, OnEvent, TrainResult

Trainer = Callable[[Job, OnEvent], TrainResult]


def train_lora(job: Job, on_event: OnEvent) -> TrainResult:
    """LoRA with PEFT; see lora.py. Imports torch only when it is called."""
    from ollama_ft.kinds.trainers.lora import train

    return train(job, on_event)


@hookimpl
def register_trainers(register: Register) -> None:
    """Offer the built-in trainers."""
    register("lora", train_lora)
