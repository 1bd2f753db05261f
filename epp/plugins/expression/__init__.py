"""Expressions in a part of CEL (the Common Expression Language): text in, a function out.

`compiled` answers what an expression comes to for named values; nothing is looked up elsewhere,
nothing loops, and both length and nesting are bounded. The part is what sums over token counts
need: numbers, texts, fields, arithmetic, comparison, `&& || !`, `? :`, `in`, `has`, `size`, `int`
and `double`. Anything else is refused by its name. Open `syntax.py` first.
"""

from epp.plugins.expression.syntax import compiled
from epp.plugins.expression.values import (
    EvaluationError,
    Expression,
    ExpressionError,
    Value,
)

__all__ = ["EvaluationError", "Expression", "ExpressionError", "Value", "compiled"]
