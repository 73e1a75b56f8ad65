"""Keep third-party chatter off the screen: it is for those libraries' developers."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

CHATTY = ("transformers", "peft", "accelerate", "bitsandbytes", "torch", "huggingface_hub")


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, no log lines below errors, and no look at any model hub, while it lasts."""
    before = {name: logging.getLogger(name).level for name in CHATTY}
    offline = os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["HF_HUB_OFFLINE"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            os.environ["HF_HUB_OFFLINE"] = offline
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)


def import_peft(*, bits: bool) -> None:
    """Import PEFT; only with `bits` does it bring bitsandbytes, a second and 120 MB, along."""
    import sys

    modules = cast(dict[str, object], sys.modules)
    if "peft" not in modules and "bitsandbytes" not in modules and not bits:
        modules["bitsandbytes"] = None  # Python's own mark for "do not import this"
        try:
            import peft.import_utils  # noqa: F401
            from peft.import_utils import is_bnb_4bit_available, is_bnb_available

            is_bnb_available(), is_bnb_4bit_available()  # PEFT keeps the answers
        finally:
            del modules["bitsandbytes"]
    if bits and "peft" in modules:
        from peft.import_utils import is_bnb_4bit_available, is_bnb_available

        is_bnb_available.cache_clear()
        is_bnb_4bit_available.cache_clear()
