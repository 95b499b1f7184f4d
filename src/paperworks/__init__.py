"""paperworks: machine-learning papers that work.

import paperworks as pw
report = pw.run("deeponet", budget="laptop", seeds=5)
report.verdicts[0].status, report.verdicts[0].effect, report.verdicts[0].interval
"""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from paperworks.lab import Report as Report
    from paperworks.lab import find_paper as find_paper
    from paperworks.lab import find_papers as find_papers
    from paperworks.lab import run as run

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Report": "paperworks.lab",
        "find_paper": "paperworks.lab",
        "find_papers": "paperworks.lab",
        "run": "paperworks.lab",
    },
)
