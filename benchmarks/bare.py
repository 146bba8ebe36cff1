"""The least that two methods need: textbook loops in plain JAX, without checks, safeguards, statuses or derivatives.

They are floors for compilation and for the cost of a step: backtracking from step one until the objective falls, an
update where the curvature is positive, the gradient's norm as the test.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def _minimize(fun, x, tol, max_steps, empty, update):
    value_and_grad = jax.value_and_grad(fun)
    value, gradient = value_and_grad(x)

    def more(carry):
        return (jnp.linalg.norm(carry[2]) > tol) & (carry[-1] < max_steps)

    def body(carry):
        x, value, gradient, direction, t, model, steps = carry
        trial = x + t * direction
        new, slope = value_and_grad(trial)
        falls = new <= value + 1e-4 * t * (gradient @ direction)
        model, ahead = update(model, trial - x, slope - gradient, slope, falls)
        one = (trial, new, slope, ahead, jnp.ones_like(t))
        other = (x, value, gradient, direction, 0.5 * t)
        return (*(jnp.where(falls, a, b) for a, b in zip(one, other, strict=True)), model, steps + 1)

    start = (x, value, gradient, -gradient, jnp.ones_like(value), empty(x), 0)
    end = jax.lax.while_loop(more, body, start)
    return end[0], end[-1]


def bfgs(fun, x, tol, max_steps):
    """Return the point where BFGS ends, and its number of steps."""

    def update(H, s, y, g, falls):
        sy = s @ y
        keep = falls & (sy > 0)
        rho = jnp.where(keep, 1 / jnp.where(keep, sy, 1), 0)
        Hy = H @ y
        H = H - rho * (jnp.outer(Hy, s) + jnp.outer(s, Hy)) + rho * (1 + rho * (y @ Hy)) * jnp.outer(s, s)
        return H, -(H @ g)

    return _minimize(fun, x, tol, max_steps, lambda x: jnp.eye(x.size, dtype=x.dtype), update)


def lbfgs(fun, x, tol, max_steps, history=10):
    """Return the point where L-BFGS ends (by the two-loop recursion), and its number of steps."""

    def empty(x):
        store = jnp.zeros((history, x.size), x.dtype)
        return store, store, jnp.zeros(history, x.dtype), 0

    def update(model, s, y, g, falls):
        S, Y, rho, count = model
        sy = s @ y
        keep = falls & (sy > 0)
        slot = count % history
        S, Y = S.at[slot].set(jnp.where(keep, s, S[slot])), Y.at[slot].set(jnp.where(keep, y, Y[slot]))
        rho = rho.at[slot].set(jnp.where(keep, 1 / jnp.where(keep, sy, 1), rho[slot]))
        count = count + keep

        def back(i, carry):
            q, weights = carry
            j = (count - 1 - i) % history
            weight = rho[j] * (S[j] @ q)
            return q - weight * Y[j], weights.at[j].set(weight)

        def forth(i, q):
            j = (count + i) % history
            return q + S[j] * (weights[j] - rho[j] * (Y[j] @ q))

        q, weights = jax.lax.fori_loop(0, history, back, (g, jnp.zeros_like(rho)))
        last = (count - 1) % history
        yy = Y[last] @ Y[last]
        q = jnp.where(yy > 0, S[last] @ Y[last] / jnp.where(yy > 0, yy, 1), 1) * q
        return (S, Y, rho, count), -jax.lax.fori_loop(0, history, forth, q)

    return _minimize(fun, x, tol, max_steps, empty, update)
