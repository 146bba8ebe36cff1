"""Follow a Lasso path and its derivative in the strength, beside the closed form on the support."""

import jax
import jax.numpy as jnp

import dini

jax.config.update("jax_enable_x64", True)

keys = jax.random.split(jax.random.key(0))
X = jax.random.normal(keys[0], (40, 12)) / jnp.sqrt(40)
y = X[:, :4] @ jnp.array([3.0, -2.0, 1.5, -1.0]) + 0.1 * jax.random.normal(keys[1], (40,))

objective = dini.LinearComposite(lambda z, w: 0.5 * jnp.sum((z - y) ** 2), lambda: X.T)


def lasso(strength):
    """Return the weights for one strength, by coordinate descent."""
    problem = dini.Minimize(objective, penalty=dini.penalties.L1(strength))
    return dini.solve(problem, dini.BlockCoordinateDescent(), jnp.zeros(12)).x


def closed_form(w):
    """On the support S the derivative is -(X_S^T X_S)^{-1} sign(w_S), elsewhere zero."""
    support = jnp.flatnonzero(w)
    gram = X[:, support].T @ X[:, support]
    return jnp.zeros(12).at[support].set(-jnp.linalg.solve(gram, jnp.sign(w[support])))


def main():
    """Print one line a strength."""
    print("strength  support  |dw/dstrength|  error")
    value_and_slope = jax.jit(lambda strength: jax.jvp(lasso, (strength,), (1.0,)))
    for strength in (1.0, 0.5, 0.2, 0.1, 0.05):
        w, dw = value_and_slope(strength)
        error = jnp.abs(dw - closed_form(w)).max()
        print(f"{strength:8.2f}  {int((w != 0).sum()):7d}  {jnp.linalg.norm(dw):14.4f}  {error:.1e}")
        assert error < 1e-6


if __name__ == "__main__":
    main()
