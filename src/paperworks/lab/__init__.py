"""How any paper is run: card, study, trial, claims, verdict, ledger, executors. The lab knows no paper."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .card import Card as Card
    from .card import load_card as load_card
    from .claims import Beats as Beats
    from .claims import NotWorse as NotWorse
    from .claims import Reaches as Reaches
    from .claims import Scales as Scales
    from .comparison import compare as compare
    from .discover import Paper as Paper
    from .discover import find_paper as find_paper
    from .discover import find_papers as find_papers
    from .ledger import Ledger as Ledger
    from .results import recorded as recorded
    from .running import Report as Report
    from .running import run as run
    from .study import Study as Study
    from .study import Trial as Trial
    from .verdict import Verdict as Verdict
    from .wings import Comparison as Comparison

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Beats": ".claims",
        "Card": ".card",
        "Comparison": ".wings",
        "Ledger": ".ledger",
        "NotWorse": ".claims",
        "Paper": ".discover",
        "Reaches": ".claims",
        "Report": ".running",
        "Scales": ".claims",
        "Study": ".study",
        "Trial": ".study",
        "Verdict": ".verdict",
        "compare": ".comparison",
        "find_paper": ".discover",
        "find_papers": ".discover",
        "load_card": ".card",
        "recorded": ".results",
        "run": ".running",
    },
)
