"""Tune the strength of each weight's penalty by gradient descent on the validation loss of a logistic regression."""

import jax
import jax.numpy as jnp

import dini

SAMPLES, FEATURES, INFORMATIVE = 120, 8, 2


def data(key):
    """Labels that depend on the first features only."""
    keys = jax.random.split(key)
    X = jax.random.normal(keys[0], (2 * SAMPLES, FEATURES))
    noise = 0.5 * jax.random.normal(keys[1], (2 * SAMPLES,))
    y = jnp.sign(X[:, :INFORMATIVE].sum(1) + noise)
    return (X[:SAMPLES], y[:SAMPLES]), (X[SAMPLES:], y[SAMPLES:])


def loss(w, X, y):
    """Mean logistic loss."""
    return jnp.mean(jax.nn.softplus(-y * (X @ w)))


def objective(w, log_strengths, X, y):
    """What training minimizes."""
    return loss(w, X, y) + 0.5 * jnp.sum(jnp.exp(log_strengths) * w**2)


def main():
    """Print the validation loss along the way and the strengths at the end."""
    train, validation = data(jax.random.key(0))

    @jax.jit
    @jax.value_and_grad
    def outer(log_strengths):
        w = dini.minimize(objective, jnp.zeros(FEATURES), log_strengths, *train).x
        return loss(w, *validation)

    log_strengths = jnp.full(FEATURES, -2.0)
    first, _ = outer(log_strengths)
    for _ in range(30):
        value, gradient = outer(log_strengths)
        log_strengths = log_strengths - 20.0 * gradient
    print(f"validation loss {first:.4f} -> {value:.4f}")
    print("strengths", jnp.exp(log_strengths).round(3))
    assert value < first
    assert log_strengths[:INFORMATIVE].max() < log_strengths[INFORMATIVE:].max()


if __name__ == "__main__":
    main()
