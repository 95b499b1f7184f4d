"""The expressions in a card: recorded results as text, in a template language with nothing else in it."""

from collections.abc import Mapping
from typing import Any

from jinja2.sandbox import SandboxedEnvironment

from paperworks.errors import CardError

from .results import Recorded
from .verdict import number

NOT_MEASURED = "not measured yet"


class View:
    """A recorded object whose fields an expression may read."""

    def __init__(self, fields: Mapping[str, Any] | None):
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return None if self._fields is None else self._fields.get(name)

    def __str__(self) -> str:
        return NOT_MEASURED if self._fields is None else str(self._fields.get("sentence") or "")


class _Environment(SandboxedEnvironment):
    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "**", "%"])
    intercepted_unops = frozenset(["+", "-"])

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return isinstance(obj, View) and not attr.startswith("_")

    def is_safe_callable(self, obj: Any) -> bool:
        return getattr(obj, "_in_cards", False)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        raise CardError(f"'{operator}' is not available in a card; write a study metric instead")

    def call_unop(self, context: Any, operator: str, arg: Any) -> Any:
        raise CardError(f"'{operator}' is not available in a card")


def fill(text: str, results: Recorded | None) -> str:
    """`text` with its `{{ ... }}` filled in; statements (`{% ... %}`) are refused."""
    if "{%" in text or "{#" in text:
        raise CardError("only {{ expressions }} are allowed in a card")
    known = results or Recorded(None)
    environment = _Environment(autoescape=False, keep_trailing_newline=True, finalize=_finalize)
    environment.filters = {
        "times": _times,
        "percent": _percent,
        "points": _points,
        "number": _digits,
        "sentence": str,
        "interval": _interval,
        "seconds": _seconds,
    }
    environment.globals = {}
    environment.tests = {}
    functions = {
        "verdict": lambda study, which=0: View(known.verdict(study, which)),
        "mean": known.mean,
        "cost": known.cost,
        "parity": lambda: View(_parity(known.parity)),
        "setting": lambda study, name: ((known.study(study) or {}).get("settings") or {}).get(name),
        "tuned": lambda study, arm, name: ((known.study(study) or {}).get("arm_settings", {}).get(arm) or {}).get(name),
        "environment": lambda name: ((known.result or {}).get("environment") or {}).get(name),
        "run": lambda name: (known.result or {}).get(name),
    }
    return environment.from_string(text).render({name: _allowed(function) for name, function in functions.items()})


def _allowed(function: Any) -> Any:
    def call(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    call._in_cards = True  # type: ignore[attr-defined]
    return call


def _finalize(value: Any) -> Any:
    return NOT_MEASURED if value is None else value


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
    ends = view.interval if isinstance(view, View) else view
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
