"""Compare the PINNs with the authors' code: `python benchmarks/parity/lpinn.py --official PATH [--record]`.

PATH is a checkout of rmojgani/LPINNs, whose code calls `.cuda()` in its forward pass; here that call is made to do
nothing. All weights and biases are drawn at random; outputs with residuals, the loss in the authors' 2-norms and
weights, and its gradients are compared in float64, at every depth and equation that they offer.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from paperworks.operators import EulerianPINN, LagrangianPINN
from parity import arguments, finish, randomise, relative_difference

X_POINTS, TIMES, SPEED, VISCOSITY = 12, 5, 3.0, 0.1
USED_DEPTHS = (3, 4, 5, 6)


def grid() -> tuple[Tensor, Tensor]:
    """All points, x running fastest, the first of them at t = 0, as columns that ask for gradients."""
    x = torch.linspace(0, 2 * torch.pi, X_POINTS, dtype=torch.float64).repeat(TIMES)[:, None]
    t = torch.linspace(0, 1, TIMES, dtype=torch.float64).repeat_interleave(X_POINTS)[:, None]
    return x.requires_grad_(), t.requires_grad_()


def compare(name: str, theirs: Any, ours: Any, lagrangian: bool) -> dict[str, Any]:
    """One case: what they compute and what we compute from the same weights."""
    x, t = grid()
    points = torch.cat([x, t], 1).detach()
    x0 = points[:X_POINTS, 0]
    w0 = SPEED + torch.sin(x0)
    w, position = theirs(x, t, x, t)
    motion, along = theirs.net_residual(x, t, x, t)
    if lagrangian:
        values = (torch.cat([position, w], 1), ours(points))
        residuals = [(motion[:, 0], along[:, 0]), ours.residuals(points)]
        start = theirs.loss_x0u0(x, t, x, t, w0[:, None], x0[:, None])
        weights = 10 * theirs.loss_rx(x, t, x, t)
        mine = ours.loss(points, x0, w0, form="norm", position_weight=10, initial_weight=1000)
    else:
        values = (w, ours(points))
        residuals = [(along[:, 0],), (ours.residual(points),)]
        start = theirs.loss_x0u0(x, t, x, t, w0[:, None], None)
        weights = 0.0
        mine = ours.loss(points, x0, w0, form="norm", initial_weight=1000)
    loss = weights + theirs.loss_ru(x, t, x, t) + 1000 * start
    case = {
        "name": name,
        "max_relative_error": max(
            relative_difference(b, a)
            for a, b in zip((values[0], *residuals[0]), (values[1], *residuals[1]), strict=True)
        ),
        "relative_loss_error": relative_difference(mine, loss),
    }
    loss.backward()
    mine.backward()
    gradients: dict[str, list[Tensor]] = {"ours": [], "theirs": []}
    if lagrangian:
        deep = ours.w_net.layers
        layers = {"input": deep[0], "hidden1": deep[1], "hidden2": deep[2], "output": deep[-1]}
    else:
        *hidden, last = ours.net.layers
        layers = {"input": hidden[0], "output": last} | {f"hidden{i}": m for i, m in enumerate(hidden) if i}
    for layer, module in layers.items():
        for kind, parameter in module.named_parameters():
            gradients["ours"].append(parameter.grad.flatten())
            gradients["theirs"].append(getattr(getattr(theirs, layer), kind).grad.flatten())
    case["max_relative_gradient_error"] = relative_difference(*map(torch.cat, gradients.values()))
    return case


def main() -> None:
    """Run all cases and print, or record, the result."""
    options = arguments(__doc__)
    sys.path.insert(0, str(options.official / "code"))
    import mynet_POLAR as lagrangian  # type: ignore[import-not-found]
    import mynet_POLAR0 as eulerian  # type: ignore[import-not-found]

    Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign,assignment]
    torch.set_default_dtype(torch.float64)  # they make a constant in forward
    cases = []
    for equation in ("convection", "Burgers", "reaction"):
        for depth in USED_DEPTHS:
            arguments_ = (X_POINTS, TIMES, 50, depth, 2, SPEED, VISCOSITY, equation, False)
            named: dict[str, Any] = dict(equation=equation.lower(), speed=SPEED, viscosity=VISCOSITY)
            theirs = randomise(lagrangian.LPINN_POLAR(*arguments_)).double()
            ours = LagrangianPINN(depth=(depth, 2), diffusion="label", x_param="raw", shared=True, **named).double()
            ours.load_official(theirs.state_dict())
            cases.append(compare(f"Lagrangian, {equation}, depth {depth}", theirs, ours, True))
            if equation != "reaction":  # the baseline has no such equation
                theirs = randomise(eulerian.PINN_POLAR(*arguments_)).double()
                plain = EulerianPINN(depth=depth, **named).double().load_official(theirs.state_dict())
                cases.append(compare(f"Eulerian, {equation}, depth {depth}", theirs, plain, False))
    for case in cases:
        print(case)
    finish(options, slug="lpinn", official="rmojgani/LPINNs", cases=cases)


if __name__ == "__main__":
    main()
