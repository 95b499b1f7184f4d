"""The answer in words: which verdict stands for the paper's claim, and what its controls say. Loads nothing heavy."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .figures import clean


def overall(verdicts: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The verdict that answers the paper's claim: of the headline claims the weakest; None where there is none."""
    found = list(verdicts)
    headlines = [verdict for verdict in found if verdict["kind"] == "headline"] or found
    for status in ("not supported", "inconclusive", "supported"):
        for verdict in headlines:
            if verdict["status"] == status:
                return verdict
    return None


def controls_that(verdicts: Iterable[Mapping[str, Any]], status: str) -> list[str]:
    """The control claims with this verdict; with their study's name where there are several studies."""
    found = list(verdicts)
    several = len({verdict.get("study") for verdict in found}) > 1
    return [
        (f"{verdict['study']}: " if several else "") + verdict["claim"]
        for verdict in found
        if verdict["kind"] == "control" and verdict["status"] == status
    ]


def controls_sentence(verdicts: Iterable[Mapping[str, Any]]) -> str:
    """How the method did against what could explain its effect away."""
    verdicts = list(verdicts)
    controls = sum(verdict["kind"] == "control" for verdict in verdicts)
    if not controls:
        return "No control was measured."
    failed, open_ = (controls_that(verdicts, status) for status in ("not supported", "inconclusive"))
    if not failed and not open_:
        all_of_them = {1: "The control holds.", 2: "Both controls hold."}
        return all_of_them.get(controls, f"All {controls} controls hold.")
    told = [f"it fails {_claims(failed)}"] if failed else []
    told += [f"{_claims(open_)} {'is' if len(open_) == 1 else 'are'} undecided"] if open_ else []
    text = "; ".join(told)
    return f"{text[0].upper()}{text[1:]}."


def _claims(claims: Sequence[str]) -> str:
    """Controls by name where a sentence can carry them, else the first and how many more there are."""
    named = [f"“{clean(claim, 120)}”" for claim in claims]
    if len(named) == 1:
        return f"the control {named[0]}"
    if len(named) == 2:
        return f"the controls {named[0]} and {named[1]}"
    return f"{len(named)} controls, among them {named[0]}"


def headlines_sentence(verdicts: Iterable[Mapping[str, Any]]) -> str:
    """How many headline claims hold; nothing where there is one."""
    headlines = [verdict for verdict in verdicts if verdict["kind"] == "headline"]
    held = sum(verdict["status"] == "supported" for verdict in headlines)
    if len(headlines) < 2:
        return ""
    if held == len(headlines):
        return f"All {held} headline claims hold; the first:"
    return f"{held} of {len(headlines)} headline claims hold; one that does not:"
