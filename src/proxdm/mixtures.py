r"""Gaussian mixtures with isotropic components: exact score, proximal operator and log density at any time.

The data follow `sum_i w_i N(mu_i, std_i^2 I)`; std 0 means point masses, as in the synthetic experiment of
arXiv 2507.08956. Diffused to time t (notation of :mod:`proxdm.schedules`) they follow

$$p_t = \sum_i w_i\, N(\sqrt{\bar\alpha}\,\mu_i,\; v_i I), \qquad
v_i = \bar\alpha\,\mathrm{std}_i^2 + 1 - \bar\alpha .$$

The proximal operator `prox(x, t, lam) = argmin_u 1/2 |u - x|^2 - lam log p_t(u)` minimises a function that may have
many local minima. `exp(-objective / lam)` is itself a Gaussian mixture in u, with centres
`(v_i x + lam m_i) / (v_i + lam)`, `m_i = sqrt(alpha_bar) mu_i`, so that the prox is that mixture's highest mode
(:mod:`proxdm._modes` has the formulas and the search). It is found for batches, with proofs where there are any
and with its residual on request: :meth:`GaussianMixture.solve_prox`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import log, pi
from typing import Literal, get_args

import torch
from torch import Tensor

from proxdm._modes import inputs
from proxdm._modes.atoms import TINY, Atoms, component_variances, log_joint, make_atoms
from proxdm._modes.climb import Options
from proxdm._modes.inputs import Array, Query
from proxdm._modes.solve import Modes, find_modes, nearest
from proxdm.schedules import VPSDE, Schedule, Time, as_float64

Mode = Literal["global", "local"]
"""Which minimum of the prox objective: the lowest, or the one reached downhill from x."""

MAX_ITERATIONS = 200
"""Evaluations of the density that one climb may take; a few are usual."""


@dataclass(frozen=True)
class ProxResult:
    """A proximal operator with the evidence that it is one."""

    u: Tensor  # The minimisers, of the shape and dtype of x
    # `1/2 |u - x|^2 - lam log p_t(u)`, float64 `(B,)`; for point masses at t = 0, where the density is infinite,
    # `1/2 |u - x|^2`
    objective: Tensor
    # `|u - x - lam score(u, t)|`, 0 at a stationary point, float64 `(B,)`; for point masses at t = 0, 0
    residual: Tensor
    iterations: Tensor  # Evaluations of the density, all starts of a point together, `(B,)`
    converged: Tensor  # Whether the climb ended by its own criterion, within rounding error, `(B,)` bool
    # Whether it is proved that the objective has no other local minimum as low as this; False says only that there is
    # no proof, `(B,)` bool
    unimodal: Tensor


class GaussianMixture:
    """`sum_i w_i N(mu_i, std_i^2 I)` under any schedule, with closed forms at any time.

    Everything is computed in float64 on the device of the means and returned in the dtype of x. Batches are worked
    through in pieces, so memory stays bounded (10,000 components in 784 dimensions need a few hundred megabytes).
    `log_prob` and `score` are differentiable in x; `prox` is not.

    Args:
        means: mu, shape `(K, *)`; a tensor, an array or nested lists.
        std: Standard deviation of the components at t = 0, at least 0: a number, or one per component `(K,)`.
        weights: w, positive, `(K,)`, normalised here; equal by default.
        schedule: How the data are diffused; `VPSDE()` by default.

    Attributes:
        means: mu, `(K, *)`, in the given floating dtype.
        std: float64, 0-dimensional or `(K,)`.
        weights: w, float64 `(K,)`, sum 1.
        schedule: How the data are diffused.

    Raises:
        ValueError: Shapes do not fit, std is negative, or a weight is not positive.
        NonFiniteError: Means, std or weights contain NaN or infinite numbers.
    """

    def __init__(
        self, means: Array, std: Array = 0.0, weights: Array | None = None, schedule: Schedule | None = None
    ) -> None:
        self.means = inputs.checked_means(means)
        self.std = inputs.checked_std(std, self.components, self.device)
        self.weights = inputs.checked_weights(weights, self.components, self.device)
        self.schedule = schedule or VPSDE()

    def __repr__(self) -> str:
        std = f"{float(self.std):g}" if self.std.ndim == 0 else f"{float(self.std.min()):g}...{float(self.std.max()):g}"
        return (
            f"GaussianMixture({self.components} means of shape {self.event_shape}, std={std}, schedule={self.schedule})"
        )

    @property
    def components(self) -> int:
        """K, the number of components."""
        return len(self.means)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch dimension."""
        return tuple(self.means.shape[1:])

    @property
    def dim(self) -> int:
        """Number of dimensions: the product of `event_shape`."""
        return self.means[0].numel()

    @property
    def device(self) -> torch.device:
        """Where the mixture computes."""
        return self.means.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of its samples."""
        return self.means.dtype

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> GaussianMixture:
        """Return the mixture on another device or with samples of another dtype (it computes in float64 anyway)."""
        return GaussianMixture(self.means.to(device=device, dtype=dtype), self.std, self.weights, self.schedule)

    def sample(self, n: int, t: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
        """Draw from p_t.

        Args:
            n: Number of samples, at least 0.
            t: Time in [0, 1].
            generator: Source of the random numbers, drawn on its device; torch's global one by default.

        Returns:
            Independent samples, `(n, *)`, in the dtype of the mixture.
        """
        if n < 0:
            raise ValueError(f"n = {n} must be at least 0")
        home = self.weights.device
        source = home if generator is None else generator.device
        time = inputs.checked_times(t, 1, home)
        chosen = torch.randint(1, (n,))  # multinomial refuses to draw nothing
        if n:
            chosen = torch.multinomial(self.weights.to(source), n, replacement=True, generator=generator)
        z = torch.randn((n, self.dim), generator=generator, dtype=torch.float64, device=source).to(home)
        chosen = chosen.to(home)
        std = self.std if self.std.ndim == 0 else self.std[chosen, None]
        alpha = self.schedule.alpha_bar(time)
        centres = alpha.sqrt() * (self._atoms.points[chosen] + self._atoms.centre)
        out = centres + (alpha * std**2 + self.schedule.noise_variance(time)).sqrt() * z
        return out.reshape(n, *self.event_shape).to(device=self.device, dtype=self.dtype)

    def log_prob(self, x: Tensor, t: Time) -> Tensor:
        """Return `log p_t(x)`.

        Args:
            x: Points, `(B, *)`.
            t: Time in [0, 1]: a number, or one per point `(B,)`.

        Returns:
            `(B,)` in the dtype of x.

        Raises:
            ValueError: Shapes do not fit, t is outside [0, 1], or t = 0 and a component is a point mass.
            NonFiniteError: x contains NaN or infinite numbers.
        """
        return self._density(x, t, "log_prob", self._log_prob).to(device=x.device, dtype=x.dtype)

    def score(self, x: Tensor, t: Time) -> Tensor:
        r"""Return `grad log p_t(x) = sum_i r_i (m_i - x) / v_i`, r the responsibilities of the components for x.

        Of the shape and dtype of x; arguments and errors are those of :meth:`log_prob`.
        """
        return self._density(x, t, "score", self._score).reshape(x.shape).to(device=x.device, dtype=x.dtype)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """Return `E[X_0 | X_t = x]`, what a perfect denoiser gives.

        At t = 0 it is x itself, for point masses the nearest of them (the limit of small t). Of the shape and dtype of
        x; arguments and errors are those of :meth:`log_prob`, but at t = 0 it exists unless only some components are
        point masses.
        """
        query = self._query(x, t)
        masses = self._point_masses(query, "denoise")
        out = self._piecewise(query, self._denoised)
        out[masses] = nearest(self._atoms, query.x[masses])
        return (out + self._atoms.centre).reshape(x.shape).to(device=x.device, dtype=x.dtype)

    def prox(self, x: Tensor, t: Time, lam: Time) -> Tensor:
        """Return `argmin_u 1/2 |u - x|^2 - lam log p_t(u)`, the global minimiser.

        For point masses at t = 0 it is the projection on the nearest of them, whatever lam and the weights. (For
        unequal weights that is not the limit of small t, in which -lam log w_i adds to half the squared distances.)

        Args:
            x: Points, `(B, *)`.
            t: Time in [0, 1]: a number, or one per point `(B,)`.
            lam: Weight of the log density, at least 0 (0 gives x back): a number, or one per point `(B,)`.

        Returns:
            `(B, *)` in the dtype of x.

        Raises:
            ValueError: Shapes do not fit, t is outside [0, 1], lam is negative or not finite, or t = 0 and only some
                components are point masses.
            NonFiniteError: x contains NaN or infinite numbers.
        """
        u = self._minimise(x, t, lam, "global", MAX_ITERATIONS)[0]
        return u.reshape(x.shape).to(device=x.device, dtype=x.dtype)

    def solve_prox(
        self, x: Tensor, t: Time, lam: Time, mode: Mode = "global", *, max_iterations: int = MAX_ITERATIONS
    ) -> ProxResult:
        """Return the proximal operator with objective, residual and proofs.

        Args:
            x: Points, `(B, *)`.
            t: Time in [0, 1]: a number, or one per point `(B,)`.
            lam: Weight of the log density, at least 0: a number, or one per point `(B,)`.
            mode: `global` looks for the lowest minimum; `local` goes downhill from x and takes what it finds, as
                one run of L-BFGS per point does in the paper's code.
            max_iterations: Evaluations of the density per start at most.

        Raises:
            ValueError: As for :meth:`prox`; or an unknown mode, or `max_iterations` below 1.
            NonFiniteError: x contains NaN or infinite numbers.
        """
        if mode not in get_args(Mode):
            raise ValueError(f"unknown mode {mode!r}; use 'global' or 'local'")
        if max_iterations < 1:
            raise ValueError(f"max_iterations = {max_iterations} must be at least 1; {MAX_ITERATIONS} are plenty")
        u, found, query, weight = self._minimise(x, t, lam, mode, max_iterations)
        move = u - as_float64(x).reshape(u.shape)
        objective, residual = move.square().sum(1) / 2, torch.zeros_like(weight)
        with torch.no_grad():
            # Where the density is infinite or has no say, half the squared distance is all there is.
            rows = torch.nonzero((self._variances_floor(query) > 0) & (weight > 0))[:, 0]
            noise, signal = query.noise[rows], query.signal[rows]
            at = Query(u[rows] / signal[:, None] - self._atoms.centre, noise, signal)
            objective[rows] -= weight[rows] * self._piecewise(at, self._log_prob)
            gradient = move[rows] - weight[rows, None] * self._piecewise(at, self._score)
            residual[rows] = gradient.square().sum(1).sqrt()
        evidence = (objective, residual, found.iterations, found.converged, found.unimodal)
        minimisers = u.reshape(x.shape).to(device=x.device, dtype=x.dtype)
        return ProxResult(minimisers, *(value.to(x.device) for value in evidence))

    @cached_property
    def _atoms(self) -> Atoms:
        flat = as_float64(self.means).reshape(self.components, -1)
        return make_atoms(flat, self.weights.log(), self.std.square().expand(self.components))

    def _query(self, x: Tensor, t: Time) -> Query:
        flat = inputs.checked_points(x, self.event_shape, self.device)
        return Query.make(flat, inputs.checked_times(t, len(x), self.device), self.schedule, self._atoms.centre)

    def _variances_floor(self, query: Query) -> Tensor:
        """Return the least variance of a component in data space, `(B,)`."""
        return query.noise + self._atoms.variances.min()

    def _point_masses(self, query: Query, what: str) -> Tensor:
        """Return which rows see point masses alone (t = 0 and std = 0), `(B,)`."""
        masses = self._variances_floor(query) == 0
        if not self._atoms.equal and bool(masses.any()):
            raise ValueError(
                f"{what} is not defined at t = 0 for a mixture of point masses (std = 0) and densities (std > 0); "
                "take t > 0 or give every component std > 0"
            )
        return masses

    def _density(self, x: Tensor, t: Time, what: str, function: Callable[[Query], Tensor]) -> Tensor:
        query = self._query(x, t)
        if bool((self._variances_floor(query) == 0).any()):
            raise ValueError(
                f"{what} does not exist at t = 0 for components with std = 0: they are point masses; "
                "take t > 0 or std > 0 (prox is defined there, as the projection)"
            )
        return self._piecewise(query, function)

    def _piecewise(self, query: Query, function: Callable[[Query], Tensor]) -> Tensor:
        return torch.cat([function(part) for part in query.pieces(self.components)])

    def _log_prob(self, query: Query) -> Tensor:
        relative, offset = log_joint(self._atoms, query.x, component_variances(self._atoms, query.noise))
        volume = self.dim * (query.signal.log() + log(2 * pi) / 2)
        return relative.logsumexp(1) + offset[:, 0] - volume

    def _score(self, query: Query) -> Tensor:
        v = component_variances(self._atoms, query.noise)
        weighted = torch.softmax(log_joint(self._atoms, query.x, v)[0], dim=1) / v
        data_space = weighted @ self._atoms.points - query.x * weighted.sum(1, keepdim=True)
        return data_space / query.signal[:, None]

    def _denoised(self, query: Query) -> Tensor:
        v = component_variances(self._atoms, query.noise)
        r = torch.softmax(log_joint(self._atoms, query.x, v)[0], dim=1)
        # mu_i + std_i^2 / V_i (X - mu_i) = mu_i noise / V_i + X (1 - noise / V_i)
        pull = r * (query.noise[:, None] / v)
        return pull @ self._atoms.points + query.x * (1 - pull.sum(1, keepdim=True))

    @torch.no_grad()
    def _minimise(
        self, x: Tensor, t: Time, lam: Time, mode: Mode, max_iterations: int
    ) -> tuple[Tensor, Modes, Query, Tensor]:
        """Return u, float64 `(B, n)`, how it was found, the query and lam `(B,)`."""
        query = self._query(x, t)
        weight = inputs.checked_lam(lam, len(x), self.device)
        masses = self._point_masses(query, "the prox")
        found = Modes.empty(query.x)
        found.converged[:] = True
        found.unimodal[:] = weight == 0
        u = as_float64(x).reshape(query.x.shape).clone()
        u[masses] = nearest(self._atoms, query.x[masses]) + self._atoms.centre
        rows = torch.nonzero(~masses & (weight > 0))[:, 0]
        part = query[rows]
        strength = (weight[rows] / part.signal.square()).clamp(min=TINY)
        modes = find_modes(self._atoms, part.x, part.noise, strength, Options(mode == "local", max_iterations))
        found.put(rows, modes)
        u[rows] = part.signal[:, None] * (modes.z + self._atoms.centre)
        return u, found, query, weight
