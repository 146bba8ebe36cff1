"""What an expert cares for, learned from what it does: python examples/predictive_control.py predictive_control.png."""

import sys

import jax
import jax.numpy as jnp

import dini

dini.keep_programs()
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


# --8<-- [start:plan]
def plan(weights, state):
    """Return the inputs, each at most one, of least cost: weighted squares of the states, and squares of the inputs."""
    cost = jnp.tile(weights, STEPS)
    Q = forced.T @ (cost[:, None] * forced) + jnp.eye(STEPS)
    c = forced.T @ (cost * (free @ state))
    return dini.quadratic_program(Q=Q, c=c, lower=-1.0, upper=1.0).x


plans = jax.vmap(plan, in_axes=(None, 0))
# --8<-- [end:plan]
states = 2 * jax.random.normal(jax.random.key(0), (6, 2))
expert = jnp.array([3.0, 0.5])


# --8<-- [start:imitation]
def imitation(logarithms, shown):
    """Return how far the inputs are from those that the expert has shown."""
    return jnp.mean((plans(jnp.exp(logarithms), states) - shown) ** 2)


def learned(shown):
    """Return the weights whose plans are nearest to what was shown, with the error and the number of steps."""
    found = dini.minimize(imitation, jnp.zeros(2), shown, solver=dini.BFGS())
    return jnp.exp(found.x), found.value, found.stats.steps


# --8<-- [end:imitation]


def drive(weights, state, steps=16):
    """Return the positions and inputs of a cart that plans again after each input."""

    def move(state, _):
        first = plan(weights, state)[0]
        return A @ state + B * first, (state[0], first)

    return jax.lax.scan(move, state, None, length=steps)[1]


def main():
    """Learn the weights from plans without and with noise, check a derivative, and draw where a file is named."""
    shown = jax.jit(plans)(expert, states)
    print(f"the expert's inputs are at a bound in {100 * jnp.mean(jnp.abs(shown) == 1):.0f} % of the steps")
    error_and_slope, learn = jax.jit(jax.value_and_grad(imitation)), jax.jit(learned)
    before, slope = error_and_slope(jnp.zeros(2), shown)
    around = [[error_and_slope(step * unit, shown)[0] for step in (1e-4, -1e-4)] for unit in jnp.eye(2)]
    wrong = jnp.abs(slope - jnp.array([(high - low) / 2e-4 for high, low in around])).max() / jnp.abs(slope).max()
    print(f"derivative of the imitation error: {wrong:.0e} from differences, relatively")
    weights, error, steps = learn(shown)
    print(f"weights of position and speed: {weights[0]:.4f} and {weights[1]:.4f} (the expert's: 3 and 0.5)")
    print(f"imitation error {before:.1e} before, {error:.1e} after {steps} steps")
    noisy, error, _ = learn(shown + 0.1 * jax.random.normal(jax.random.key(1), shown.shape))
    print(f"from plans with noise of size 0.1: {noisy[0]:.2f} and {noisy[1]:.2f}, error {error:.3f}")
    assert wrong < 1e-5
    assert jnp.abs(weights - expert).max() < 1e-3
    assert jnp.abs(noisy - expert).max() < 1.0
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        start, names = jnp.array([3.0, 0.0]), {"expert": expert, "learned": weights, "before": jnp.ones(2)}
        draw(sys.argv[1], {name: drive(weights, start) for name, weights in names.items()})


def draw(path, runs):
    """Draw positions and inputs of a cart under each of the weights."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 4.0), layout="constrained", sharex=True)
    looks = {
        "expert": {"color": "#56B4E9", "linewidth": 6},
        "learned": {"color": "black", "linewidth": 1.8},
        "before": {"color": "#D55E00", "linewidth": 2, "linestyle": "--"},
    }
    for name, (positions, inputs) in runs.items():
        axes[0].plot(positions, label=name, **looks[name])
        axes[1].step(range(len(inputs)), inputs, where="post", **looks[name])
    for bound in (-1, 1):
        axes[1].axhline(bound, color="0.6", linewidth=1, linestyle=":")
    axes[0].set(ylabel="position", title="A cart under the expert's, learned and first weights")
    axes[1].set(ylabel="input", xlabel="step")
    axes[0].legend(fontsize=11)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
