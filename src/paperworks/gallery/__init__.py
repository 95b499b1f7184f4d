"""How results are shown: the report of a run, the web gallery of all papers, the README's table."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .readme import readme_table as readme_table
    from .report import write_report as write_report
    from .site import build_gallery as build_gallery
    from .site import serve as serve

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {"build_gallery": ".site", "readme_table": ".readme", "serve": ".site", "write_report": ".report"},
)
