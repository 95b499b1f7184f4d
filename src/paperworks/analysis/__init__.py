"""Analysis of trained networks: what they compute, how they come to it, and theories to check."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .modular_addition import ModularAdditionMLP as ModularAdditionMLP
    from .modular_addition import ModularTask as ModularTask
    from .modular_addition import construct_exact_solution as construct_exact_solution
    from .modular_addition import fourier_decode as fourier_decode
    from .modular_addition import predict_winner as predict_winner

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ModularAdditionMLP": ".modular_addition",
        "ModularTask": ".modular_addition",
        "construct_exact_solution": ".modular_addition",
        "fourier_decode": ".modular_addition",
        "predict_winner": ".modular_addition",
    },
)
