"""What of the log is worth learning: one rule a function, and the line that they stand in.

A rule is given candidates and settings and says which it keeps, which it leaves out and why.
`sift` asks one after the other and counts. Nothing here reads a file or a table.
"""

from ollama_ft.core.plugins import Register, hookimpl
from ollama_ft.kinds.harvest import caps, fitness, grounded, personal, same, suites


@hookimpl
def register_harvest_rules(register: Register) -> None:
    """The rules, in the order in which they are asked; a plugin's come behind them."""
    register("thumbs down", fitness.not_down)
    register("broken", fitness.whole)
    register("unfit", fitness.fit)
    register("too long", fitness.short_enough)
    register("does not know", fitness.knows)
    register("not grounded", grounded.grounded)
    register("personal data", personal.redacted)
    register("asked by a suite", suites.apart)
    register("taught already", same.new_to_it)
    register("duplicate", same.once)
    register("near duplicate", same.once_nearly)
    register("topic is full", caps.by_topic)
    register("client is full", caps.by_client)
