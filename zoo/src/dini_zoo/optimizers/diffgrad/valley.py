"""A narrow valley: least squares on real data, all of it in every gradient, so that nothing is random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dini_zoo.kit.data import diabetes


@dataclass(frozen=True)
class Valley:
    r"""The excess :math:`\frac12 (w - w_\star)^\top H (w - w_\star)` of a least-squares fit."""

    H: Float[np.ndarray, "p p"]
    solution: Float[np.ndarray, " p"]

    @classmethod
    def of_diabetes(cls) -> Valley:
        """The mean squared error, halved, of a linear model of the 442 patients; all columns are standardized."""
        X, y, _ = diabetes()
        X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
        H = X.T @ X / len(X)
        return cls(H, np.linalg.solve(H, X.T @ y / len(X)))

    @property
    def condition(self) -> float:
        """The greatest curvature over the least."""
        return float(np.linalg.cond(self.H))

    def updates_needed(
        self,
        kind: Callable[[Array], optax.GradientTransformation],
        rates: Sequence[float],
        scale: float,
        *,
        share: float,
        limit: int,
    ) -> Int[np.ndarray, " rates"]:
        """Updates from zero until the excess stays below a share of the first, for each learning rate.

        The optimizer `kind(rate)` is given the gradients times `scale`. Where so many do not do, it is one more than
        the `limit`.
        """
        H, solution = jnp.asarray(self.H), jnp.asarray(self.solution)

        def descent(rate: Array) -> Array:
            optimizer = kind(rate)

            def step(carried: tuple[Array, optax.OptState], _: None) -> tuple[tuple[Array, optax.OptState], Array]:
                w, state = carried
                gradient = H @ (w - solution)
                change, state = optimizer.update(scale * gradient, state, w)
                return (w + jnp.asarray(change), state), 0.5 * gradient @ (w - solution)

            start = jnp.zeros_like(solution)
            return jax.lax.scan(step, (start, optimizer.init(start)), length=limit + 1)[1]

        excess = np.asarray(jax.jit(jax.vmap(descent))(jnp.asarray(rates)))
        # what is not a number has not arrived
        late = ~(excess <= share * excess[:, :1])
        return np.where(late.any(axis=1), limit + 1 - np.argmax(late[:, ::-1], axis=1), 0)
