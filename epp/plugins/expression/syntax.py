"""Words become an expression: precedence as in CEL, each rule a function that runs later."""

from collections.abc import Collection
from functools import partial
from typing import Final

from epp.plugins.expression.values import (
    FUNCTIONS,
    INTEGERS,
    ORDERS,
    EvaluationError,
    Expression,
    ExpressionError,
    Names,
    Value,
    calculate,
    compare,
    equal,
    field,
    holds,
    negative,
    truth,
)
from epp.plugins.expression.words import Kind, Word, unsupported, words_of

MOST_NESTED: Final = 32
PRECEDENCE: Final = {
    "||": 1,
    "&&": 2,
    **dict.fromkeys([*ORDERS, "==", "!=", "in"], 3),
    "+": 4,
    "-": 4,
    "*": 5,
    "/": 5,
    "%": 5,
}


def compiled(text: str, names: Collection[str]) -> Expression:
    """The expression `text` over values called `names`. Raises ExpressionError."""
    parser = _Parser(words_of(text), names)
    expression = parser.expression()
    parser.expect_end()
    return expression


class _Parser:
    """Descends by precedence; `depth` bounds how far."""

    def __init__(self, words: list[Word], names: Collection[str]) -> None:
        self._words = words
        self._names = names
        self._at = 0
        self._depth = 0

    def expression(self) -> Expression:
        """`a ? b : c`, or what binds closer."""
        self._depth += 1
        if self._depth > MOST_NESTED:
            raise ExpressionError(f"is nested more than {MOST_NESTED} deep")
        condition = self._binary(1)
        if self._takes("?"):
            yes = self._binary(1)
            self._expect(":")
            condition = partial(_choice, condition, yes, self.expression())
        self._depth -= 1
        return condition

    def expect_end(self) -> None:
        if self._next.kind is not Kind.END:
            raise self._unexpected()

    @property
    def _next(self) -> Word:
        return self._words[self._at]

    def _binary(self, least: int) -> Expression:
        """Operators that bind at least so close; of equal ones the left first."""
        left = self._unary()
        while (binds := self._binding()) >= least:
            sign = self._take().text
            left = _operation(sign, left, self._binary(binds + 1))
        return left

    def _binding(self) -> int:
        word = self._next
        return PRECEDENCE.get(word.text, 0) if word.kind is Kind.SIGN else 0

    def _unary(self) -> Expression:
        signs = []
        while self._next.kind is Kind.SIGN and self._next.text in ("!", "-"):
            signs.append(self._take().text)
        value = self._member()
        for sign in reversed(signs):
            value = partial(_negated if sign == "!" else _negative, value)
        return value

    def _member(self) -> Expression:
        value = self._primary()
        while True:
            if self._takes("."):
                name = self._take(Kind.NAME)
                if self._next.text == "(":
                    raise unsupported(f"the method {name.text}()", name.column)
                value = partial(_selected, value, name.text)
            elif self._takes("["):
                value = partial(_indexed, value, self.expression())
                self._expect("]")
            else:
                return value

    def _primary(self) -> Expression:
        word = self._next
        if word.kind is Kind.VALUE:
            return partial(_constant, self._take().value)
        if word.kind is Kind.NAME:
            return self._called(self._take())
        if self._takes("("):
            value = self.expression()
            self._expect(")")
            return value
        if word.kind is Kind.SIGN and word.text in ("[", "{"):
            raise unsupported("a list" if word.text == "[" else "a map", word.column)
        raise self._unexpected()

    def _called(self, word: Word) -> Expression:
        if self._takes("("):
            return self._function(word)
        if word.text not in self._names:
            known = ", ".join(sorted(self._names))
            raise ExpressionError(f"column {word.column}: unknown name {word.text!r}; use {known}")
        return partial(_named, word.text)

    def _function(self, word: Word) -> Expression:
        if word.text != "has" and word.text not in FUNCTIONS:
            raise unsupported(f"the function {word.text}()", word.column)
        argument = self.expression()
        self._expect(")")
        if word.text != "has":
            return partial(_applied, word.text, argument)
        if not isinstance(argument, partial) or argument.func is not _selected:
            raise ExpressionError(f"column {word.column}: has() takes a field, such as has(a.b)")
        of, name = argument.args
        return partial(_present, of, partial(_constant, name))

    def _take(self, kind: Kind | None = None) -> Word:
        word = self._next
        if kind is not None and word.kind is not kind:
            raise self._unexpected()
        self._at += 1
        return word

    def _takes(self, sign: str) -> bool:
        word = self._next
        found = word.kind is Kind.SIGN and word.text == sign
        self._at += found
        return found

    def _expect(self, sign: str) -> None:
        if not self._takes(sign):
            raise self._unexpected(f", where {sign!r} should be")

    def _unexpected(self, more: str = "") -> ExpressionError:
        word = self._next
        return ExpressionError(f"column {word.column}: unexpected {word.text}{more}")


def _operation(sign: str, left: Expression, right: Expression) -> Expression:
    match sign:
        case "&&" | "||":
            return partial(_joined, sign, left, right)
        case "==" | "!=":
            return partial(_equality, sign == "==", left, right)
        case "in":
            return partial(_present, right, left)
    return partial(_pair, sign, left, right)


# -- what runs later ------------------------------------------------------------------------------


def _constant(value: Value, names: Names) -> Value:
    return value


def _named(name: str, names: Names) -> Value:
    return field(names, name)


def _selected(of: Expression, name: str, names: Names) -> Value:
    return field(of(names), name)


def _indexed(of: Expression, name: Expression, names: Names) -> Value:
    return field(of(names), name(names))


def _present(of: Expression, name: Expression, names: Names) -> Value:
    return holds(name(names), of(names))


def _applied(function: str, argument: Expression, names: Names) -> Value:
    return FUNCTIONS[function](argument(names))


def _negative(value: Expression, names: Names) -> Value:
    return negative(value(names))


def _negated(value: Expression, names: Names) -> Value:
    return not truth(value(names), "!")


def _choice(condition: Expression, yes: Expression, no: Expression, names: Names) -> Value:
    return yes(names) if truth(condition(names), "?") else no(names)


def _equality(wanted: bool, left: Expression, right: Expression, names: Names) -> Value:
    return equal(left(names), right(names)) is wanted


def _pair(sign: str, left: Expression, right: Expression, names: Names) -> Value:
    operate = calculate if sign in INTEGERS else compare
    return operate(sign, left(names), right(names))


def _joined(sign: str, left: Expression, right: Expression, names: Names) -> Value:
    """`&&` and `||`: a side that settles it does so though the other side comes to nothing."""
    settles = sign == "||"
    try:
        if truth(left(names), sign) is settles:
            return settles
    except EvaluationError:
        if truth(right(names), sign) is settles:
            return settles
        raise
    return truth(right(names), sign)
