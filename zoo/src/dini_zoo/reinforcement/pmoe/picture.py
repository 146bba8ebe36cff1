"""The picture: modes of policies over the bandit's reward, learning curves, scores by seed, returns on Pendulum."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from dini_zoo.kit import pictures

from ..bandits import reward
from ..mixtures import Mixture
from .bandit_training import SHOWN
from .report import REFERENCES, last_returns
from .study import ALL, BLEND, GUMBEL, MAX, ONE, REINFORCE, Outcome, Result

COLORS = {
    MAX: pictures.METHOD,
    ONE: pictures.RIVAL,
    ALL: pictures.THIRD,
    GUMBEL: pictures.FOURTH,
    REINFORCE: pictures.ALARM,
    BLEND: pictures.QUIET,
}


def draw(result: Result) -> Figure:
    """Policies above, for three contexts; curves below."""
    rows = [row for row in result.exact if row.name in (MAX, ONE, ALL)]
    figure = pictures.canvas(
        "A bandit with a trap: policies, each in its worst seed", height=4 + 3.4 * len(rows) if rows else 5
    )
    if not rows:
        curves(figure.subplots(1, 3), result)
        return figure
    top, bottom = figure.subfigures(2, 1, height_ratios=(3.4 * len(rows), 4))
    grid = np.linspace(-1, 1, 101)
    a = np.stack(np.meshgrid(grid, grid), axis=-1)
    axes = top.subplots(len(rows), len(SHOWN), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for i, (axis, state) in enumerate(zip(line, SHOWN, strict=True)):
            values = np.asarray(reward(jnp.asarray(state), jnp.asarray(a)))
            image = axis.imshow(values, extent=(-1, 1, -1, 1), origin="lower", cmap=pictures.UNSIGNED, vmin=0, vmax=1)
            modes(axis, row, i, a, grid)
            pictures.bare(axis)
            if row is rows[0]:
                axis.set_title(f"context s₁ = {state[0]:g}")
        line[0].set_ylabel(f"{row.name}\nseed {result.settings.seeds[worst(row)]}")
    top.colorbar(image, ax=axes, label="reward", shrink=0.6)
    curves(bottom.subplots(1, 3), result)
    return figure


def worst(row: Outcome) -> int:
    """The seed with the least score: what is shown is no best case."""
    return int(np.argmin(row.score))


def modes(axis: Any, row: Outcome, context: int, a: np.ndarray, grid: np.ndarray) -> None:
    """The mixture's density as lines of equal height, and a dot at each component's mean, larger with its weight."""
    pick = lambda values: jnp.asarray(values[worst(row), context])
    one = Mixture(pick(row.logits), pick(row.mean), pick(row.log_std), 1.0 if row.squashed else None)
    inside = jnp.asarray(np.clip(a.reshape(-1, 2), -0.995, 0.995))
    density = np.asarray(jax.vmap(one.log_prob)(inside)).reshape(a.shape[:-1])
    axis.contour(grid, grid, density, levels=[-2.0, -0.5, 1.0], colors="white", linewidths=0.8, linestyles="solid")
    means, weights = np.asarray(one.squash(one.mean)), np.asarray(one.weights)
    axis.scatter(*means.T, s=20 + 160 * weights, c=[pictures.ALARM], edgecolors="white", alpha=0.9, clip_on=False)


def curves(axes: Any, result: Result) -> None:
    """Rewards over training, scores by seed, Pendulum."""
    first, second, third = axes
    first.set_title("reward of sampled actions, exact rewards")
    first.set_xlabel("updates")
    for row in result.exact:
        if row.name in COLORS:
            count = row.stochastic.shape[1]
            x = (np.arange(count) + 0.5) * result.settings.updates / count
            pictures.band(first, x, row.stochastic, color=COLORS[row.name], label=row.name)
    second.set_title("reward of the greedy action, seed by seed")
    shown = [row for row in result.exact if row.name in REFERENCES]
    for i, row in enumerate(shown):
        x = i + np.linspace(-0.25, 0.25, len(row.score))
        second.plot(x, row.score, "o", color=COLORS[row.name], ms=5)
    second.axhline(result.optimum, color=pictures.INK, lw=1, ls="--", label="optimum")
    second.set_xticks(
        range(len(shown)),
        [row.name.replace(", ", "\n").replace(" ", "\n").replace("-", "-\n") for row in shown],
        fontsize=8,
    )
    second.set_ylim(0.4, 1.0)
    third.set_title("Pendulum: return of an episode")
    third.set_xlabel("episode")
    for task in result.control:
        count = min(map(len, task.returns))
        runs = np.stack([one[:count] for one in task.returns])
        label = f"{task.name}: {last_returns(task).mean():.0f}"
        pictures.band(third, np.arange(1, count + 1), runs, color=COLORS[task.name], label=label)
    for axis in (first, second, third):
        if axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=8)
