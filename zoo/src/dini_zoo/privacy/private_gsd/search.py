r"""The search: a synthetic table whose answers are near the targets, by random changes of single cells.

Of a row only the cells matter that it is in. A candidate changes one value of one row, so that in each level at most
one count falls and one rises; with counts `c` and targets `t` of `N` rows, a level whose cell changes adds

.. math:: \bigl[2 (c_{new} - t_{new}) + 1\bigr] + \bigl[1 - 2 (c_{old} - t_{old})\bigr]

to :math:`N^2` times the fitness. A generation costs a look at every level for each candidate, however many queries or
rows there are.

With a `Bandit` a candidate may change two rows. Then up to four of a level's counts change, some of them perhaps twice:
with signs :math:`s_i` of the changes and their cells :math:`j_i` the level adds

.. math:: \sum_i 2 s_i (c_{j_i} - t_{j_i}) + \sum_{i, k} s_i s_k [j_i = j_k].
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dini_zoo.kit.checking import at_least, finite, not_negative, same_shape

from .bandit import Bandit, uniform
from .bandit import operators as families
from .domains import Domain
from .queries import Queries


@dataclass(frozen=True)
class Operators:
    """How candidates are made: each is the table with one value of one row changed.

    Raises
    ------
    ValueError
        For a negative number, or no candidate at all.
    """

    mutations: int = 50
    """Candidates whose new value is uniform over the column's domain."""
    crossovers: int = 50
    """Candidates whose new value is that of another row in the same column."""
    noise: float = 0.05
    """Standard deviation of normal noise on real values that are copied, which then are clipped to `[0, 1]`. The
    paper's code has 1, which puts most of them at the ends."""

    def __post_init__(self) -> None:
        at_least("mutations", self.mutations, 0)
        at_least("crossovers", self.crossovers, 0)
        at_least("mutations + crossovers", self.mutations + self.crossovers, 1)
        not_negative("noise", self.noise)


DEFAULT = Operators()


class Found(NamedTuple):
    """What a search ends with."""

    rows: Float[Array, "N d"]
    fitness: Float[Array, " blocks+1"]
    """The squared error of all measured queries: of the start, then after each block of `N` generations, the last of
    which may be shorter. After a search that stopped early, its last value again."""
    generations: Int[Array, ""]
    """How many there were."""
    accepted: Int[Array, ""]
    """In how many the best candidate was better than the table."""
    weights: Float[Array, " k"]
    """Of the families of a `Bandit` the last weights, which add up to one; with `Operators` there are none."""


class State(NamedTuple):
    """A table on its way."""

    rows: Float[Array, "N d"]
    cells: Int[Array, "N L"]
    """The query of each level that each row answers."""
    counts: Int[Array, " q+1"]
    """How many rows answer each query."""
    accepted: Int[Array, ""]


@jax.jit
def start(queries: Queries, rows: Float[Array, "N d"]) -> State:
    """The state of a table, counted from its rows."""
    return State(rows, queries.flat_index(rows), queries.counts(rows), jnp.zeros((), jnp.int32))


@partial(jax.jit, static_argnames="operators")
def step(
    key: jax.Array,
    queries: Queries,
    targets: Float[Array, " q"],
    weights: Float[Array, " q"],
    state: State,
    operators: Operators,
) -> State:
    """One generation: the best of the candidates replaces the table if it is strictly better."""
    n = len(state.rows)
    off = state.counts[:-1] - n * targets
    rise, fall = (jnp.append(weights * (1 + sign * 2 * off), 0) for sign in (1, -1))
    at, column, value = candidates(key, queries.domain, state.rows, operators)
    changed = state.rows[at].at[jnp.arange(len(at)), column].set(value)
    old, new = state.cells[at], queries.flat_index(changed)
    gain = jnp.sum(jnp.where(old == new, 0, rise[new] + fall[old]), axis=1)
    best = jnp.argmin(gain)
    better = gain[best] < 0
    i, moved = at[best], better & (old[best] != new[best])
    rows = state.rows.at[i, column[best]].set(jnp.where(better, value[best], state.rows[i, column[best]]))
    cells = state.cells.at[i].set(jnp.where(moved, new[best], old[best]))
    counts = state.counts.at[old[best]].add(-moved.astype(jnp.int32)).at[new[best]].add(moved.astype(jnp.int32))
    return State(rows, cells, counts, state.accepted + better)


