r"""RAP and RAP++, the baselines with derivatives: a table that is relaxed until its answers can be differentiated.

Categories become probabilities, and conditions on real values sigmoids whose sharpness grows in stages. Each stage is a
smooth problem over a product of simplices and a box; rows are then drawn from what was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

import dini
from dini.sets import Box, Product, Simplex
from dini_zoo.kit.checking import at_least, finite, not_negative, positive, same_shape

from .domains import Domain
from .queries import Queries, Relaxed

#: The sharpnesses of RAP++.
SHARPNESS = tuple(2.0**i for i in range(1, 11))


class Projected(NamedTuple):
    """What a relaxed projection ends with."""

    rows: Float[Array, "n d"]
    """Drawn from the best stage."""
    errors: Float[Array, " stages"]
    """The squared error of the rows drawn after each stage."""
    stage: Int[Array, ""]
    """The best one."""


def relaxed_projection(
    key: jax.Array,
    queries: Queries,
    targets: Float[Array, " q"],
    num_rows: int = 1000,
    *,
    weights: Float[Array, " q"] | None = None,
    sharpness: Sequence[float] = SHARPNESS,
    steps: int = 400,
    oversample: int = 30,
    optimizer: optax.GradientTransformation | None = None,
    solver: dini.Solver | None = None,
) -> Projected:
    r"""Minimize :math:`\sum_q w_q (\tilde q_\tau(X) - t_q)^2` over relaxed tables `X` for a growing sharpness `τ`.

    `q̃` is `Queries.soft`, on average over relaxed rows. Each stage starts where the one before has ended. After each,
    so many rows as `oversample` says are drawn from every relaxed one; those of the stage whose exact answers have the
    least error are returned.

    Parameters
    ----------
    key
        For the start and the rows.
    queries, targets, weights
        As for `genetic_search`.
    num_rows
        Relaxed rows.
    sharpness
        `τ`, one stage for each. Where no query has a condition on a real value one stage is enough: that is RAP.
    steps
        In each stage.
    oversample
        Rows for each relaxed one.
    optimizer
        Steps on logits, the first of a column fixed at zero, and on real values, which are clipped to `[0, 1]` after
        each. By default `optax.adam(0.05)`.
    solver
        In its place, one of dini's for problems with a constraint, such as `dini.ProjectedGradient(max_steps=400)`: it
        works on the simplices and the box themselves, and its own `max_steps` count.

    Returns
    -------
    Projected
        Rows, and the error of each stage.

    Raises
    ------
    ValueError
        For a count below one, a sharpness that is not positive, both an optimizer and a solver, targets or weights that
        do not fit.

    References
    ----------
    Aydore et al., "Differentially private query release through adaptive projection", ICML 2021 (RAP). Vietri et al.,
    "Private synthetic data for multitask learning and marginal queries", NeurIPS 2022 (RAP++).
    """
    for name, count in (("num_rows", num_rows), ("steps", steps), ("oversample", oversample)):
        at_least(name, count, 1)
    at_least("The number of sharpnesses", len(sharpness), 1)
    positive("sharpness", np.asarray(sharpness))
    if optimizer is not None and solver is not None:
        raise ValueError("optimizer and solver must not both be given.")
    same_shape("targets", targets, "the queries", (queries.num_queries,))
    finite("targets", targets)
    weights = jnp.ones(queries.num_queries) if weights is None else jnp.asarray(weights)
    same_shape("weights", weights, "the queries", (queries.num_queries,))
    not_negative("weights", weights)
    sizes, count = queries.domain.sizes, len(queries.domain.real)
    logits_key, reals_key, draws = jax.random.split(key, 3)
    logits = 0.1 * jax.random.normal(logits_key, (num_rows, sum(size - 1 for size in sizes if size)))
    start = (logits, jax.random.uniform(reals_key, (num_rows, count)))
    best: Projected | None = None
    errors = []
    unknown = start if solver is None else relaxed(queries.domain, *start)
    for i, tau in enumerate(sharpness):
        if solver is None:
            unknown = _descend(unknown, queries, targets, weights, tau, optimizer or _ADAM, steps)
            table = relaxed(queries.domain, *unknown)
        else:
            unknown = table = _project(unknown, queries, targets, weights, tau, solver)
        rows = draw(jax.random.fold_in(draws, i), table, queries.domain, oversample)
        errors.append(jnp.sum(weights * (queries.answers(rows) - targets) ** 2))
        if best is None or errors[-1] < errors[int(best.stage)]:
            best = Projected(rows, jnp.zeros(0), jnp.asarray(i))
    assert best is not None
    return best._replace(errors=jnp.stack(errors))


_ADAM = optax.adam(0.05)


def relaxed(domain: Domain, logits: Float[Array, "m _"], reals: Float[Array, "m r"]) -> Relaxed:
    """The table of logits: of each categorical column all but the first, which are zero."""
    widths = [size - 1 for size in domain.sizes if size]
    blocks = jnp.split(logits, np.cumsum(widths)[:-1], axis=1) if widths else []
    zero = jnp.zeros_like(logits[:, :0], shape=(len(logits), 1))
    return Relaxed(tuple(jax.nn.softmax(jnp.concatenate([zero, one], axis=1)) for one in blocks), reals)


def draw(key: jax.Array, table: Relaxed, domain: Domain, count: int) -> Float[Array, "n d"]:
    """`count` rows for each relaxed one: categories drawn, real values as they are."""
    m = len(table.reals)
    columns: list[jax.Array | None] = [None] * len(domain.columns)
    for j, one in zip(domain.categorical, table.probabilities, strict=True):
        drawn = jax.random.categorical(jax.random.fold_in(key, j), jnp.log(one), shape=(count, m))
        columns[j] = drawn.reshape(-1).astype(table.reals.dtype)
    for i, j in enumerate(domain.real):
        columns[j] = jnp.tile(table.reals[:, i], count)
    return jnp.stack([one for one in columns if one is not None], axis=1)


def squared_error(
    table: Relaxed, queries: Queries, targets: Float[Array, " q"], weights: Float[Array, " q"], tau: Float[Array, ""]
) -> Float[Array, ""]:
    """What a stage minimizes."""
    return jnp.sum(weights * (queries.soft_answers(table, tau) - targets) ** 2)


@partial(jax.jit, static_argnames=("optimizer", "steps"))
def _descend(
    start: tuple[jax.Array, jax.Array],
    queries: Queries,
    targets: jax.Array,
    weights: jax.Array,
    tau: float | jax.Array,
    optimizer: optax.GradientTransformation,
    steps: int,
) -> tuple[jax.Array, jax.Array]:
    """Steps of an optimizer, the real values clipped after each."""
    slope = jax.grad(lambda one: squared_error(relaxed(queries.domain, *one), queries, targets, weights, tau))

    def step(carry: tuple[tuple[jax.Array, jax.Array], optax.OptState], _: None) -> tuple[tuple, None]:
        unknown, state = carry
        updates, state = optimizer.update(slope(unknown), state, unknown)
        logits, reals = optax.apply_updates(unknown, updates)
        return ((logits, jnp.clip(reals, 0, 1)), state), None

    return jax.lax.scan(step, (start, optimizer.init(start)), None, steps)[0][0]


@jax.jit
def _project(
    start: Relaxed,
    queries: Queries,
    targets: jax.Array,
    weights: jax.Array,
    tau: float | jax.Array,
    solver: dini.Solver,
) -> Relaxed:
    """A stage as one problem over simplices and a box."""
    sets = Product(Relaxed(tuple(Simplex(axis=-1) for _ in start.probabilities), Box(0.0, 1.0)))
    # its steps are counted, as an optimizer's are: no minimum is asked for
    return dini.minimize(
        squared_error, start, queries, targets, weights, tau, constraint=sets, solver=solver, on_failure="ignore"
    ).x
