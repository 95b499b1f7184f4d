"""Learning rules: other ways to train a network than end-to-end back-propagation."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .bidirectional import BidirectionalNet as BidirectionalNet
    from .bidirectional import Discriminator as Discriminator
    from .bidirectional import TiedConv as TiedConv
    from .bidirectional import TiedLinear as TiedLinear
    from .bidirectional import fit_bidirectional as fit_bidirectional
    from .multitasking_hebbian import MultitaskingHebbian as MultitaskingHebbian
    from .multitasking_hebbian import dilute_patterns as dilute_patterns
    from .multitasking_hebbian import noisy_examples as noisy_examples
    from .noprop import BackpropChain as BackpropChain
    from .noprop import NoPropCT as NoPropCT
    from .noprop import NoPropDT as NoPropDT
    from .noprop import NoPropFM as NoPropFM

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BackpropChain": ".noprop",
        "BidirectionalNet": ".bidirectional",
        "Discriminator": ".bidirectional",
        "MultitaskingHebbian": ".multitasking_hebbian",
        "NoPropCT": ".noprop",
        "NoPropDT": ".noprop",
        "NoPropFM": ".noprop",
        "TiedConv": ".bidirectional",
        "TiedLinear": ".bidirectional",
        "dilute_patterns": ".multitasking_hebbian",
        "fit_bidirectional": ".bidirectional",
        "noisy_examples": ".multitasking_hebbian",
    },
)
