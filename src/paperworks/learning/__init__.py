"""Learning rules: other ways to train a network than end-to-end back-propagation."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .bidirectional import BidirectionalNet as BidirectionalNet
    from .bidirectional import Discriminator as Discriminator
    from .bidirectional import TiedConv as TiedConv
    from .bidirectional import TiedLinear as TiedLinear
    from .bidirectional import fit_bidirectional as fit_bidirectional
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
    from .spiking import IF as IF
    from .spiking import LIF as LIF
    from .spiking import ConvertedNetwork as ConvertedNetwork
    from .spiking import LeakyReadout as LeakyReadout
    from .spiking import SpikingConvNet as SpikingConvNet
    from .spiking import SpikingMLP as SpikingMLP
    from .spiking import STDPNetwork as STDPNetwork
    from .spiking import Synaptic as Synaptic
    from .spiking import convert_to_spiking as convert_to_spiking
    from .spiking import side_by_side as side_by_side

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BooleanThresholdClassifier": ".boolean_threshold",
        "BooleanThresholdNetwork": ".boolean_threshold",
        "BoolearnTrainer": ".boolean_threshold",
        "BackpropChain": ".noprop",
        "BidirectionalNet": ".bidirectional",
        "Discriminator": ".bidirectional",
        "MultitaskingHebbian": ".multitasking_hebbian",
        "NoPropCT": ".noprop",
        "NoPropDT": ".noprop",
        "NoPropFM": ".noprop",
        "ConvertedNetwork": ".spiking",
        "IF": ".spiking",
        "LIF": ".spiking",
        "LeakyReadout": ".spiking",
        "STDPNetwork": ".spiking",
        "SpikingConvNet": ".spiking",
        "SpikingMLP": ".spiking",
        "Synaptic": ".spiking",
        "convert_to_spiking": ".spiking",
        "side_by_side": ".spiking",
        "TiedConv": ".bidirectional",
        "TiedLinear": ".bidirectional",
        "dilute_patterns": ".multitasking_hebbian",
        "fit_bidirectional": ".bidirectional",
        "noisy_examples": ".multitasking_hebbian",
    },
)
