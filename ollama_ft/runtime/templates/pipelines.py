"""Parse what stands inside an action: declarations, commands, operands, literals."""

from collections.abc import Callable, Collection

from ollama_ft.runtime.templates import nodes
from ollama_ft.runtime.templates.cursor import Cursor
from ollama_ft.runtime.templates.lexer import Kind, Token
from ollama_ft.runtime.templates.literals import (
    LiteralError,
    Number,
    parse_number,
    quote,
    unquote,
    unquote_char,
)

_OPERANDS = {
    Kind.BOOL,
    Kind.CHARACTER,
    Kind.COMPLEX,
    Kind.DOT,
    Kind.FIELD,
    Kind.IDENTIFIER,
    Kind.NUMBER,
    Kind.NIL,
    Kind.RAW_STRING,
    Kind.STRING,
    Kind.VARIABLE,
    Kind.LEFT_PAREN,
}
_CONSTANTS = (nodes.Bool, nodes.Dot, nodes.Nil, nodes.NumberLiteral, nodes.StringLiteral)

MAX_VARIABLES = 200  # declared or assigned to within one block


class PipelineParser:
    """Parses pipelines at the cursor; `variables` are those in sight."""

    def __init__(self, cursor: Cursor, functions: Collection[str]) -> None:
        self.cursor = cursor
        self.functions = functions
        self.variables = ["$"]

    def pipeline(self, context: str, closing: Kind) -> nodes.Pipe:
        """Parse up to and with the token that closes the pipeline."""
        pipe = nodes.Pipe(self.cursor.peek_word().position)
        self._declarations(pipe, context)
        while True:
            token = self.cursor.next_word()
            if token.kind is closing:
                self._check(pipe, context)
                return pipe
            if token.kind not in _OPERANDS:
                self.cursor.unexpected(token, context)
            self.cursor.at -= 1
            pipe.commands.append(self._command())

    def _declarations(self, pipe: nodes.Pipe, context: str) -> None:
        """`$x :=`, `$x =` and, for range, `$i, $x :=` before the commands."""
        while self.cursor.peek_word().kind is Kind.VARIABLE:
            start = self.cursor.at
            variable = self.cursor.next_word()
            following = self.cursor.next_word()
            comma = following.kind is Kind.CHAR and following.value == ","
            if following.kind not in (Kind.ASSIGN, Kind.DECLARE) and not comma:
                self.cursor.at = start
                return
            pipe.declared.append(nodes.Variable(variable.position, (variable.value,)))
            self._declare(variable.value)
            if not comma:
                pipe.assigns = following.kind is Kind.ASSIGN
                return
            self._second_variable(pipe, context)

    def _declare(self, name: str) -> None:
        """Take a name into sight. Go lets an assignment do that too, and fails when it runs."""
        self.variables.append(name)
        if len(self.variables) > MAX_VARIABLES:
            self.cursor.fail(f"more than {MAX_VARIABLES} variables")

    def _second_variable(self, pipe: nodes.Pipe, context: str) -> None:
        if context != "range" or len(pipe.declared) > 1:
            self.cursor.fail(f"too many declarations in {context}")
        if self.cursor.peek_word().kind not in (Kind.VARIABLE, Kind.RIGHT_DELIM, Kind.RIGHT_PAREN):
            self.cursor.fail("range can only initialize variables")

    def _check(self, pipe: nodes.Pipe, context: str) -> None:
        if not pipe.commands:
            self.cursor.fail(f"missing value for {context}")
        for stage, command in enumerate(pipe.commands[1:], start=2):
            if isinstance(command.operands[0], _CONSTANTS):
                self.cursor.fail(f"non executable command in pipeline stage {stage}")

    def _command(self) -> nodes.Command:
        command = nodes.Command(self.cursor.peek_word().position, [])
        while True:
            self.cursor.peek_word()
            operand = self._operand()
            if operand is not None:
                command.operands.append(operand)
            token = self.cursor.next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT_DELIM, Kind.RIGHT_PAREN):
                self.cursor.at -= 1
            elif token.kind is not Kind.PIPE:
                self.cursor.unexpected(token, "operand")
            if not command.operands:
                self.cursor.fail("empty command")
            return command

    def _operand(self) -> nodes.Node | None:
        term = self._term()
        if term is None:
            return None
        first = self.cursor.peek()
        if first.kind is not Kind.FIELD:
            return term
        names = []
        while self.cursor.peek().kind is Kind.FIELD:
            names.append(self.cursor.next().value[1:])
        if isinstance(term, nodes.Field | nodes.Variable):
            # Go keeps the place of the first chained field as the place of the whole.
            return type(term)(first.position, (*term.names, *names))
        if isinstance(term, _CONSTANTS):
            self.cursor.fail(f"unexpected . after term {quote(str(term))}")
        return nodes.Chain(first.position, term, tuple(names))

    def _term(self) -> nodes.Node | None:
        token = self.cursor.next_word()
        make = _TERMS.get(token.kind)
        if make is not None:
            return make(self, token)
        self.cursor.at -= 1
        return None

    def _function(self, token: Token) -> nodes.Node:
        if token.value not in self.functions:
            self.cursor.fail(f"function {quote(token.value)} not defined")
        return nodes.Identifier(token.position, token.value)

    def _variable(self, token: Token) -> nodes.Node:
        if token.value not in self.variables:
            self.cursor.fail(f"undefined variable {quote(token.value)}")
        return nodes.Variable(token.position, (token.value,))

    def _parenthesis(self, token: Token) -> nodes.Node:
        self.cursor.deeper()
        pipe = self.pipeline("parenthesized pipeline", Kind.RIGHT_PAREN)
        self.cursor.depth -= 1
        return pipe

    def _number(self, token: Token) -> nodes.Node:
        try:
            if token.kind is Kind.CHARACTER:
                code = unquote_char(token.value)
                value = Number(integer=code, unsigned=code)
            else:
                value = parse_number(token.value)
        except LiteralError as error:
            self.cursor.fail(str(error))
        return nodes.NumberLiteral(token.position, token.value, value)

    def _literal(self, token: Token) -> nodes.Node:
        return nodes.StringLiteral(token.position, token.value, self.string(token))

    def string(self, token: Token) -> str:
        """Return the text of a string token."""
        try:
            return unquote(token.value)
        except LiteralError as error:
            self.cursor.fail(str(error))


_TERMS: dict[Kind, Callable[[PipelineParser, Token], nodes.Node]] = {
    Kind.IDENTIFIER: PipelineParser._function,
    Kind.VARIABLE: PipelineParser._variable,
    Kind.LEFT_PAREN: PipelineParser._parenthesis,
    Kind.NUMBER: PipelineParser._number,
    Kind.COMPLEX: PipelineParser._number,
    Kind.CHARACTER: PipelineParser._number,
    Kind.STRING: PipelineParser._literal,
    Kind.RAW_STRING: PipelineParser._literal,
    Kind.DOT: lambda parser, token: nodes.Dot(token.position),
    Kind.NIL: lambda parser, token: nodes.Nil(token.position),
    Kind.BOOL: lambda parser, token: nodes.Bool(token.position, token.value == "true"),
    Kind.FIELD: lambda parser, token: nodes.Field(token.position, (token.value[1:],)),
}
