"""Parts of a configuration in words and ranges, for cards, tables and messages."""

from __future__ import annotations

from dataclasses import dataclass

from proxdm.conditioning import knot_tables
from proxdm.config import Config
from proxdm.grids import TimeGrid
from proxdm.networks import NetworkConfig, UNetConfig
from proxdm.rules import find_prox_rule


@dataclass(frozen=True)
class Range:
    """Least and greatest conditions that a network was trained at.

    Attributes:
        t: Times, in [0, 1].
        lam: Prox weights; None for score models.
    """

    t: tuple[float, float]
    lam: tuple[float, float] | None = None


def describe_network(network: NetworkConfig) -> str:
    """Return an architecture in words."""
    if isinstance(network, UNetConfig):
        attention = ", ".join(map(str, network.attention)) or "none"
        return (
            f"U-Net of width {network.width}, multipliers {'-'.join(map(str, network.mult))}, attention on levels "
            f"{attention}, {network.num_res_blocks} residual blocks a level, dropout {network.dropout:g}"
        )
    return f"MLP of width {network.width}, depth {network.depth}, dropout {network.dropout:g}"


def describe_draws(config: Config) -> str:
    """Return in words where, in t or (t, lam), the network is trained."""
    draws = config.conditioning
    counts = ", ".join(map(str, draws.steps))
    if draws.rule is None:
        return f"times of denoising grids of {counts} steps" if draws.draw == "knots" else "t uniform in (0, 1)"
    if draws.draw == "knots":
        return f"{draws.rule} steps of uniform grids of {counts} steps, weights {draws.weights}"
    fewest, most = min(draws.steps), max(draws.steps)
    low, high = draws.rho
    return f"{draws.rule} steps of power grids, {fewest} to {most} steps, rho from {low:g} to {high:g}"


def trained_range(config: Config) -> Range:
    """Return the least and the greatest t and lam that the network is trained at."""
    draws, sde = config.conditioning, config.model.sde
    if draws.rule is None and draws.draw == "continuous":
        return Range((0.0, 1.0))
    if draws.draw == "knots":
        tables = knot_tables(draws, sde)
        weights = [float(lam) for table in tables if table.lam is not None for lam in table.lam]
        times = [float(t) for table in tables for t in table.t]
        return Range((min(times), max(times)), (min(weights), max(weights)) if weights else None)
    # gamma grows with the length of the step and with beta, so the extremes are those of the extreme grids.
    rule = find_prox_rule(str(draws.rule))
    grids = [TimeGrid.power(n, rho).times for n in (min(draws.steps), max(draws.steps)) for rho in draws.rho]
    lams = [rule.coefficients(sde, grid[:-1], grid[1:]).lam for grid in grids]
    landed = max(float(grid[1]) for grid in grids)
    return Range((0.0, landed), (min(float(lam.min()) for lam in lams), max(float(lam.max()) for lam in lams)))
