"""The gallery: a static site of all papers that works from a folder, without a network or a server."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from paperworks.errors import CardError, PaperworksError
from paperworks.lab.expressions import render
from paperworks.lab.files import write_text
from paperworks.lab.results import Recorded

from .answer import controls_sentence, overall
from .compared import write_comparison
from .forest import effect_text, interval_text
from .pages import markdown, page
from .readme import card_of, result_of
from .report import claim_view, write_report

RANK = {"supported": 0, "inconclusive": 1, "not supported": 2, None: 3}


def build_gallery(
    papers: Iterable[Any],
    results: Mapping[str, Any],
    folder: Path | str,
    comparisons: Iterable[Mapping[str, Any]] = (),
) -> Path:
    """Write the site of `papers` (or their cards) with their recorded `results`, slug -> result; its index page.

    Args:
        comparisons: results of `paperworks compare`, a page each.

    Raises:
        PaperworksError: the folder cannot be written.
    """
    folder = Path(folder)
    entries = []
    for paper in papers:
        card = card_of(paper)
        found = results.get(card.slug)
        result = result_of(results, card.slug)
        known = found if isinstance(found, Recorded) else Recorded(result)
        entry = _entry(card, result)
        room = folder / card.slug
        if result is not None:
            write_report(result, card, room / "report.html", home="index.html")
        try:
            body = markdown(render(card, known))
        except CardError as error:
            body = markdown(f"The card's text could not be filled in:\n\n    {error}")
        claims = [claim_view(verdict) for verdict in (result or {}).get("verdicts") or []]
        confirmed = [claim_view(verdict) for verdict in (known.confirmation or {}).get("verdicts") or []]
        command = (known.confirmation or {}).get("command", "")
        content = {"body": body, "claims": claims, "confirmed": confirmed, "confirm_command": command}
        write_text(room / "index.html", page("paper.html.j2", **content, **entry))
        entries.append(entry)
    fields = sorted({entry["card"].field for entry in entries})
    counts = {name: sum(entry["card"].field == name for entry in entries) for name in fields}
    index = folder / "index.html"
    measured = sum(entry["lead"] is not None for entry in entries)
    side_by_side = [_compared(result, folder) for result in comparisons]
    content = {"entries": entries, "fields": counts, "measured": measured, "comparisons": side_by_side}
    write_text(index, page("index.html.j2", **content))
    return index


def _compared(result: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write a comparison's page; what the index says of it."""
    told = result["comparison"]
    task, equal = Path(told["task"]).stem, told["equal"]
    place = f"compare-{told['field']}/{task}-{equal}.html"
    write_comparison(result, folder / place, home="../index.html")
    words = "parameters" if equal == "parameters" else "training time"
    return {"page": place, "title": f"{told['field']} on {task}, at equal {words}", "sentence": told["sentence"]}


def _entry(card: Any, result: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the index and the paper's page show of a paper."""
    verdicts = list((result or {}).get("verdicts") or [])
    lead = overall(verdicts)
    kinds = ("headline", "mechanism", "control")
    words = [card.title, card.slug, card.field, card.idea, card.claim, card.arxiv, str(card.year), *card.tags]
    return {
        "card": card,
        "title": card.title,
        "result": result,
        "lead": lead,
        "status": lead["status"] if lead else None,
        "rank": RANK[lead["status"] if lead else None],
        "effect": effect_text(lead["scale"], lead["effect"]) if lead else "",
        "interval": interval_text(lead["scale"], lead["interval"]) if lead else "",
        "controls": controls_sentence(verdicts) if verdicts else "",
        "badges": [
            {"kind": kind, "held": sum(v["status"] == "supported" for v in own), "all": len(own)}
            for kind in kinds
            if (own := [verdict for verdict in verdicts if verdict["kind"] == kind])
        ],
        "words": " ".join(words).lower(),
    }


def serve(folder: Path | str, port: int = 8000) -> None:
    """Show a built gallery at http://127.0.0.1:`port`, to this machine alone, until interrupted.

    Raises:
        PaperworksError: the folder holds no gallery, or the port is taken.
    """
    server = server_of(folder, port)
    print(f"http://127.0.0.1:{server.server_address[1]}/  (Ctrl-C stops)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def server_of(folder: Path | str, port: int = 0) -> Any:
    """The server of `serve`, not yet running; port 0 takes a free one."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    folder = Path(folder)
    if not (folder / "index.html").is_file():
        raise PaperworksError(f"{folder} holds no index.html; build it first: paperworks gallery --build {folder}")
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(folder)))
    except OSError as error:
        raise PaperworksError(f"port {port} cannot be used ({error.strerror}); choose another with --port") from error
