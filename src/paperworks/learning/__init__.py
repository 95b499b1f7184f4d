"""Learning rules: other ways to train a network than end-to-end back-propagation."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .noprop import BackpropChain as BackpropChain
    from .noprop import NoPropCT as NoPropCT
    from .noprop import NoPropDT as NoPropDT
    from .noprop import NoPropFM as NoPropFM

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, {name: ".noprop" for name in ("BackpropChain", "NoPropCT", "NoPropDT", "NoPropFM")}
)
