"""Part what a model thinks from what it says, while the text is still coming."""

from dataclasses import dataclass


@dataclass
class ThinkingSplitter:
    """Thinking stands at the start of an answer, between two tags; white space around it belongs to
    neither part.

    `inside` is true from the start where the prompt ends with the opening tag already.
    """

    opening: str
    closing: str
    inside: bool = False
    _begun: bool = False  # the place where an opening tag could stand is passed
    _held: str = (
        ""  # text that may turn out to be the beginning of a tag, or white space between the parts
    )
    _trim: bool = True

    def feed(self, text: str) -> tuple[str, str]:
        """Take a piece; return what is sure by now: (thinking, content)."""
        self._held += text
        if not self._begun and not self._start():
            return "", ""
        if not self.inside:
            return "", self._content()
        return self._thinking()

    def finish(self) -> tuple[str, str]:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return (held, "") if self.inside else ("", held)

    def _start(self) -> bool:
        """Whether it is clear by now if the answer starts with thinking."""
        if self.inside:
            self._begun = True
            return True
        head = self._held.lstrip()
        if head.startswith(self.opening):
            self.inside = self._begun = True
            self._held = head.removeprefix(self.opening)
            return True
        if self.opening.startswith(head):
            return False
        self._begun, self._trim = True, False
        return True

    def _thinking(self) -> tuple[str, str]:
        self._lstrip()
        before, found, after = self._held.partition(self.closing)
        if found:
            self.inside, self._trim, self._held = False, True, after
            return before.rstrip(), self._content()
        keep = _tail(before, self.closing)
        self._held = before[len(before) - keep :]
        return before[: len(before) - keep], ""

    def _content(self) -> str:
        self._lstrip()
        text, self._held = self._held, ""
        return text

    def _lstrip(self) -> None:
        if self._trim:
            self._held = self._held.lstrip()
            self._trim = not self._held


def _tail(text: str, tag: str) -> int:
    """How many of the last characters may belong to the tag: white space, and the tag's own
    beginning."""
    partial = next(
        (n for n in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:n])), 0
    )
    head = text[: len(text) - partial]
    return len(text) - len(head.rstrip())
