"""The parts of a parsed template, each with its place in the text.

`str(node)` gives the node back as Go prints it in an error: normal spaces, no trim markers.
`position` is the character that Go blames in an error, which for `.A.B` is the last dot but for
`.A` the first.
"""

from dataclasses import dataclass, field

from ollama_ft.runtime.templates.literals import Number, quote


@dataclass(slots=True, eq=False)
class Node:
    """Anything in the tree."""

    position: int


@dataclass(slots=True, eq=False)
class Dot(Node):
    """`.`, the cursor."""

    def __str__(self) -> str:
        return "."


@dataclass(slots=True, eq=False)
class Nil(Node):
    """`nil`."""

    def __str__(self) -> str:
        return "nil"


@dataclass(slots=True, eq=False)
class Bool(Node):
    """`true` or `false`."""

    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(slots=True, eq=False)
class NumberLiteral(Node):
    """A number; `text` is how it was written."""

    text: str
    number: Number

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True, eq=False)
class StringLiteral(Node):
    """A string; `quoted` is how it was written."""

    quoted: str
    text: str

    def __str__(self) -> str:
        return self.quoted


@dataclass(slots=True, eq=False)
class Identifier(Node):
    """The name of a function."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(slots=True, eq=False)
class Field(Node):
    """`.A.B`: fields of the cursor."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return "".join("." + name for name in self.names)


@dataclass(slots=True, eq=False)
class Variable(Node):
    """`$x` or `$x.A.B`: `names[0]` is the variable with its dollar."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.names)


@dataclass(slots=True, eq=False)
class Chain(Node):
    """`(pipeline).A.B`: fields of what a term gives."""

    term: Node
    names: tuple[str, ...]

    def __str__(self) -> str:
        term = f"({self.term})" if isinstance(self.term, Pipe) else str(self.term)
        return term + "".join("." + name for name in self.names)


@dataclass(slots=True, eq=False)
class Command(Node):
    """Operands side by side: a value, or a function or method with its arguments."""

    operands: list[Node]

    def __str__(self) -> str:
        shown = (f"({part})" if isinstance(part, Pipe) else str(part) for part in self.operands)
        return " ".join(shown)


@dataclass(slots=True, eq=False)
class Pipe(Node):
    """Commands joined by `|`, perhaps declaring variables, or assigning where `assigns`."""

    declared: list[Variable] = field(default_factory=list)
    assigns: bool = False
    commands: list[Command] = field(default_factory=list)

    def __str__(self) -> str:
        names = ", ".join(map(str, self.declared))
        sign = (" = " if self.assigns else " := ") if names else ""
        return names + sign + " | ".join(map(str, self.commands))


@dataclass(slots=True, eq=False)
class Block(Node):
    """Nodes one after the other."""

    nodes: list[Node] = field(default_factory=list)

    def __str__(self) -> str:
        return "".join(map(str, self.nodes))


@dataclass(slots=True, eq=False)
class Text(Node):
    """Text to copy."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True, eq=False)
class Action(Node):
    """`{{pipeline}}`: print what it gives, unless it declares variables."""

    pipe: Pipe

    def __str__(self) -> str:
        return "{{" + str(self.pipe) + "}}"


@dataclass(slots=True, eq=False)
class Branch(Node):
    """What if, with and range have in common."""

    pipe: Pipe
    body: Block
    otherwise: Block | None

    def _shown(self, word: str) -> str:
        otherwise = "" if self.otherwise is None else "{{else}}" + str(self.otherwise)
        return f"{{{{{word} {self.pipe}}}}}{self.body}{otherwise}{{{{end}}}}"


@dataclass(slots=True, eq=False)
class If(Branch):
    """`{{if pipeline}}…{{else}}…{{end}}`."""

    def __str__(self) -> str:
        return self._shown("if")


@dataclass(slots=True, eq=False)
class With(Branch):
    """`{{with pipeline}}…{{else}}…{{end}}`."""

    def __str__(self) -> str:
        return self._shown("with")


@dataclass(slots=True, eq=False)
class Range(Branch):
    """`{{range pipeline}}…{{else}}…{{end}}`."""

    def __str__(self) -> str:
        return self._shown("range")


@dataclass(slots=True, eq=False)
class Call(Node):
    """`{{template "name" pipeline}}`; the pipeline may be missing."""

    name: str
    pipe: Pipe | None

    def __str__(self) -> str:
        pipe = "" if self.pipe is None else f" {self.pipe}"
        return f"{{{{template {quote(self.name)}{pipe}}}}}"


@dataclass(slots=True, eq=False)
class Break(Node):
    """`{{break}}`."""

    def __str__(self) -> str:
        return "{{break}}"


@dataclass(slots=True, eq=False)
class Continue(Node):
    """`{{continue}}`."""

    def __str__(self) -> str:
        return "{{continue}}"


@dataclass(slots=True, eq=False)
class End(Node):
    """`{{end}}`; only while parsing."""

    def __str__(self) -> str:
        return "{{end}}"


@dataclass(slots=True, eq=False)
class Else(Node):
    """`{{else}}`; only while parsing. `chained` is the `if` or `with` of `{{else if …}}`."""

    chained: str = ""

    def __str__(self) -> str:
        return "{{else}}"
