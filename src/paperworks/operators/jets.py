"""Derivatives of a tanh network in its inputs, without nested automatic differentiation.

First derivatives alone: the gradient in the inputs is one more pass back through the layers, `TanhGradient`, whose own
backward pass is written out. With a second derivative: carried forward beside the values (Taylor mode). A jet is a
tensor (channels, batch, features): the value, then one channel a direction of a first derivative, then, where `second`
is asked for, the second derivative in the first of these directions. Nested
reverse mode gives the same numbers from three graphs; physics-informed losses live on their speed.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from paperworks.nn import MLP


class TanhJet(Function):
    """tanh of a jet a, its bias b added to the value: with y = tanh(a + b) and s = 1 - y^2,

    y' = s a' and y'' = s (a'' - 2 y a'^2). The backward pass is written out too, and cannot be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, jet: Tensor, bias: Tensor) -> Tensor:
        """jet (channels, batch, features), bias (features,) -> as jet."""
        out = torch.empty_like(jet)
        y = torch.tanh(jet[0] + bias, out=out[0])
        slope = torch.addcmul(torch.ones((), dtype=jet.dtype, device=jet.device), y, y, value=-1)
        torch.mul(jet[1:], slope, out=out[1:])
        out[-1].addcmul_(y * out[1], jet[1], value=-2)
        ctx.save_for_backward(jet, out, slope)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Gradients of jet and bias."""
        (grad,) = grads
        jet, out, slope = ctx.saved_tensors
        y = out[0]
        back = grad * slope
        to_y = grad[1] * jet[1]
        for channel in range(2, len(jet)):
            to_y.addcmul_(grad[channel], jet[channel])
        to_y = torch.addcmul(grad[0], to_y, y, value=-2)
        twice = grad[-1] * jet[1]  # g'' a'
        back[1].addcmul_(y * slope, twice, value=-4)
        # -2 a' (1 - 3 y^2) g'' a', in terms of the output's own channel s a'
        to_y.addcmul_(twice, out[1], value=-6).addcmul_(twice, jet[1], value=4)
        torch.mul(to_y, slope, out=back[0])
        return back, back[0].sum(0)


class TanhGradient(Function):
    """The value of a scalar tanh network and its gradient in the inputs, (batch, 1 + inputs).

    With y_l = tanh(W_l y_{l-1} + b_l), s_l = 1 - y_l^2 and v the last weights: p_L = v, q_l = s_l p_l,
    p_{l-1} = W_l^T q_l, and the gradient is p_0. The backward pass cannot be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, *parameters: Tensor) -> Tensor:
        """inputs (batch, n), then weight and bias of every layer."""
        *weights, last = parameters[::2]
        y, slopes = [inputs], []
        one = torch.ones((), dtype=inputs.dtype, device=inputs.device)
        for weight, bias in zip(weights, parameters[1::2], strict=False):
            y.append(torch.addmm(bias, y[-1], weight.T).tanh_())
            slopes.append(torch.addcmul(one, y[-1], y[-1], value=-1))
        value = torch.addmm(parameters[-1], y[-1], last.T)
        p, back = [last], []
        for weight, slope in zip(reversed(weights), reversed(slopes), strict=True):
            back.append(slope * p[-1])
            p.append(back[-1] @ weight)
        ctx.save_for_backward(*parameters[::2], *y, *slopes, *p[:-1], *back)
        ctx.depth = len(weights)
        return torch.cat([value, p[-1]], 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of the parameters; the inputs get none."""
        (grad,), depth, saved = grads, ctx.depth, list(ctx.saved_tensors)
        weights, saved = saved[: depth + 1], saved[depth + 1 :]
        y, slopes, saved = saved[: depth + 1], saved[depth + 1 : 2 * depth + 1], saved[2 * depth + 1 :]
        p, q = saved[:depth][::-1], saved[depth:][::-1]  # from the first hidden layer to the last
        to_p, to_y = grad[:, 1:], []
        products: list[Tensor] = []  # what the pass back adds to each weight's gradient
        for layer in range(depth):
            products.append(q[layer].T @ to_p)
            to_q = to_p @ weights[layer].T
            to_p = to_q * slopes[layer]
            to_y.append(to_q.mul_(y[layer + 1]).mul_(p[layer]))  # times -2, below
        products.append(to_p.sum(0, keepdim=True))
        of_value = grad[:, :1]
        found: list[Tensor] = [torch.addmm(products[-1], of_value.T, y[-1]), of_value.sum(0)]
        back = of_value * weights[-1]
        for layer in reversed(range(depth)):
            back = back.add_(to_y[layer], alpha=-2).mul_(slopes[layer])
            found = [torch.addmm(products[layer], back.T, y[layer]), back.sum(0), *found]
            if layer:
                back = back @ weights[layer]
        return None, *found


def mlp_jet(net: MLP, jet: Tensor, second: bool) -> Tensor:
    """The jet of a scalar tanh MLP's output, from the jet of its input.

    Args:
        net: linear layers with tanh between them, one output.
        jet: (channels, batch, inputs), at least the value and one first derivative; no gradient reaches it.
        second: the last channel is the second derivative in the direction of channel 1.

    Returns:
        (channels, batch).
    """
    if not second:
        both = TanhGradient.apply(jet[0], *(p for layer in net.layers for p in (layer.weight, layer.bias)))
        value, gradient = both[:, 0], both[:, 1:]  # type: ignore[index]
        return torch.cat([value[None], (jet[1:] * gradient).sum(-1)])
    *hidden, last = net.layers
    for layer in hidden:
        jet = TanhJet.apply(F.linear(jet, layer.weight), layer.bias)  # type: ignore[arg-type,assignment]
    values = F.linear(jet, last.weight)[..., 0]  # type: ignore[arg-type]
    return torch.cat([values[:1] + last.bias, values[1:]])  # type: ignore[operator]


def periodic_jet(x: Tensor, t: Tensor, period: float, t_max: float, directions: str, second: bool) -> Tensor:
    """The jet of the embedding (cos kx, sin kx, t / t_max), k = 2 pi / period, which makes a net periodic in x.

    Args:
        x, t: (batch,).
        directions: of the first derivatives, in order, from "x" and "t"; for `second` the first must be "x".
    """
    k = 2 * torch.pi / period
    cosine, sine = torch.cos(k * x), torch.sin(k * x)
    zero = torch.zeros_like(t)
    channels = [torch.stack([cosine, sine, t / t_max], -1)]
    for direction in directions:
        if direction == "x":
            channels.append(torch.stack([-k * sine, k * cosine, zero], -1))
        else:
            channels.append(torch.stack([zero, zero, torch.full_like(t, 1 / t_max)], -1))
    if second:
        channels.append(torch.stack([-k * k * cosine, -k * k * sine, zero], -1))
    return torch.stack(channels)
