"""DeepONet (arXiv 1910.03193): an operator as the product of a branch net on u and a trunk net on y."""

from .model import FNN, DeepONet, MIONet, PODDeepONet, deeponet_antiderivative

__all__ = ["FNN", "DeepONet", "MIONet", "PODDeepONet", "deeponet_antiderivative"]