@partial(jax.jit, static_argnames="bandit")
def bandit_step(
    key: jax.Array,
    queries: Queries,
    targets: Float[Array, " q"],
    weights: Float[Array, " q"],
    state: State,
    logs: Float[Array, " k"],
    bandit: Bandit,
) -> tuple[State, Float[Array, " k"]]:
    """One generation whose candidates are of one family; also the logarithms of the families' weights after it."""
    n, q = len(state.rows), queries.num_queries
    pick, draw = jax.random.split(key)
    arm = jax.random.categorical(pick, jnp.log(bandit.probabilities(logs)))
    at, changed = jax.lax.switch(arm, families(bandit, queries.domain), uniform(draw, bandit, state.rows), state.rows)
    old, new = state.cells[at], queries.flat_index(changed)
    # what stays where it is changes the query that is none, whose weight is zero
    moved = (old != new) & (at < n)[..., None]
    old, new = (jnp.where(moved, one, q) for one in (old, new))
    gain = _gain(jnp.append(state.counts[:-1] - n * targets, 0), jnp.append(weights, 0), old, new)
    best = jnp.argmin(gain)
    better = gain[best] < 0
    i, kept = at[best], better & moved[best]
    # a row that is none is beyond the last one, and nothing is written there
    rows = state.rows.at[i].set(jnp.where(better, changed[best], state.rows[i]), mode="drop")
    cells = state.cells.at[i].set(jnp.where(kept, new[best], state.cells[i]), mode="drop")
    counts = state.counts.at[old[best]].add(-kept.astype(jnp.int32)).at[new[best]].add(kept.astype(jnp.int32))
    logs = bandit.rewarded(logs, arm, better.astype(logs.dtype))
    return State(rows, cells, counts, state.accepted + better), logs


def _gain(off: jax.Array, weights: jax.Array, old: jax.Array, new: jax.Array) -> jax.Array:
    """`N^2` times the change of the fitness, of candidates whose rows leave old cells, `(p, rows, L)`, for new ones."""
    cells = jnp.concatenate([old, new], axis=1)
    signs = np.repeat([-1, 1], old.shape[1])
    each = weights[cells]
    total = jnp.sum(each * (2 * signs[:, None] * off[cells] + 1), axis=(1, 2))
    for i, k in itertools.combinations(range(len(signs)), 2):
        both = jnp.where(cells[:, i] == cells[:, k], each[:, i], 0)
        total = total + 2 * signs[i] * signs[k] * jnp.sum(both, axis=1)
    return total


@partial(jax.jit, static_argnames=("domain", "operators"))
def candidates(
    key: jax.Array, domain: Domain, rows: Float[Array, "N d"], operators: Operators
) -> tuple[Int[Array, " p"], Int[Array, " p"], Float[Array, " p"]]:
    """Of each candidate the row, the column and the new value; mutations first."""
    m, p = operators.mutations, operators.mutations + operators.crossovers
    n, d = rows.shape
    places, values, noise = jax.random.split(key, 3)
    at, column, other = (
        # a uniform number times a count may round up to the count
        jnp.minimum((u * count).astype(jnp.int32), count - 1)
        for u, count in zip(jax.random.uniform(places, (3, p), rows.dtype), (n, d, n), strict=True)
    )
    size = jnp.array(domain.sizes)[column]
    u = jax.random.uniform(values, (m,), rows.dtype)
    drawn = jnp.where(size[:m] > 0, jnp.minimum(jnp.floor(u * size[:m]), size[:m] - 1), u)
    copied = rows[other[m:], column[m:]]
    shaken = jnp.clip(copied + operators.noise * jax.random.normal(noise, (p - m,), rows.dtype), 0, 1)
    return at, column, jnp.concatenate([drawn, jnp.where(size[m:] > 0, copied, shaken)]).astype(rows.dtype)


def fitness(
    queries: Queries, targets: Float[Array, " q"], weights: Float[Array, " q"], state: State
) -> Float[Array, ""]:
    """The squared error of the state's answers, from its counts."""
    return jnp.sum(weights * (state.counts[:-1].astype(state.rows.dtype) / len(state.rows) - targets) ** 2)


