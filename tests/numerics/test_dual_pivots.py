"""The complementarity problem behind the dual active-set method."""

import jax
import jax.numpy as jnp
import numpy as np

from dini.numerics.dual_pivots import dual_pivots


def test_pivots_solve_the_complementarity_problem():
    """With equal and with dependent rows, none that is violated, rows that do not exist, and at their limit."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 6, 3))
    rows[:, 4] = rows[:, 3]
    D = jnp.asarray(np.einsum("kij,klj->kil", rows, rows) + 1e-6 * np.eye(6))
    r, there = jnp.asarray(rng.standard_normal((50, 6))), jnp.asarray(rng.random((50, 6)) < 0.8)
    r = r.at[0].set(1.0)
    end = jax.jit(jax.vmap(lambda D, r, rows: dual_pivots(D, r, rows, 100)))(D, r, there)
    slack = np.where(there, r + np.einsum("kij,kj->ki", D, end.w), 0)
    assert bool(end.done.all())
    assert slack.min() >= -1e-12 * np.asarray(end.w).max()
    assert np.asarray(end.w).min() >= 0
    assert not np.asarray(end.w)[~np.asarray(there)].any()
    assert np.abs(slack * end.w).max() <= 1e-8 * np.asarray(end.w).max()
    assert int(end.pivots[0]) == 1
    assert not bool(dual_pivots(D[1], r[1] - 1, jnp.ones(6, bool), 1).done)
