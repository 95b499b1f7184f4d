"""Incompressible Navier-Stokes in two dimensions on a periodic square, in vorticity form, batched over samples.

w_t + u.grad w = nu Laplacian w - drag w + f,  u = (psi_y, -psi_x),  -Laplacian psi = w.

A Fourier-Galerkin method: states live on the wave numbers that the 2/3 rule keeps, so every product is free of
aliasing. Basdevant's form of the advection (J. Comput. Phys. 50, 1983) needs two inverse and two forward real
transforms: (-u.grad w)^ = (kx^2 - ky^2) (u v)^ + kx ky (v^2 - u^2)^.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from paperworks.nn import check_shape

from .spectral_grid import wave_numbers

Scheme = Literal["ab2cn", "ifrk4", "eulercn"]


class NavierStokes:
    """The equation on one grid: right-hand side and time steps, on Fourier coefficients `rfft2(w)`.

    Args:
        size: points an axis.
        nu: viscosity, a number or one a sample (n,).
        drag: linear drag, a number or one a sample (n,).
        forcing: f on the grid, (size, size) or (n, size, size); None for 0.
        length: of the square.
        dtype: float32 or float64.
        device: where states live.
    """

    def __init__(
        self,
        size: int,
        *,
        nu: float | Tensor,
        drag: float | Tensor = 0.0,
        forcing: Tensor | None = None,
        length: float = 1.0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | None = None,
    ):
        self.size, self.length, self.dtype = size, length, dtype
        kx, ky = wave_numbers(size, 2, length, device=device)
        k2 = kx**2 + ky**2
        inverse = torch.where(k2 > 0, 1 / k2.clamp_min(1e-300), 0.0)
        cut = 2 * math.pi / length * size / 3
        mask = (kx.abs() < cut) & (ky.abs() < cut)
        self.mask = mask
        # (2, size, size // 2 + 1): coefficients of u and v out of those of w
        self.velocity_of = (1j * torch.stack([ky * inverse * mask, -kx * inverse * mask])).to(dtype.to_complex())
        # real factors stand once for the real and once for the imaginary part: half the work of complex ones
        self.of_uv, self.of_difference = (_twice(a * mask, dtype) for a in (kx**2 - ky**2, kx * ky))
        self.kx, self.ky = kx.to(dtype), ky.to(dtype)
        nu, drag = (_per_sample(value, device) for value in (nu, drag))
        self.linear = -(nu * k2 + drag)  # float64
        self.forcing = None
        if forcing is not None:
            check_shape("forcing", forcing, ("...", size, size))
            self.forcing = torch.view_as_real(torch.fft.rfft2(forcing.to(device, torch.float64)) * mask).to(dtype)

    def coefficients(self, w: Tensor) -> Tensor:
        """Coefficients of w (n, size, size) that the 2/3 rule keeps, as real numbers (n, size, size // 2 + 1, 2)."""
        check_shape("w", w, ("n", self.size, self.size))
        return torch.view_as_real(torch.fft.rfft2(w.to(self.dtype)) * self.mask)

    def grid(self, state: Tensor) -> Tensor:
        """w (n, size, size) of coefficients."""
        return torch.fft.irfft2(torch.view_as_complex(state), (self.size, self.size))

    def velocity(self, state: Tensor) -> Tensor:
        """(n, 2, size, size): u and v on the grid."""
        spectrum = torch.view_as_complex(state)[:, None] * self.velocity_of
        return torch.fft.irfft2(spectrum, (self.size, self.size))

    def advection(self, state: Tensor, factors: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Coefficients of -u.grad w by Basdevant's form; `factors` replace kx^2 - ky^2 and kx ky (times a step)."""
        velocity = self.velocity(state)
        u, v = velocity[:, 0], velocity[:, 1]
        products = torch.empty_like(velocity)
        torch.mul(u, v, out=products[:, 0])
        torch.mul(v - u, v + u, out=products[:, 1])
        spectrum = torch.view_as_real(torch.fft.rfft2(products))
        of_uv, of_difference = factors or (self.of_uv, self.of_difference)
        return torch.addcmul(spectrum[:, 0] * of_uv, spectrum[:, 1], of_difference)

    def advective_form(self, state: Tensor) -> Tensor:
        """The same by u w_x + v w_y, with five transforms: what Basdevant's form is checked against."""
        w = torch.view_as_complex(state)
        slopes = torch.fft.irfft2(torch.stack([1j * self.kx * w, 1j * self.ky * w], 1), (self.size, self.size))
        product = (self.velocity(state) * slopes).sum(1)
        return torch.view_as_real(-torch.fft.rfft2(product) * self.mask)

    def time_derivative(self, state: Tensor) -> Tensor:
        """dw/dt in coefficients: advection, diffusion, drag and forcing."""
        total = self.advection(state) + _twice(self.linear, self.dtype) * state
        return total if self.forcing is None else total + self.forcing

    def stepper(self, scheme: Scheme, dt: float) -> "AdamsBashforth | RungeKutta":
        """A time step of `dt`: call it with a state as often as wanted, on one trajectory."""
        if scheme in ("ab2cn", "eulercn"):
            return AdamsBashforth(self, dt, order=2 if scheme == "ab2cn" else 1)
        if scheme == "ifrk4":
            return RungeKutta(self, dt)
        raise ValueError(f"scheme: ab2cn, ifrk4 or eulercn, given {scheme!r}")


class AdamsBashforth:
    """Adams-Bashforth for the advection, Crank-Nicolson for viscosity and drag.

    Order 2 takes Heun's first step. Order 1 is Euler's method, by which the published sets of arXiv 2010.08895 were
    made (with steps of 1e-4).
    """

    def __init__(self, equation: NavierStokes, dt: float, order: int = 2):
        self.equation, self.order, dtype = equation, order, equation.dtype
        implicit = 1 - dt / 2 * equation.linear
        # The change of a state and not its factor, whose rounding to float32 would repeat in every step
        self.change, step = _twice(dt * equation.linear / implicit, dtype), _twice(dt / implicit, dtype)
        self.factors = (step * equation.of_uv, step * equation.of_difference)
        self.pushed = None if equation.forcing is None else step * equation.forcing
        self.before: Tensor | None = None

    def __call__(self, state: Tensor) -> Tensor:
        advection = self.equation.advection(state, self.factors)
        change = state * self.change
        if self.pushed is not None:
            change += self.pushed
        if self.order == 1:
            return change.add_(advection).add_(state)
        if self.before is None:
            after = self.equation.advection(state + change + advection, self.factors)
            change.add_(advection, alpha=0.5).add_(after, alpha=0.5)
        else:
            change.add_(advection, alpha=1.5).sub_(self.before, alpha=0.5)
        self.before = advection
        return change.add_(state)


class RungeKutta:
    """Fourth order: Runge-Kutta on exp(-L t) w, so that viscosity and drag L are exact."""

    def __init__(self, equation: NavierStokes, dt: float):
        self.equation, self.dt = equation, dt
        self.half = _twice(torch.exp(dt / 2 * equation.linear), equation.dtype)

    def push(self, state: Tensor) -> Tensor:
        """Advection and forcing."""
        total = self.equation.advection(state)
        return total if self.equation.forcing is None else total + self.equation.forcing

    def __call__(self, state: Tensor) -> Tensor:
        dt, half = self.dt, self.half
        middle = half * state
        k1 = self.push(state)
        k2 = self.push(half * (state + dt / 2 * k1))
        k3 = self.push(middle + dt / 2 * k2)
        k4 = self.push(half * (middle + dt * k3))
        return half * (half * (state + dt / 6 * k1) + dt / 3 * (k2 + k3)) + dt / 6 * k4


def solve_vorticity(
    w: Tensor,
    *,
    nu: float | Tensor,
    interval: float,
    frames: int,
    dt: float,
    drag: float | Tensor = 0.0,
    forcing: Tensor | None = None,
    length: float = 1.0,
    scheme: Scheme = "ab2cn",
    warm_up: float = 0.0,
) -> Tensor:
    """Trajectories from initial vorticities.

    Args:
        w: (n, size, size); its dtype is what is computed in. Wave numbers above the 2/3 rule's cut are dropped.
        nu, drag, forcing, length: of `NavierStokes`.
        interval: time between frames, divided into equal steps of at most `dt`.
        frames: number of frames, the first at time `warm_up`.
        dt: largest time step.
        scheme: `ab2cn` (second order, one evaluation a step), `ifrk4` (fourth order, four evaluations) or `eulercn`
            (first order, one evaluation: the scheme of the script that made the published sets of arXiv 2010.08895).
        warm_up: time that passes before the first frame.

    Returns:
        (n, frames, size, size).

    Raises:
        ValueError: the solution left the finite numbers: the step is too long.
    """
    equation = NavierStokes(
        w.shape[-1], nu=nu, drag=drag, forcing=forcing, length=length, dtype=w.dtype, device=w.device
    )
    state = equation.coefficients(w)
    if warm_up > 0:
        count = math.ceil(warm_up / dt - 1e-9)
        step = equation.stepper(scheme, warm_up / count)
        for _ in range(count):
            state = step(state)
    out = w.new_empty(len(w), frames, *w.shape[1:])
    out[:, 0] = equation.grid(state)
    count = max(1, math.ceil(interval / dt - 1e-9))
    step = equation.stepper(scheme, interval / count)
    for frame in range(1, frames):
        for _ in range(count):
            state = step(state)
        out[:, frame] = equation.grid(state)
    if not torch.isfinite(out[:, -1]).all():
        raise ValueError(f"the vorticity left the finite numbers with dt = {interval / count:g}; take a smaller dt")
    return out


def fno_forcing(size: int) -> Tensor:
    """0.1 (sin 2 pi (x + y) + cos 2 pi (x + y)) on the unit square: arXiv 2010.08895, section 5.3."""
    x, y = grid(size)
    angle = 2 * torch.pi * (x + y)
    return 0.1 * (torch.sin(angle) + torch.cos(angle))


def poseidon_forcing(size: int) -> Tensor:
    """0.1 sin 2 pi (x + y) on the unit square: the set FNS-KF of arXiv 2405.19101."""
    x, y = grid(size)
    return 0.1 * torch.sin(2 * torch.pi * (x + y))


def kolmogorov_forcing(size: int, k: int = 4) -> Tensor:
    """-k cos(k y) on the square of length 2 pi, the curl of the force sin(k y) along x; jax-cfd's convention."""
    _, y = grid(size, 2 * math.pi)
    return (-k * torch.cos(k * y)).expand(size, size).clone()


def grid(size: int, length: float = 1.0) -> tuple[Tensor, Tensor]:
    """Points j length / size: x (size, 1) and y (1, size), float64."""
    x = length / size * torch.arange(size, dtype=torch.float64)
    return x[:, None], x[None, :]


def _twice(values: Tensor, dtype: torch.dtype) -> Tensor:
    """A real factor of complex numbers that are stored as pairs."""
    return values.to(dtype)[..., None].expand(*values.shape, 2).contiguous()


def _per_sample(value: float | Tensor, device: torch.device | None) -> Tensor:
    value = torch.as_tensor(value, dtype=torch.float64, device=device)
    return value.reshape(-1, 1, 1) if value.ndim else value
