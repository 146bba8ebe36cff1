"""Digits as sums of parts: python examples/nonnegative_factorization.py nonnegative_factorization.png."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets, decomposition

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

PARTS, SAMPLES = 8, 100
images = datasets.load_digits().data[:SAMPLES] / 16
PIXELS = np.flatnonzero(images.max(axis=0) > 0)  # the others are empty in all images
X = jnp.array(images[:, PIXELS])


# --8<-- [start:factors]
def objective(factors, log_strength):
    """Half the squared error of the product, with a penalty that settles how a part and its shares are scaled."""
    penalty = sum(jnp.sum(factor**2) for factor in factors.values())
    return 0.5 * jnp.sum((factors["shares"] @ factors["parts"] - X) ** 2) + 0.5 * jnp.exp(log_strength) * penalty


problem = dini.Minimize(objective, constraint=dini.sets.NonNegative())


def factors(log_strength, start, solver):
    """Return shares and parts, both nonnegative."""
    return dini.solve(problem, solver, start, log_strength, monitor=dini.Record(4000))


def reconstruction(log_strength, start, solver):
    """The squared error of the product, a sample, as a function of the penalty's strength."""
    found = factors(log_strength, start, solver).x
    return jnp.sum((found["shares"] @ found["parts"] - X) ** 2) / SAMPLES


# --8<-- [end:factors]
def main():
    """Factorize by two methods, compare with scikit-learn, check the derivative, and draw where a file is named."""
    keys = jax.random.split(jax.random.key(0))
    scale = jnp.sqrt(X.mean() / PARTS)
    start = {
        "shares": scale * jnp.abs(jax.random.normal(keys[0], (SAMPLES, PARTS))),
        "parts": scale * jnp.abs(jax.random.normal(keys[1], (PARTS, X.shape[1]))),
    }
    t = jnp.log(0.1)
    solvers = {
        "block coordinate descent": dini.BlockCoordinateDescent(rtol=1e-5, max_steps=4000),
        "projected gradient": dini.ProjectedGradient(rtol=1e-5, max_steps=4000),
    }
    peer = decomposition.NMF(
        PARTS, init="custom", alpha_W=0.1 / X.shape[1], alpha_H=0.1 / SAMPLES, l1_ratio=0.0, tol=1e-7, max_iter=20_000
    )
    given = {"W": np.array(start["shares"]), "H": np.array(start["parts"])}
    shares = peer.fit_transform(np.asarray(X), **given)
    other = float(objective({"shares": jnp.array(shares), "parts": jnp.array(peer.components_)}, t))
    print(f"{'scikit-learn':26s} {peer.n_iter_:5d} steps, objective {other:.6f}")
    histories = {}
    for name, solver in solvers.items():
        found = jax.jit(factors)(t, start, solver)
        taken = int(found.stats.steps)
        print(f"{name:26s} {taken:5d} steps, objective {found.value:.6f}")
        histories[name] = found.history["error"][:taken]
        assert found.value < 1.02 * other
    precise = dini.ProjectedNewton(rtol=1e-9)
    at = jax.jit(factors)(t, found.x, precise).x
    value_and_slope = jax.jit(jax.value_and_grad(reconstruction))
    value, slope = value_and_slope(t, at, precise)
    ends = [value_and_slope(t + step, at, precise)[0] for step in (1e-3, -1e-3)]
    error = abs(float((ends[0] - ends[1]) / 2e-3 / slope) - 1)
    print(f"squared error {value:.4f} a sample, its slope in the log strength {slope:.4f}")
    empty = 100 * float(jnp.mean(at["shares"] == 0))
    print(f"  {error:.0e} from differences, relatively; {empty:.0f} % of the shares are zero")
    assert error < 1e-5
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], at, histories)


def draw(path, found, histories):
    """Draw the parts, and the error along each method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure = plt.figure(figsize=(6.4, 3.8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.2])
    for part, axis in zip(found["parts"], left.subplots(4, 2).flat, strict=True):
        image = np.zeros(64)
        image[PIXELS] = part
        axis.imshow(image.reshape(8, 8), cmap="Greys")
        axis.set(xticks=[], yticks=[])
    left.suptitle("eight parts")
    axis = right.subplots()
    for (name, along), color in zip(histories.items(), ("#D55E00", "#0072B2"), strict=True):
        axis.loglog(1 + np.arange(len(along)), along, color=color, linewidth=2, label=name)
    axis.set(xlabel="step", title="optimality error")
    axis.legend(fontsize=9, loc="lower left")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
