"""`make bench`: run every benchmark of this folder and print the table of speed ratios; `run.py SLUG...` only these.

Each benchmark module offers `run(rounds) -> rows`; a row is {name, ours_ms, peer_ms, ratio, ratio_low95,
ratio_high95, rounds, peer, peer_version} where ratio is the peer's time over ours, or says why it could not be
measured. Results go to `results/<slug>.json`.
"""

import argparse
import importlib
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def main() -> None:
    """Run and write."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if "\ndef run(" in path.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slugs", nargs="*", help=f"of {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    unknown = set(options.slugs) - set(names)
    if unknown:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    sys.path.insert(0, str(FOLDER))
    everything = {}
    for name in options.slugs or names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows = importlib.import_module(name).run(options.rounds)
        everything[name] = rows
        result = {"slug": name, "rows": rows, "environment": environment()}
        (FOLDER / "results").mkdir(exist_ok=True)
        (FOLDER / "results" / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(everything))


def environment() -> dict[str, str]:
    """Versions and machine."""
    return {"torch": version("torch"), "python": platform.python_version(), "machine": platform.machine()}


def table(everything: dict[str, list[dict[str, Any]]]) -> str:
    """Ratios as markdown."""
    lines = [
        "| paper | what | ours ms | peer ms | peer / ours | 95 % | rounds | peer |",
        "|---|---|--:|--:|--:|---|--:|---|",
    ]
    for slug, rows in everything.items():
        for row in rows:
            peer = f"{row.get('peer', '')} {row.get('peer_version') or ''}".strip()
            if row.get("ratio") is None:
                lines.append(f"| {slug} | {row['name']} | | | | {row.get('why', 'not measured')} | | {peer} |")
                continue
            bounds = f"{row['ratio_low95']:.2f} to {row['ratio_high95']:.2f}"
            times = f"{row['ours_ms']:.3g} | {row['peer_ms']:.3g} | {row['ratio']:.2f}"
            lines.append(f"| {slug} | {row['name']} | {times} | {bounds} | {row['rounds']} | {peer} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
