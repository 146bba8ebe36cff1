"""Train a tiny deep equilibrium model: its layer is the fixed point of a map with weights."""

import jax
import jax.numpy as jnp

import dini

WIDTH = 8


def cell(z, x, weights):
    """One application of the layer; the weight matrix is scaled to be a contraction."""
    W = 0.8 * weights["W"] / jnp.maximum(jnp.linalg.norm(weights["W"]), 1.0)
    return jnp.tanh(W @ z + weights["U"] * x + weights["b"])


def model(weights, x):
    """Return the output for one number."""
    z = dini.fixed_point(cell, jnp.zeros(WIDTH), x, weights, solver=dini.Anderson(rtol=1e-5)).x
    return weights["v"] @ z


def loss(weights, x, y):
    """Mean squared error over a batch."""
    return jnp.mean((jax.vmap(model, (None, 0))(weights, x) - y) ** 2)


def main():
    """Fit a sine and print the loss."""
    keys = jax.random.split(jax.random.key(0), 3)
    weights = {
        "W": jax.random.normal(keys[0], (WIDTH, WIDTH)),
        "U": jax.random.normal(keys[1], (WIDTH,)),
        "b": jnp.zeros(WIDTH),
        "v": 0.3 * jax.random.normal(keys[2], (WIDTH,)),
    }
    x = jnp.linspace(-2.0, 2.0, 32)
    y = jnp.sin(2 * x)
    step = jax.jit(jax.value_and_grad(loss))
    velocity = jax.tree.map(jnp.zeros_like, weights)
    first, _ = step(weights, x, y)
    for _ in range(200):
        value, gradient = step(weights, x, y)
        velocity = jax.tree.map(lambda v, g: 0.9 * v - 0.05 * g, velocity, gradient)
        weights = jax.tree.map(jnp.add, weights, velocity)
    print(f"loss {first:.4f} -> {value:.4f}")
    assert value < 0.2 * first


if __name__ == "__main__":
    main()
