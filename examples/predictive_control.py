"""Model-predictive control with a learned cost: what an expert cares for, from what the expert does."""

import jax
import jax.numpy as jnp

import dini

jax.config.update("jax_enable_x64", True)

STEPS = 8
A, B = jnp.array([[1.0, 0.5], [0.0, 1.0]]), jnp.array([0.125, 0.5])

# the states of a cart (position, speed) over the horizon are free @ state + forced @ inputs
powers = [jnp.eye(2)]
for _ in range(STEPS):
    powers.append(A @ powers[-1])
free = jnp.concatenate(powers[1:])
forced = jnp.zeros((2 * STEPS, STEPS))
for i in range(STEPS):
    for j in range(i + 1):
        forced = forced.at[2 * i : 2 * i + 2, j].set(powers[i - j] @ B)


def plan(weights, state):
    """Return the inputs, each at most one, of least cost: weighted squares of the states, and squares of the inputs."""
    cost = jnp.tile(weights, STEPS)
    Q = forced.T @ (cost[:, None] * forced) + jnp.eye(STEPS)
    c = forced.T @ (cost * (free @ state))
    return dini.quadratic_program(Q=Q, c=c, lower=-1.0, upper=1.0).x


plans = jax.vmap(plan, in_axes=(None, 0))
states = 2 * jax.random.normal(jax.random.key(0), (6, 2))
expert = jnp.array([3.0, 0.5])


def imitation(logarithms):
    """Return how far the first inputs are from the expert's."""
    return jnp.mean((plans(jnp.exp(logarithms), states) - plans(expert, states)) ** 2)


def main():
    """Learn the weights, and print them."""
    held = jnp.mean(jnp.abs(plans(expert, states)) == 1)
    print(f"the expert's inputs are at a bound in {100 * held:.0f} % of the steps")
    learned = dini.minimize(imitation, jnp.zeros(2), solver=dini.BFGS())
    weights = jnp.exp(learned.x)
    print(f"weights of position and speed: {weights[0]:.4f} and {weights[1]:.4f} (the expert's: 3 and 0.5)")
    before, steps = imitation(jnp.zeros(2)), learned.stats.steps
    print(f"imitation error {before:.1e} before, {learned.value:.1e} after {steps} steps")
    assert jnp.abs(weights - expert).max() < 1e-3


if __name__ == "__main__":
    main()
