"""How results are shown: reports of runs, fits and comparisons, the web gallery of all papers, the README's table."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .compared import write_comparison as write_comparison
    from .fitted import write_fit_report as write_fit_report
    from .readme import readme_table as readme_table
    from .report import write_report as write_report
    from .site import build_gallery as build_gallery
    from .site import serve as serve

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "build_gallery": ".site",
        "readme_table": ".readme",
        "serve": ".site",
        "write_comparison": ".compared",
        "write_fit_report": ".fitted",
        "write_report": ".report",
    },
)
