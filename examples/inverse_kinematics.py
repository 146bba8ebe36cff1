"""Draw how an arm follows targets under a ceiling: python examples/inverse_kinematics.py inverse_kinematics.png."""

import sys

import jax
import jax.numpy as jnp

import dini

dini.keep_programs()

LENGTHS = jnp.array([1.0, 1.0, 0.7])
CEILING = 0.35


def joints(angles):
    """Return the ends of the three links."""
    directions = jnp.cumsum(angles)
    steps = LENGTHS[:, None] * jnp.stack([jnp.cos(directions), jnp.sin(directions)], axis=1)
    return jnp.cumsum(steps, axis=0)


def effort(angles, target):
    """Return half the sum of the squared angles."""
    return 0.5 * jnp.sum(angles**2)


def missed(angles, target):
    """Return by how much the tip misses the target."""
    return joints(angles)[-1] - target


def above(angles, target):
    """Return by how much the elbow is above the ceiling."""
    return joints(angles)[1, 1] - CEILING


# --8<-- [start:solve]
def angles_for(target):
    """Return the angles of least effort, and the multiplier of the ceiling."""
    start = jnp.array([0.5, 0.5, 0.5])
    limits = dini.sets.Box(-2.0, 2.0)
    solution = dini.minimize(effort, start, target, equality=missed, inequality=above, constraint=limits)
    return solution.x, solution.multipliers.inequality


# --8<-- [end:solve]


def main():
    """Solve for five targets, with derivatives, and draw them where a file is named."""
    # --8<-- [start:batch]
    targets = jnp.stack([jnp.linspace(0.8, 2.2, 5), jnp.full(5, 1.0)], axis=1)
    angles, prices = jax.jit(jax.vmap(angles_for))(targets)
    slopes = jax.jit(jax.vmap(jax.jacfwd(lambda target: angles_for(target)[0])))(targets)
    # --8<-- [end:batch]
    for target, price, slope in zip(targets, prices, slopes, strict=True):
        print(
            f"target {target.round(2)}: the ceiling costs {price:.3f}, d angles / d target_x = {slope[:, 0].round(2)}"
        )
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], targets, angles, prices)


def draw(path, targets, angles, prices):
    """Draw the arms and the ceiling; the color says what the ceiling costs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    top = max(float(prices.max()), 1e-6)
    for q, target, price in zip(angles, targets, prices, strict=True):
        ends = jnp.concatenate([jnp.zeros((1, 2)), joints(q)])
        axis.plot(*ends.T, "o-", color=plt.get_cmap("viridis")(0.85 * float(price) / top), linewidth=2.5)
        axis.plot(*target, "kx", markersize=9)
    axis.axhline(CEILING, color="0.5", linestyle="--")
    axis.text(-0.15, CEILING + 0.03, "ceiling of the elbow", color="0.4")
    axis.set(aspect="equal", xlabel="x", ylabel="y", title="Arms of least effort; yellow where the ceiling costs most")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
