"""Learning rules: other ways to train a network than end-to-end back-propagation."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .boolean_threshold import BooleanThresholdClassifier as BooleanThresholdClassifier
    from .boolean_threshold import BooleanThresholdNetwork as BooleanThresholdNetwork
    from .boolean_threshold import BoolearnTrainer as BoolearnTrainer
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
        "BooleanThresholdClassifier": ".boolean_threshold",
        "BooleanThresholdNetwork": ".boolean_threshold",
        "BoolearnTrainer": ".boolean_threshold",
        "BackpropChain": ".noprop",
        "MultitaskingHebbian": ".multitasking_hebbian",
        "NoPropCT": ".noprop",
        "NoPropDT": ".noprop",
        "NoPropFM": ".noprop",
        "dilute_patterns": ".multitasking_hebbian",
        "noisy_examples": ".multitasking_hebbian",
    },
)
