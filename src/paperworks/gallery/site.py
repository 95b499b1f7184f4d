"""The gallery: a static site of all papers, and the README's table."""

import http.server
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from paperworks.errors import PaperworksError
from paperworks.lab import Paper
from paperworks.lab.files import write_text
from paperworks.lab.results import Recorded
from paperworks.lab.verdict import number

from .pages import environment, markdown_to_html
from .report import answer, leading, render_report

ORDER = ("supported", "not supported", "inconclusive")


def build_gallery(papers: Sequence[Paper], results: Mapping[str, Recorded], folder: Path) -> Path:
    """Write the site into `folder`; returns the path of its index.

    Raises:
        PaperworksError: the folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise PaperworksError(f"{folder} is a file; give a folder with --build")
    entries = [_entry(paper, results[paper.slug]) for paper in papers]
    template = environment().get_template("index.html.j2")
    fields = dict(sorted(Counter(entry["card"].field for entry in entries).items()))
    write_text(folder / "index.html", template.render(entries=entries, fields=fields))
    for paper, entry in zip(papers, entries, strict=True):
        recorded = results[paper.slug]
        page = environment().get_template("paper.html.j2")
        text = markdown_to_html(paper.card.render(recorded))
        has_report = recorded.result is not None
        write_text(folder / paper.slug / "index.html", page.render(**entry, text=text, has_report=has_report))
        if recorded.result is not None:
            report = render_report(recorded.result, paper.card, home="../index.html")
            write_text(folder / paper.slug / "report.html", report)
    return folder / "index.html"


def _entry(paper: Paper, recorded: Recorded) -> dict[str, Any]:
    verdicts = (recorded.result or {}).get("verdicts", [])
    return {
        "card": paper.card,
        "verdicts": verdicts,
        "lead": leading(verdicts),
        "answer": answer(verdicts) if verdicts else None,
        "badges": _badges(verdicts),
    }


def _badges(verdicts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many claims of each kind ended how."""
    badges = []
    for kind in ("headline", "mechanism", "control"):
        found = Counter(v["status"] for v in verdicts if v["kind"] == kind)
        badges += [{"kind": kind, "status": status, "count": found[status]} for status in ORDER if found[status]]
    return badges


def readme_table(papers: Sequence[Paper], results: Mapping[str, Recorded]) -> str:
    """Markdown: one line a paper with its measured headline verdict and the controls that it fails."""
    lines = [
        "| paper | claim | verdict | effect (95 % interval) | seeds | controls not passed |",
        "|---|---|---|---|--:|---|",
    ]
    for paper in papers:
        verdicts = (results[paper.slug].result or {}).get("verdicts", [])
        lead = leading(verdicts)
        name = f"[{paper.slug}](https://arxiv.org/abs/{paper.card.arxiv})"
        claim = _cell(paper.card.claim)
        if lead is None:
            lines.append(f"| {name} | {claim} | not measured yet | | | |")
            continue
        unit = " times" if lead["scale"] == "ratio" else ""
        ends = lead["interval"]
        effect = f"{number(lead['effect'])}{unit}" + (f" ({number(ends[0])} to {number(ends[1])})" if ends else "")
        controls = [_cell(v["claim"]) for v in verdicts if v["kind"] == "control" and v["status"] != "supported"]
        status = f"**{lead['status']}**"
        lines.append(f"| {name} | {claim} | {status} | {effect} | {lead['seeds']} | {'; '.join(controls) or 'none'} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def serve(folder: Path, port: int = 8000) -> None:
    """Show the site on this machine only, until interrupted.

    Raises:
        PaperworksError: the port is taken.
    """
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise PaperworksError(f"port {port}: {error.strerror}; give another with --port") from error
    print(f"http://127.0.0.1:{server.server_port}/  (stop with Ctrl-C)")
    with server:
        server.serve_forever()
