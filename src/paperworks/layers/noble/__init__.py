"""NOBLE (arXiv 2603.06492): nonlinear low-rank branches on the linear layers of transformers."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .branch import NONLINEARITIES as NONLINEARITIES
    from .branch import CosActivation as CosActivation
    from .branch import CosNet as CosNet
    from .branch import MixedNet as MixedNet
    from .branch import branch_nonlinearity as branch_nonlinearity
    from .convert import NobleReport as NobleReport
    from .convert import ProjectedAttention as ProjectedAttention
    from .convert import add_noble as add_noble
    from .convert import branch_shares as branch_shares
    from .convert import noble_overhead as noble_overhead
    from .gpt import NobleGPT as NobleGPT
    from .model import NobleLinear as NobleLinear
    from .model import lr_multiplier_groups as lr_multiplier_groups
    from .model import noble_layers as noble_layers

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "CosActivation": ".branch",
        "CosNet": ".branch",
        "MixedNet": ".branch",
        "NONLINEARITIES": ".branch",
        "NobleGPT": ".gpt",
        "NobleLinear": ".model",
        "NobleReport": ".convert",
        "ProjectedAttention": ".convert",
        "add_noble": ".convert",
        "branch_nonlinearity": ".branch",
        "branch_shares": ".convert",
        "lr_multiplier_groups": ".model",
        "noble_layers": ".model",
        "noble_overhead": ".convert",
    },
)