def genetic_search(
    key: jax.Array,
    queries: Queries,
    targets: Float[Array, " q"],
    num_rows: int = 1000,
    generations: int = 20_000,
    *,
    weights: Float[Array, " q"] | None = None,
    init: Float[Array, "num_rows d"] | None = None,
    operators: Operators | Bandit = DEFAULT,
    stop: float | None = 1e-4,
) -> Found:
    r"""Search for a table `X` of `num_rows` rows that minimizes :math:`\sum_q w_q (q(X) - t_q)^2`.

    Each generation draws candidates (`Operators`, `Bandit`), and the best one replaces the table if it is strictly
    better. No derivative is needed, so that queries may be steps. It looks at no data but the targets: it may be run as
    often as one likes, with any key but the measurements'. It can be compiled, and mapped over keys, targets and
    weights.

    Parameters
    ----------
    key
        For the start and the candidates.
    queries
        Those that the targets answer.
    targets
        `t`, shares of rows. They need not be consistent, in which case no table reaches them.
    num_rows
        `N`: the answers of a table are multiples of `1/N`.
    generations
        At most so many; with none the start is returned.
    weights
        `w`, one for each query if they are not given; a query with weight zero does not count.
    init
        The start; by default rows that are uniform over the domain.
    operators
        How candidates are made: a fixed mixture of mutations and crossovers, or a `Bandit`, which learns which family
        of changes succeeds.
    stop
        After each `num_rows` generations the search ends if they brought the fitness down by no more than this share of
        it; with `None` it never does.

    Returns
    -------
    Found
        Rows, the fitness on the way, how many generations there were, and a bandit's weights.

    Raises
    ------
    ValueError
        Where `num_rows` is less than one, `generations` or a weight is negative, a shape does not fit, or a target that
        is known is not finite.

    References
    ----------
    Liu, Tang, Vietri and Wu, "Generating private synthetic data with genetic algorithms", ICML 2023 (arXiv 2306.03257).
    """
    at_least("num_rows", num_rows, 1)
    at_least("generations", generations, 0)
    q, d = (queries.num_queries,), len(queries.domain.columns)
    same_shape("targets", targets, "the queries", q)
    finite("targets", targets)
    weights = jnp.ones(q) if weights is None else jnp.asarray(weights)
    same_shape("weights", weights, "the queries", q)
    not_negative("weights", weights)
    if stop is not None:
        not_negative("stop", stop)
    if init is None:
        init_key, key = jax.random.split(key)
        init = queries.domain.uniform(init_key, (num_rows,))
    same_shape("init", init, "num_rows rows of the domain", (num_rows, d))
    finite("init", init)
    rows = jnp.asarray(init)
    of_rows = lambda one: jnp.asarray(one, rows.dtype)
    return _search(
        key,
        queries,
        of_rows(targets),
        of_rows(weights),
        rows,
        None if stop is None else of_rows(stop),
        generations,
        operators,
    )


@partial(jax.jit, static_argnames=("generations", "operators"))
def _search(
    key: jax.Array,
    queries: Queries,
    targets: jax.Array,
    weights: jax.Array,
    rows: jax.Array,
    stop: jax.Array | None,
    generations: int,
    operators: Operators | Bandit,
) -> Found:
    n = len(rows)
    blocks = -(-generations // n)
    state = start(queries, rows)
    trace = jnp.full(blocks + 1, fitness(queries, targets, weights, state))

    type Carry = tuple[jax.Array, jax.Array, State, jax.Array, jax.Array]

    def one(t: jax.Array, now: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
        state, logs = now
        chance = jax.random.fold_in(key, t)
        if isinstance(operators, Bandit):
            return bandit_step(chance, queries, targets, weights, state, logs, operators)
        return step(chance, queries, targets, weights, state, operators), logs

    def block(carry: Carry) -> Carry:
        i, trace, state, logs, _ = carry
        state, logs = jax.lax.fori_loop(i * n, jnp.minimum((i + 1) * n, generations), one, (state, logs))
        # counted again: a row on the very edge of a half-space may round to either side of it
        state = start(queries, state.rows)._replace(accepted=state.accepted)
        now = fitness(queries, targets, weights, state)
        over = jnp.asarray(False) if stop is None else trace[i] - now <= stop * trace[i]
        trace = jnp.where(jnp.arange(blocks + 1) > i, now, trace)
        return i + 1, trace, state, logs, over

    going = lambda carry: (carry[0] < blocks) & ~carry[4]
    logs = operators.start(queries.domain) if isinstance(operators, Bandit) else jnp.zeros(0)
    begin = (jnp.zeros((), jnp.int32), trace, state, logs, jnp.asarray(False))
    i, trace, state, logs, _ = jax.lax.while_loop(going, block, begin)
    return Found(state.rows, trace, jnp.minimum(i * n, generations), state.accepted, jnp.exp(logs))
