"""Where a network is trained, in words and ranges, for cards, tables and messages."""

from __future__ import annotations

from proxdm.conditioning import knot_tables
from proxdm.config.schema import Config
from proxdm.grids import TimeGrid
from proxdm.rules import find_prox_rule

Interval = tuple[float, float]


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


def trained_range(config: Config) -> tuple[Interval, Interval | None]:
    """Return the least and the greatest t, in [0, 1], and lam (None for score models) of the training draws."""
    draws, schedule = config.conditioning, config.model.schedule
    if draws.rule is None and draws.draw == "continuous":
        return (0.0, 1.0), None
    if draws.draw == "knots":
        tables = knot_tables(draws, schedule)
        weights = [float(lam) for table in tables if table.lam is not None for lam in table.lam]
        times = [float(t) for table in tables for t in table.t]
        return (min(times), max(times)), (min(weights), max(weights)) if weights else None
    # gamma grows with the length of the step and with beta, so the extremes are those of the extreme grids.
    rule = find_prox_rule(str(draws.rule))
    grids = [TimeGrid.power(n, rho).times for n in (min(draws.steps), max(draws.steps)) for rho in draws.rho]
    lams = [rule.coefficients(schedule, grid[:-1], grid[1:]).lam for grid in grids]
    landed = max(float(grid[1]) for grid in grids)
    return (0.0, landed), (min(float(lam.min()) for lam in lams), max(float(lam.max()) for lam in lams))
