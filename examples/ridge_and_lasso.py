"""Ridge and Lasso tuned by hypergradients: python examples/ridge_and_lasso.py ridge_and_lasso.png."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets, linear_model, model_selection, preprocessing

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

# 440 patients in a random order; ten features and their products
features, target = datasets.load_diabetes(return_X_y=True)
order = np.random.default_rng(0).permutation(len(target))[:440]
made = preprocessing.PolynomialFeatures(2, interaction_only=True, include_bias=False).fit_transform(features)
X, y = jnp.array(preprocessing.scale(made[order])), jnp.array(preprocessing.scale(target[order]))

# --8<-- [start:scores]
ridge = dini.Minimize(lambda w, t, d: 0.5 * jnp.mean((d[0] @ w - d[1]) ** 2) + 0.5 * jnp.exp(t) * jnp.sum(w**2))
fit = dini.LinearComposite(lambda z, w, d: 0.5 * jnp.mean((z - d[1]) ** 2), lambda d: d[0].T)
lasso = lambda t: dini.Minimize(fit, penalty=dini.penalties.L1(jnp.exp(t)))
MODELS = {"ridge": (ridge, dini.Newton()), "Lasso": (lasso, dini.CoordinateDescent())}


def score(t, name):
    """The mean squared error of five-fold cross-validation at the strength `exp(t)`."""
    problem, solver = MODELS[name]
    error = lambda w, t, d: jnp.mean((d[0] @ w - d[1]) ** 2)
    return dini.bilevel.k_fold(error, problem, t, jnp.zeros(X.shape[1]), (X, y), solver=solver)


def tuned(low, high, name):
    """Where the score's slope is zero, or jumps over zero at a corner: a root in a bracket, of an exact derivative."""
    slope = lambda t: jax.grad(score)(t, name)
    solver = dini.Chandrupatla(low, high, rtol=1e-8)
    return dini.root(slope, 0.5 * (low + high), solver=solver, on_failure="ignore")  # a corner is one: DISCONTINUOUS


# --8<-- [end:scores]


def peers(name, strengths):
    """Return the scores of scikit-learn's estimator, by the same folds."""

    def model(strength):
        if name == "ridge":
            return linear_model.Ridge(alpha=352 * strength, fit_intercept=False)
        return linear_model.Lasso(alpha=strength, fit_intercept=False, tol=1e-9, max_iter=1_000_000)

    given = (np.asarray(X), np.asarray(y))
    how = {"cv": model_selection.KFold(5), "scoring": "neg_mean_squared_error"}
    return [-model_selection.cross_val_score(model(strength), *given, **how).mean() for strength in strengths]


def main():
    """Print both tuned strengths with their checks, and draw the scores with tangents where a file is named."""
    curves = {}
    for name, (low, high) in {"ridge": (-6.0, 4.0), "Lasso": (-5.0, -1.0)}.items():
        value_and_slope = jax.jit(jax.value_and_grad(score), static_argnums=1)
        grid = np.linspace(low, high, 9)
        values, slopes = np.array([value_and_slope(t, name) for t in grid], dtype=float).T
        # the least of a coarse grid has its neighbor on the side where the slope says that the score falls
        least = int(values.argmin())
        left = least - 1 if slopes[least] > 0 else least
        found = jax.jit(tuned, static_argnums=2)(grid[left], grid[left + 1], name)
        apart = np.abs(values - peers(name, np.exp(grid))).max()
        ends = np.array([[value_and_slope(t + step, name)[0] for step in (1e-5, -1e-5)] for t in grid], dtype=float)
        wrong = np.abs((ends[:, 0] - ends[:, 1]) / 2e-5 - slopes).max() / np.abs(slopes).max()
        best = float(value_and_slope(found.x, name)[0])
        status = dini.Status(int(found.status))
        print(f"{name}: error {best:.4f} at strength {np.exp(found.x):.4f}, {found.stats.steps} slopes, {status.name}")
        print(f"  scores {apart:.0e} from scikit-learn's, slopes {wrong:.0e} from differences, relatively")
        print(f"  best of the nine strengths of a grid: {values.min():.4f}")
        assert status in (dini.Status.CONVERGED, dini.Status.DISCONTINUOUS)
        assert apart < 1e-6
        assert wrong < 1e-5
        assert best <= values.min()
        curves[name] = (grid, values, slopes, float(found.x), best)
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], curves)


def draw(path, curves):
    """Draw both scores, with the tangents at the grid's points and the minimum."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for (name, (grid, values, slopes, t, best)), color in zip(curves.items(), ("#0072B2", "#D55E00"), strict=True):
        fine = np.linspace(grid[0], grid[-1], 101)
        fine_values = jax.jit(jax.vmap(functools.partial(score, name=name)))(fine)
        axis.plot(np.exp(fine), fine_values, color=color, linewidth=2.5, label=name)
        for at, height, slope in zip(grid, values, slopes, strict=True):
            ends = np.array([-0.35, 0.35])
            axis.plot(np.exp(at + ends), height + slope * ends, color="k", linewidth=1.5, zorder=3)
        axis.plot(np.exp(t), best, "*", color=color, markersize=16, markeredgecolor="k", zorder=4)
    axis.set(xscale="log", xlabel="strength", ylabel="error of cross-validation", ylim=(0.48, 0.8))
    axis.set_title("Scores, and slopes at a grid's points")
    axis.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
