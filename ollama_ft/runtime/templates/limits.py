"""How much a template may do: it is code from outside, so each rendering has a budget.

The figures leave room for a chat of ten thousand messages and tens of megabytes, and stop a hostile
template within seconds and within some hundred megabytes.
"""

from ollama_ft.core.errors import BadInput

MAX_STEPS = 1_000_000  # nodes and commands evaluated; a message costs about 50
MAX_CHARACTERS = 32_000_000  # made, copied or compared by functions, and written
MAX_NESTING = 100  # of blocks, parentheses and templates that call each other


class Budget:
    """What is left for one rendering; `step` and `spend` raise BadInput when nothing is."""

    __slots__ = ("characters", "steps")

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.characters = MAX_CHARACTERS

    def step(self) -> None:
        """Count one evaluation."""
        self.steps -= 1
        if self.steps < 0:
            raise BadInput(f"template: more than {MAX_STEPS} steps in one rendering")

    def spend(self, characters: int) -> None:
        """Count characters that are made, copied or compared."""
        self.characters -= characters
        if self.characters < 0:
            raise BadInput(f"template: more than {MAX_CHARACTERS} characters in one rendering")
