"""Write the README's table of papers from the recorded results; `--check` only tells whether it is up to date."""

import re
import sys
from pathlib import Path

from paperworks.gallery import readme_table
from paperworks.lab import find_papers, recorded

README = Path(__file__).parents[1] / "README.md"
MARKS = "<!-- table: written by scripts/readme.py -->", "<!-- end of table -->"


def main() -> None:
    """Replace what stands between the marks."""
    papers = list(find_papers().values())
    table = readme_table(papers, {paper.slug: recorded(paper) for paper in papers})
    text = README.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(MARKS[0]) + ".*?" + re.escape(MARKS[1]), re.DOTALL)
    if not pattern.search(text):
        sys.exit(f"README.md lacks the marks {MARKS}")
    written = pattern.sub(lambda _: f"{MARKS[0]}\n{table.strip()}\n{MARKS[1]}", text)
    if "--check" in sys.argv:
        sys.exit(0 if written == text else "README.md's table is not that of the recorded results: run make readme")
    README.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
