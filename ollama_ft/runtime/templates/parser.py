"""Parse a Go template into trees, one for each defined name; "" is the template itself."""

from collections.abc import Collection

from ollama_ft.core.errors import BadInput
from ollama_ft.runtime.templates import nodes
from ollama_ft.runtime.templates.cursor import Cursor
from ollama_ft.runtime.templates.lexer import Kind, Token
from ollama_ft.runtime.templates.literals import quote
from ollama_ft.runtime.templates.pipelines import PipelineParser

MAX_TEXT = 1 << 18  # characters of a template; the largest in Ollama's library have a few thousand


def parse(text: str, functions: Collection[str]) -> dict[str, nodes.Block]:
    """Return the tree of each template in `text`. Raises BadInput with Go's message."""
    if len(text) > MAX_TEXT:
        raise BadInput(f"template: longer than {MAX_TEXT} characters")
    parser = _Parser(text, functions)
    try:
        parser.top()
    except RecursionError:
        parser.cursor.fail("nested too deeply")
    return parser.trees


class _Parser:
    def __init__(self, text: str, functions: Collection[str]) -> None:
        self.cursor = Cursor(text)
        self.pipelines = PipelineParser(self.cursor, functions)
        self.ranges = 0
        self.trees: dict[str, nodes.Block] = {}

    def top(self) -> None:
        """The whole text: text, actions and definitions, up to its end."""
        root = nodes.Block(0)
        while self.cursor.peek().kind is not Kind.EOF:
            start = self.cursor.at
            if (
                self.cursor.next().kind is Kind.LEFT_DELIM
                and self.cursor.next_word().kind is Kind.DEFINE
            ):
                self.definition()
                continue
            self.cursor.at = start
            node = self.text_or_action()
            if isinstance(node, nodes.End | nodes.Else):
                self.cursor.fail(f"unexpected {node}")
            root.nodes.append(node)
        self.add("", root)

    def add(self, name: str, tree: nodes.Block) -> None:
        known = self.trees.get(name)
        if known is None or _is_empty(known):
            self.trees[name] = tree
        elif not _is_empty(tree):
            self.cursor.fail(f"template: multiple definition of template {quote(name)}")

    def definition(self) -> None:
        context = "define clause"
        name = self.pipelines.string(self.cursor.expect((Kind.STRING, Kind.RAW_STRING), context))
        self.cursor.expect((Kind.RIGHT_DELIM,), context)
        self.own_tree(name, context)

    def own_tree(self, name: str, context: str) -> None:
        """Parse up to `{{end}}` with no variables or loops of the surroundings in sight."""
        kept = self.pipelines.variables, self.ranges, self.cursor.action_start
        self.pipelines.variables, self.ranges, self.cursor.action_start = ["$"], 0, None
        tree, end = self.items()
        self.pipelines.variables, self.ranges, self.cursor.action_start = kept
        if not isinstance(end, nodes.End):
            self.cursor.fail(f"unexpected {end} in {context}")
        self.add(name, tree)

    def items(self) -> tuple[nodes.Block, nodes.Node]:
        """Nodes up to the `{{end}}` or `{{else}}` that closes them, and that."""
        self.cursor.deeper()
        block = nodes.Block(self.cursor.peek_word().position)
        while self.cursor.peek_word().kind is not Kind.EOF:
            node = self.text_or_action()
            if isinstance(node, nodes.End | nodes.Else):
                self.cursor.depth -= 1
                return block, node
            block.nodes.append(node)
        self.cursor.fail("unexpected EOF")

    def text_or_action(self) -> nodes.Node:
        token = self.cursor.next_word()
        if token.kind is Kind.TEXT:
            return nodes.Text(token.position, token.value)
        if token.kind is not Kind.LEFT_DELIM:
            self.cursor.unexpected(token, "input")
        self.cursor.action_start = token
        node = self.action()
        self.cursor.action_start = None
        return node

    def action(self) -> nodes.Node:
        token = self.cursor.next_word()
        control = _CONTROLS.get(token.kind)
        if control is not None:
            return control(self, token)
        self.cursor.at -= 1
        return nodes.Action(token.position, self.pipelines.pipeline("command", Kind.RIGHT_DELIM))

    def if_(self, token: Token) -> nodes.Node:
        return nodes.If(*self.branch("if"))

    def with_(self, token: Token) -> nodes.Node:
        return nodes.With(*self.branch("with"))

    def range_(self, token: Token) -> nodes.Node:
        return nodes.Range(*self.branch("range"))

    def branch(self, context: str) -> tuple[int, nodes.Pipe, nodes.Block, nodes.Block | None]:
        visible = len(self.pipelines.variables)
        pipe = self.pipelines.pipeline(context, Kind.RIGHT_DELIM)
        self.ranges += context == "range"
        body, closing = self.items()
        self.ranges -= context == "range"
        otherwise = None
        if isinstance(closing, nodes.Else):
            otherwise = self.alternative(context, closing)
        del self.pipelines.variables[visible:]
        return pipe.position, pipe, body, otherwise

    def alternative(self, context: str, closing: nodes.Else) -> nodes.Block:
        """What follows `{{else`; `{{else if …}}` shares the `{{end}}` of its own if."""
        if closing.chained == context:
            self.cursor.deeper()
            token = self.cursor.next_word()
            inner = self.if_(token) if context == "if" else self.with_(token)
            self.cursor.depth -= 1
            return nodes.Block(closing.position, [inner])
        block, end = self.items()
        if not isinstance(end, nodes.End):
            self.cursor.fail(f"expected end; found {end}")
        return block

    def else_(self, token: Token) -> nodes.Node:
        following = self.cursor.peek_word()
        if following.kind in (Kind.IF, Kind.WITH):
            return nodes.Else(following.position, following.value)
        return nodes.Else(self.cursor.expect((Kind.RIGHT_DELIM,), "else").position)

    def end(self, token: Token) -> nodes.Node:
        return nodes.End(self.cursor.expect((Kind.RIGHT_DELIM,), "end").position)

    def leave(self, token: Token) -> nodes.Node:
        """`{{break}}` or `{{continue}}`."""
        shown = "{{" + token.value + "}}"
        self.cursor.expect((Kind.RIGHT_DELIM,), shown)
        if not self.ranges:
            self.cursor.fail(f"{shown} outside {{{{range}}}}")
        kind = nodes.Break if token.kind is Kind.BREAK else nodes.Continue
        return kind(token.position)

    def block(self, token: Token) -> nodes.Node:
        context = "block clause"
        name_token = self.cursor.next_word()
        name = self.template_name(name_token, context)
        pipe = self.pipelines.pipeline(context, Kind.RIGHT_DELIM)
        self.own_tree(name, context)
        return nodes.Call(name_token.position, name, pipe)

    def template(self, token: Token) -> nodes.Node:
        context = "template clause"
        name_token = self.cursor.next_word()
        name = self.template_name(name_token, context)
        if self.cursor.next_word().kind is Kind.RIGHT_DELIM:
            return nodes.Call(name_token.position, name, None)
        self.cursor.at -= 1
        return nodes.Call(
            name_token.position, name, self.pipelines.pipeline(context, Kind.RIGHT_DELIM)
        )

    def template_name(self, token: Token, context: str) -> str:
        if token.kind not in (Kind.STRING, Kind.RAW_STRING):
            self.cursor.unexpected(token, context)
        return self.pipelines.string(token)


_CONTROLS = {
    Kind.IF: _Parser.if_,
    Kind.WITH: _Parser.with_,
    Kind.RANGE: _Parser.range_,
    Kind.ELSE: _Parser.else_,
    Kind.END: _Parser.end,
    Kind.BREAK: _Parser.leave,
    Kind.CONTINUE: _Parser.leave,
    Kind.BLOCK: _Parser.block,
    Kind.TEMPLATE: _Parser.template,
}


def _is_empty(tree: nodes.Node) -> bool:
    if isinstance(tree, nodes.Block):
        return all(map(_is_empty, tree.nodes))
    return isinstance(tree, nodes.Text) and not tree.text.strip()
