"""fmt.Sprintf: flags, width, precision, `*`, `[n]` and the words it prints for what is wrong."""

import re
from dataclasses import dataclass

from ollama_ft.runtime.templates.gotypes import Value, unbox
from ollama_ft.runtime.templates.printing import Printer
from ollama_ft.runtime.templates.scalars import Spec

_MAX_NUMBER = 1_000_000  # Go ignores a larger width or precision
_DIRECTIVE = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<index1>\[[^\]]*\]?)?(?P<width>\*|[0-9]+)?"
    r"(?:(?P<dot>\.)(?P<index2>\[[^\]]*\]?)?(?P<precision>\*|[0-9]+)?)?"
    r"(?P<index3>\[[^\]]*\]?)?(?P<verb>[\s\S]?)"
)


def sprintf(printer: Printer, layout: str, operands: list[Value]) -> str:
    """Return `layout` with its directives replaced. Raises BadInput when the budget is used up."""
    run = _Run(printer, operands)
    parts: list[str] = []
    at = 0
    for found in _DIRECTIVE.finditer(layout):
        parts.append(layout[at : found.start()])
        parts.append(run.directive(found))
        at = found.end()
    parts.append(layout[at:])
    printer.budget.spend(len(layout))
    if not run.reordered and run.next < len(operands):
        parts.append(printer.extra(operands[run.next :]))
    return "".join(parts)


@dataclass
class _Run:
    """Where one call stands: the next operand, and whether `[n]` changed the order."""

    printer: Printer
    operands: list[Value]
    next: int = 0
    reordered: bool = False
    good_index: bool = True

    def directive(self, found: re.Match[str]) -> str:
        self.good_index = True
        flags, verb = found["flags"], found["verb"]
        self._index(found["index1"])
        width, width_note = self._number(found["width"], "%!(BADWIDTH)")
        minus = "-" in flags or (width or 0) < 0
        self._index(found["index2"])
        precision, precision_note = self._number(found["precision"], "%!(BADPREC)")
        if found["dot"] and precision is None:
            precision = 0
        if precision is not None and precision < 0:
            precision, precision_note = None, "%!(BADPREC)"
        self._index(found["index3"])
        spec = Spec(
            verb=verb,
            width=None if width is None else abs(width),
            precision=precision,
            minus=minus,
            plus="+" in flags,
            sharp="#" in flags,
            space=" " in flags,
            zero="0" in flags,
        )
        return width_note + precision_note + self._shown(spec)

    def _shown(self, spec: Spec) -> str:
        if not spec.verb:
            return "%!(NOVERB)"
        if spec.verb == "%":
            return "%"
        if not self.good_index:
            return f"%!{spec.verb}(BADINDEX)"
        if self.next >= len(self.operands):
            return f"%!{spec.verb}(MISSING)"
        operand = self.operands[self.next]
        self.next += 1
        return self.printer.format(operand, spec)

    def _index(self, written: str | None) -> None:
        """Take `[n]`: the next operand is the n-th."""
        if written is None:
            return
        self.reordered = True
        digits = written[1:-1] if written.endswith("]") else ""
        if digits.isascii() and digits.isdigit() and len(digits) < 8:
            index = int(digits) - 1
            if 0 <= index < len(self.operands):
                self.next = index
                return
        self.good_index = False

    def _number(self, written: str | None, complaint: str) -> tuple[int | None, str]:
        """A width or precision as written, or from an operand where it is `*`."""
        if written is None:
            return None, ""
        if written != "*":
            return (
                (int(written), "")
                if len(written) < 8 and int(written) <= _MAX_NUMBER
                else (None, "")
            )
        value = unbox(self.operands[self.next]) if self.next < len(self.operands) else None
        self.next += value is not None
        if type(value) is int and abs(value) <= _MAX_NUMBER:
            return value, ""
        return None, complaint
