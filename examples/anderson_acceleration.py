"""Loops of your own, accelerated: python examples/anderson_acceleration.py anderson_acceleration.png."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets, linear_model, preprocessing

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

tumors, kind = datasets.load_breast_cancer(return_X_y=True)
Z, s = jnp.array(preprocessing.scale(tumors)), jnp.array(2.0 * kind - 1.0)
patients, progress = datasets.load_diabetes(return_X_y=True)
X, y = jnp.array(preprocessing.scale(patients)), jnp.array(preprocessing.scale(progress))


# --8<-- [start:loops]
def descent(w, strength):
    """One step of gradient descent for a logistic regression, in existing code."""
    gradient = -(s * jax.nn.sigmoid(-s * (Z @ w))) @ Z / len(s) + strength * w
    return w - gradient / (0.25 * jnp.linalg.norm(Z, 2) ** 2 / len(s) + strength)


def epoch(w, strength):
    """One epoch of coordinate descent for a Lasso, in existing code."""

    def one(j, carry):
        w, residual = carry
        x = X[:, j]
        moved = w[j] + x @ residual / (x @ x)
        new = jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - strength * len(y) / (x @ x), 0.0)
        return w.at[j].set(new), residual + (w[j] - new) * x

    return jax.lax.fori_loop(0, len(w), one, (w, y - X @ w))[0]


def accelerated(loop, start, strength, solver):
    """Return what a loop converges to, for a solver of fixed points."""
    return dini.fixed_point(loop, start, strength, solver=solver, monitor=dini.Record(20_000))


# --8<-- [end:loops]
def truths(name, strength):
    """Return scikit-learn's weights."""
    if name == "gradient descent":
        model = linear_model.LogisticRegression(
            C=1 / (strength * len(s)), fit_intercept=False, solver="newton-cholesky", tol=1e-12
        )
        return model.fit(np.asarray(Z), np.asarray(s)).coef_[0]
    model = linear_model.Lasso(alpha=strength, fit_intercept=False, tol=1e-12, max_iter=100_000)
    return model.fit(np.asarray(X), np.asarray(y)).coef_


def closed_form(name, w, strength):
    """Return the derivative of the weights in the strength, from the condition of the problem."""
    if name == "gradient descent":
        share = jax.nn.sigmoid(s * (Z @ w))
        return -jnp.linalg.solve((Z.T * (share * (1 - share))) @ Z / len(s) + strength * jnp.eye(len(w)), w)
    support = jnp.flatnonzero(w)
    gram = X[:, support].T @ X[:, support] / len(y)
    return jnp.zeros_like(w).at[support].set(-jnp.linalg.solve(gram, jnp.sign(w[support])))


def main():
    """Run both loops plainly and accelerated, check solutions and derivatives, and draw where a file is named."""
    solvers = {
        "plain": dini.FixedPointIteration(rtol=0.0, atol=1e-10, max_steps=20_000),
        "accelerated": dini.Anderson(rtol=0.0, atol=1e-10, history=8, max_steps=20_000),
    }
    histories = {}
    for name, loop, start, strength in (
        ("gradient descent", descent, jnp.zeros(Z.shape[1]), 1e-2),
        ("coordinate descent", epoch, jnp.zeros(X.shape[1]), 1e-3),
    ):
        for how, solver in solvers.items():
            found = jax.jit(accelerated, static_argnums=0)(loop, start, strength, solver)
            taken = int(found.stats.steps)
            apart = float(jnp.abs(found.x - truths(name, strength)).max())
            print(f"{name}, {how}: {taken} steps, weights {apart:.0e} from scikit-learn's")
            assert apart < 1e-5
            histories[name, how] = found.history["error"][:taken]
        slope = jax.jit(jax.jacfwd(lambda t: accelerated(loop, start, t, solver).x))(strength)  # noqa: B023
        exact = closed_form(name, found.x, strength)
        wrong = float(jnp.abs(slope - exact).max() / jnp.abs(exact).max())
        print(f"  derivative in the strength: {wrong:.0e} from the closed form, relatively")
        assert wrong < 1e-5
        assert len(histories[name, "accelerated"]) < len(histories[name, "plain"])
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], histories)


def draw(path, histories):
    """Draw how far a step moves, for both loops, plain and accelerated."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    colors = {"gradient descent": "#0072B2", "coordinate descent": "#D55E00"}
    for (name, how), errors in histories.items():
        style = "--" if how == "plain" else "-"
        axis.loglog(
            1 + np.arange(len(errors)), errors, style, color=colors[name], linewidth=2.2, label=f"{name}, {how}"
        )
    axis.set(xlabel="step", ylabel="how far a step moves", title="Two loops, plain and accelerated")
    axis.legend(fontsize=10, loc="lower left")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
