"""How versions travel: given away as files, taken in, pushed to a registry and pulled from one.

    leave    export, push
    arrive   take (import), pull
    bases    the base that a version needs, found by its digest

A version that comes in goes the way of one that was trained here: its base is fetched and pinned by
digest, its rows are written, it is published and proved. Until it is proved it is not listed.
"""

from ollama_ft.travel.arrive import Taken, Terms, pull, take
from ollama_ft.travel.leave import export, push

__all__ = ["Taken", "Terms", "export", "pull", "push", "take"]
