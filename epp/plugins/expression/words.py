"""The text of an expression as words: names, numbers, texts and signs, each with its column."""

import enum
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from epp.plugins.expression.values import LARGEST_INT, ExpressionError, Value

MOST_CHARACTERS: Final = 4096
MOST_WORDS: Final = 400


class Kind(enum.Enum):
    """What a word is."""

    NAME = "name"
    VALUE = "value"
    SIGN = "sign"
    END = "end"


class Word(NamedTuple):
    """One word; `value` of a number or text, `column` from 1."""

    kind: Kind
    text: str
    column: int
    value: Value = None


CONSTANTS: Final = {"true": True, "false": False, "null": None}
_RESERVED: Final = "as break const continue else for function if import let loop package namespace"
RESERVED: Final = frozenset([*_RESERVED.split(), "return", "var", "void", "while"])
ESCAPES: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    **{sign: sign for sign in "\\?\"'`"},
}

_WORD: Final = re.compile(
    r"""
    (?P<space>[ \t\n\f\r]+ | //[^\n]*)
  | (?P<prefixed>[bBrR]{1,2}["'] | \"\"\" | ''')
  | (?P<double>(?:\d+\.\d+(?:[eE][+-]?\d+)? | \d+[eE][+-]?\d+ | \.\d+(?:[eE][+-]?\d+)?))
  | (?P<int>(?:0x[0-9a-fA-F]+ | \d+)(?P<unsigned>[uU])?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<text>"(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*')
  | (?P<sign>&& | \|\| | [<>=!]= | [-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE | re.ASCII,
)
_ESCAPE: Final = re.compile(r"\\(.)")


def words_of(text: str) -> list[Word]:
    """All words, and the end. Raises ExpressionError."""
    if len(text) > MOST_CHARACTERS:
        raise ExpressionError(f"has {len(text)} characters; at most {MOST_CHARACTERS}")
    words = list(_words(text))
    if len(words) > MOST_WORDS:
        raise ExpressionError(f"has {len(words)} words; at most {MOST_WORDS}")
    return [*words, Word(Kind.END, "its end", len(text) + 1)]


def _words(text: str) -> Iterator[Word]:
    at = 0
    while at < len(text):
        found = _WORD.match(text, at)
        if found is None:
            raise ExpressionError(f"column {at + 1}: unexpected {text[at]!r}")
        if found.lastgroup != "space":
            yield _word(found, at + 1)
        at = found.end()


def _word(found: re.Match[str], column: int) -> Word:
    text = found.group()
    if found["prefixed"]:
        raise unsupported("bytes, raw and multi-line texts", column)
    if found["unsigned"]:
        raise unsupported("an unsigned number", column)
    if found["double"]:
        return Word(Kind.VALUE, text, column, float(text))
    if found["int"]:
        return Word(Kind.VALUE, text, column, _int(text, column))
    if found["text"]:
        return Word(Kind.VALUE, text, column, _unescaped(text[1:-1], column))
    if found["sign"]:
        return Word(Kind.SIGN, text, column)
    return _named(text, column)


def _named(text: str, column: int) -> Word:
    if text in CONSTANTS:
        return Word(Kind.VALUE, text, column, CONSTANTS[text])
    if text in RESERVED:
        raise ExpressionError(f"column {column}: {text!r} is a reserved word")
    return Word(Kind.SIGN if text == "in" else Kind.NAME, text, column)


def _int(text: str, column: int) -> int:
    number = int(text, 16 if text.startswith("0x") else 10)
    if number > LARGEST_INT:
        raise ExpressionError(f"column {column}: {text} does not fit into 64 bits")
    return number


def _unescaped(text: str, column: int) -> str:
    def plain(found: re.Match[str]) -> str:
        if found[1] not in ESCAPES:
            raise unsupported(f"the escape \\{found[1]}", column)
        return ESCAPES[found[1]]

    return _ESCAPE.sub(plain, text)


def unsupported(what: str, column: int) -> ExpressionError:
    """The error that names a part of CEL that is not offered."""
    return ExpressionError(f"column {column}: {what} is not supported here")
