"""The README's table: every paper's claim, what was measured of it, and which control it fails."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from paperworks.lab.results import Recorded

from .answer import controls_that, overall
from .forest import effect_text, interval_text


def readme_table(papers: Iterable[Any], results: Mapping[str, Any]) -> str:
    """A markdown table of `papers` (or their cards) and their recorded `results`, slug -> result."""
    lines = [
        "| paper | claim | verdict | effect [95 % interval] | seeds | controls failed |",
        "|---|---|---|---|--:|---|",
    ]
    for paper in papers:
        card = card_of(paper)
        verdicts = (result_of(results, card.slug) or {}).get("verdicts") or []
        lead = overall(verdicts)
        paper_cell = f"[{_cell(card.title)}](https://arxiv.org/abs/{_address(card.arxiv)}) `{card.slug}`"
        if lead is None:
            lines.append(f"| {paper_cell} | {_cell(card.claim)} | not measured yet | | | |")
            continue
        again = _superseded(paper) + _confirmed(results.get(card.slug), lead)
        effect = f"{effect_text(lead['scale'], lead['effect'])} [{interval_text(lead['scale'], lead['interval'])}]"
        failed = "; ".join(_cell(claim) for claim in controls_that(verdicts, "not supported")) or _none(verdicts)
        lines.append(
            f"| {paper_cell} | {_cell(card.claim)} | {lead['status']}{again} | {_cell(lead['metric'])} {effect} "
            f"| {lead['seeds']} | {failed} |"
        )
    return "\n".join(lines) + "\n"


def _superseded(paper: Any) -> str:
    """Says so where a record replaced an earlier one, whose rows are kept beside it and whose card tells why."""
    folder = getattr(paper, "folder", None)
    return " (second recording)" if folder and (folder / "results" / "laptop_superseded.json").is_file() else ""


def _confirmed(found: Any, lead: Mapping[str, Any]) -> str:
    """What the same claim came to on seeds that no earlier run had seen."""
    again = found.confirmed(lead["study"], lead["claim"]) if isinstance(found, Recorded) else None
    return f"; on fresh seeds: {again['status']}" if again else ""


def _none(verdicts: Iterable[Mapping[str, Any]]) -> str:
    """What stands where no control has failed."""
    states = [verdict["status"] for verdict in verdicts if verdict["kind"] == "control"]
    undecided = states.count("inconclusive")
    return "no control" if not states else f"none; {undecided} undecided" if undecided else "none"


def card_of(paper: Any) -> Any:
    """The card of a paper, or the card itself."""
    return getattr(paper, "card", paper)


def result_of(results: Mapping[str, Any], slug: str) -> Mapping[str, Any] | None:
    """A paper's result object out of recorded results or plain ones."""
    found = results.get(slug)
    return getattr(found, "result", found)


def _cell(text: str) -> str:
    """Text in a cell of a markdown table, none of it markup."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|#])", lambda found: {"<": "&lt;", ">": "&gt;"}.get(found[1], "\\" + found[1]), line)


def _address(arxiv: str) -> str:
    return re.sub(r"[^\w./-]", "", arxiv)
