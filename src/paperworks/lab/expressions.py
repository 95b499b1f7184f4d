"""The expressions in a card: `{{ mean("digits", "mlp", "acc") | percent }}`, filled in from recorded results.

The language is what its evaluator below knows: calls of the functions listed in `fill` with constant arguments, the
fields of a verdict, and filters. There is nothing else, so a card from someone else cannot run code, loop or allocate.
"""

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

from paperworks.errors import CardError

from .card import Card
from .results import Recorded
from .verdict import number

NOT_MEASURED = "not measured yet"
LONGEST = 500  # characters of one expression


class View:
    """A recorded object whose fields an expression may read."""

    def __init__(self, fields: Mapping[str, Any] | None):
        self.fields = fields

    def __str__(self) -> str:
        return NOT_MEASURED if self.fields is None else str(self.fields.get("sentence") or "")


def render(card: Card, results: Recorded | None = None) -> str:
    """A card's body as markdown with its expressions filled in from `results`.

    Raises:
        CardError: an expression does not parse, or asks for more than recorded results.
    """
    try:
        return fill(card.body, results)
    except Exception as error:
        raise CardError(f"{card.path}: an expression in the text cannot be filled in: {error}") from error


def fill(text: str, results: Recorded | None) -> str:
    """`text` with its `{{ ... }}` filled in.

    Raises:
        CardError: an expression does not parse, or asks for what there is not.
    """
    if "{%" in text or "{#" in text:
        raise CardError("only {{ expressions }} are allowed in a card")
    known = results or Recorded(None)
    functions: dict[str, Callable[..., Any]] = {
        "verdict": lambda study, which=0: View(known.verdict(study, which)),
        "confirmed": lambda study, which=0: View(known.confirmed(study, which)),
        "mean": known.mean,
        "cost": known.cost,
        "fitted": known.fitted,
        "parity": lambda: View(_parity(known.parity)),
        "setting": lambda study, name: ((known.study(study) or {}).get("settings") or {}).get(name),
        "tuned": lambda study, arm, name: ((known.study(study) or {}).get("arm_settings", {}).get(arm) or {}).get(name),
        "edges": lambda study: _edges((known.study(study) or {}).get("tuning")),
        "environment": lambda name: ((known.result or {}).get("environment") or {}).get(name),
        "run": lambda name: (known.result or {}).get(name),
    }
    return re.sub(r"\{\{(.*?)\}\}", lambda found: _filled(found[1], functions), text, flags=re.DOTALL)


def _filled(expression: str, functions: Mapping[str, Callable[..., Any]]) -> str:
    if len(expression) > LONGEST:
        raise CardError(f"an expression of {len(expression)} characters; at most {LONGEST}")
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body, functions)
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise CardError(f"'{expression.strip()[:80]}': {error}") from error
    return NOT_MEASURED if value is None else str(value)


def _value(node: ast.expr, functions: Mapping[str, Callable[..., Any]]) -> Any:
    """Constants; calls of known functions; fields of what they give; `value | filter` and `value | filter(digits)`."""
    match node:
        case ast.Constant(value=str() | int() | float() | None as constant):
            return constant
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in functions:
            options = {str(k.arg): _value(k.value, functions) for k in keywords}
            return functions[name](*(_value(arg, functions) for arg in args), **options)
        case ast.Attribute(value=inner, attr=name):
            view = _value(inner, functions)
            if isinstance(view, View) and not name.startswith("_"):
                return None if view.fields is None else view.fields.get(name)
        case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Name(id=name)) if name in FILTERS:
            return FILTERS[name](_value(left, functions))
        case ast.BinOp(
            left=left, op=ast.BitOr(), right=ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=int(n))])
        ) if name in FILTERS and 0 <= n <= 20:
            return FILTERS[name](_value(left, functions), n)
    known = ", ".join([*functions, *(f"| {name}" for name in FILTERS)])
    raise CardError(f"'{ast.unparse(node)[:80]}' is not available in a card; there are {known}")


def _edges(tuning: Mapping[str, Any] | None) -> str | None:
    """Which arms' tuned values lie at an end of the grid, in words."""
    if not tuning:
        return None
    ends: dict[tuple[str, str, str], list[str]] = {}
    for edge in tuning.get("edges") or []:
        if found := re.fullmatch(r"(.+): (\w+)=(\S+) is the (\w+) of the grid", edge):
            ends.setdefault((found[4], found[2], found[3]), []).append(found[1])
    told = []
    for (side, name, value), arms in ends.items():
        listed = f"{', '.join(arms[:-1])} and {arms[-1]}" if len(arms) > 1 else arms[0]
        told.append(f"the {side} {name} of the grid, {value}, was chosen for {listed}")
    return "; ".join(told) or "no arm's choice lies at an end of the grid"


def _digits(value: Any, digits: int = 3) -> str:
    if value is None:
        return NOT_MEASURED
    if digits == 3:
        return number(float(value))
    return f"{float(value):.{digits}g}"


def _times(value: Any) -> str:
    return NOT_MEASURED if value is None else f"{number(float(value))} times"


def _percent(value: Any, decimals: int = 1) -> str:
    return NOT_MEASURED if value is None else f"{100 * float(value):.{decimals}f} %"


def _points(value: Any, decimals: int = 1) -> str:
    return NOT_MEASURED if value is None else f"{100 * float(value):+.{decimals}f} points"


def _seconds(value: Any) -> str:
    return NOT_MEASURED if value is None else f"{float(value):.0f} s"


def _interval(view: Any) -> str:
    ends = (view.fields or {}).get("interval") if isinstance(view, View) else view
    if not ends:
        return NOT_MEASURED
    return f"{number(ends[0])} to {number(ends[1])}"


def _parity(parity: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if parity is None:
        return None
    cases = parity.get("cases") or []
    errors = [case["max_relative_error"] for case in cases if case.get("max_relative_error") is not None]
    worst = max(errors) if errors else None
    sentence = (
        f"Over {len(cases)} cases with all weights randomised, the largest relative difference from "
        f"{parity.get('official')} at commit {str(parity.get('commit'))[:10]} is {number(worst)}."
    )
    return {**parity, "worst": worst, "count": len(cases), "sentence": sentence}


FILTERS: dict[str, Callable[..., str]] = {
    "times": _times,
    "percent": _percent,
    "points": _points,
    "number": _digits,
    "sentence": str,
    "interval": _interval,
    "seconds": _seconds,
}
