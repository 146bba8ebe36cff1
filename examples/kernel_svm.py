"""A kernel machine with an intercept, its width and C tuned: python examples/kernel_svm.py kernel_svm.png."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets, model_selection, svm

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

pixels, digits = datasets.load_digits(return_X_y=True)
X, y = jnp.array(pixels / 16), jnp.array(2.0 * (digits % 2) - 1.0)  # is the digit odd?
rest, TEST = model_selection.train_test_split(np.arange(len(y)), train_size=350, stratify=digits, random_state=0)
TRAIN, VALIDATION = model_selection.train_test_split(rest, train_size=150, stratify=digits[rest], random_state=0)


# --8<-- [start:machine]
def kernel(a, b, gamma):
    """The Gaussian kernel of two sets of points."""
    return jnp.exp(-gamma * jnp.sum((a[:, None] - b[None]) ** 2, axis=-1))


def machine(gamma, C):
    """Return the products of labels and dual variables, and the intercept: the multiplier of the equality."""
    labels = y[TRAIN]
    Q = labels[:, None] * labels * kernel(X[TRAIN], X[TRAIN], gamma)
    ones, none = jnp.ones(len(labels)), jnp.zeros(1)
    dual = dini.quadratic_program(Q=Q, c=-ones, A=labels[None], b=none, lower=0.0, upper=C)
    return labels * dual.x, dual.multipliers.equality[0]


def decision(t, points):
    """Return the machine's values at points, for the logarithms of `gamma` and `C`."""
    gamma, C = jnp.exp(t)
    coefficients, intercept = machine(gamma, C)
    return kernel(points, X[TRAIN], gamma) @ coefficients + intercept


def validation_loss(t):
    """The share of errors on the digits held out, made smooth."""
    return jnp.mean(jax.nn.sigmoid(-4.0 * y[VALIDATION] * decision(t, X[VALIDATION])))


# --8<-- [end:machine]
LIMITS = dini.sets.Box(jnp.log(jnp.array([3e-3, 0.1])), jnp.log(jnp.array([1.0, 100.0])))


def tuned(start, steps=8):
    """Return the points that L-BFGS-B takes, step by step."""
    problem, solver = dini.Minimize(validation_loss, constraint=LIMITS), dini.LBFGSB()
    t, state = start, solver.init(problem, start)
    along = [t]
    for _ in range(steps):
        t, state = solver.step(problem, t, state)
        along.append(t)
        if state.error <= 1e-3:
            break
    return jnp.array(along)


def peer(t):
    """Return scikit-learn's machine, solved as exactly as it can."""
    gamma, C = map(float, jnp.exp(t))
    return svm.SVC(gamma=gamma, C=C, tol=1e-10).fit(X[TRAIN], y[TRAIN])


def violation(t):
    """Return by how much the machine's own conditions fail: margins of one, above and below it."""
    coefficients, _ = jax.jit(machine)(*jnp.exp(t))
    dual, margin = np.asarray(y[TRAIN] * coefficients), np.asarray(y[TRAIN] * jax.jit(decision)(t, X[TRAIN])) - 1
    top = float(jnp.exp(t[1]))
    inside = np.abs(margin[(dual > 0) & (dual < top)])
    return max(np.max(part, initial=0.0) for part in (inside, -margin[dual == 0], margin[dual == top]))


def main():
    """Tune the machine, compare it with scikit-learn's and with a grid, and draw where a file is named."""
    start = jnp.log(jnp.array([0.01, 1.0]))
    value_and_slope = jax.jit(jax.value_and_grad(validation_loss))
    along = tuned(start)
    best = along[-1]
    values = jax.jit(decision)
    apart = [float(jnp.abs(values(t, X[TEST]) - peer(t).decision_function(X[TEST])).max()) for t in (start, best)]
    violated = max(violation(t) for t in (start, best))
    slope = value_and_slope(start)[1]
    ends = [[value_and_slope(start + step * unit)[0] for step in (1e-5, -1e-5)] for unit in jnp.eye(2)]
    error = jnp.abs(jnp.array([(high - low) / 2e-5 for high, low in ends]) - slope).max() / jnp.abs(slope).max()
    print(f"decisions: {apart[0]:.0e} and {apart[1]:.0e} from scikit-learn's, conditions violated by {violated:.0e}")
    print(f"hypergradient: {error:.0e} from differences, relatively")
    accuracy = lambda t: 100 * float(jnp.mean(values(t, X[TEST]) * y[TEST] > 0))
    before, after = value_and_slope(start)[0], value_and_slope(best)[0]
    gamma, C = jnp.exp(best)
    print(f"validation loss {before:.4f} -> {after:.4f} in {len(along) - 1} steps, at gamma {gamma:.2g} and C {C:.2g}")
    grid = {"gamma": np.geomspace(3e-3, 1, 9), "C": np.geomspace(0.1, 100, 9)}
    split = model_selection.PredefinedSplit(np.isin(rest, TRAIN) * -1)
    searched = model_selection.GridSearchCV(svm.SVC(), grid, cv=split, refit=False).fit(X[rest], y[rest])
    by_grid = jnp.log(jnp.array([searched.best_params_["gamma"], searched.best_params_["C"]]))
    print(f"test accuracy: first {accuracy(start):.1f} %, tuned {accuracy(best):.1f} %, grid {accuracy(by_grid):.1f} %")
    print(f"the grid's choice has validation loss {value_and_slope(by_grid)[0]:.4f}, after 81 fits")
    assert apart[0] < 1e-6
    assert violated < 1e-8
    assert error < 1e-5
    assert after < before
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], along, by_grid)


def draw(path, along, by_grid):
    """Draw the validation loss over both logarithms, with the way of L-BFGS-B."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    gammas, Cs = jnp.log(10.0) * jnp.linspace(-2.5, 0, 11), jnp.log(10.0) * jnp.linspace(-1, 2, 11)
    points = jnp.stack(jnp.meshgrid(gammas, Cs), axis=-1).reshape(-1, 2)
    losses = jax.jit(lambda t: jax.lax.map(validation_loss, t))(points).reshape(11, 11)
    figure, axis = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    levels = jnp.geomspace(losses.min(), losses.max(), 16)
    filled = axis.contourf(jnp.exp(gammas), jnp.exp(Cs), losses, levels=levels, cmap="cividis_r")
    figure.colorbar(filled, label="validation loss", format="%.2f")
    axis.plot(*jnp.exp(along).T, "o-", color="white", linewidth=3, markersize=7)
    axis.plot(*jnp.exp(along).T, "o-", color="#D55E00", linewidth=1.5, markersize=5, label="L-BFGS-B")
    axis.plot(*jnp.exp(by_grid), "s", color="#56B4E9", markersize=9, label="best of a grid, by accuracy")
    axis.set(xscale="log", yscale="log", xlabel="gamma", ylabel="C", xlim=(3.2e-3, 1), ylim=(0.1, 100))
    axis.set_title("Width and C, by hypergradients")
    axis.legend(fontsize=10, loc="lower left")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
