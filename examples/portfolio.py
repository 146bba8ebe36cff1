"""Forecasts learned for the portfolios that they lead to: python examples/portfolio.py portfolio.png [--full]."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import linear_model

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

ASSETS, FACTORS, AVERSION = 8, 4, 2.0
SEEDS = 10 if "--full" in sys.argv else 3


def market(degree, seed):
    """Return the risk, the mean returns as a function of signals, and past signals with their noisy returns."""
    keys = jax.random.split(jax.random.key(seed), 5)
    B = jax.random.bernoulli(keys[0], 0.5, (FACTORS, ASSETS)).astype(float)
    loadings = jax.random.normal(keys[1], (ASSETS, 3)) / 2
    risk = loadings @ loadings.T + 0.1 * jnp.eye(ASSETS)
    mean = lambda z: ((z @ B / jnp.sqrt(FACTORS) + 2) ** degree - 2**degree) / (degree * 2 ** (degree - 1))
    past, future = jax.random.normal(keys[2], (300, FACTORS)), jax.random.normal(keys[3], (1000, FACTORS))
    returns = mean(past) + 0.5 * jax.random.normal(keys[4], (300, ASSETS))
    return risk, (past, returns), (future, mean(future))


# --8<-- [start:layer]
def portfolio(forecast, risk):
    """Return the weights of most utility for a forecast of the returns: no short sales, all money spent."""
    ones = jnp.ones((1, ASSETS))
    return dini.quadratic_program(Q=AVERSION * risk, c=-forecast, A=ones, b=jnp.ones(1), lower=0.0).x


def utility(forecast, returns, risk):
    """Return what a forecast's portfolio is worth, given the returns that came."""
    w = portfolio(forecast, risk)
    return returns @ w - 0.5 * AVERSION * w @ risk @ w


def forecasts(model, signals):
    """Forecasts that are linear in the signals."""
    return signals @ model["W"] + model["b"]


def loss(model, risk, signals, returns):
    """The mean utility, with its sign turned, of the portfolios of a model's forecasts."""
    return -jnp.mean(jax.vmap(utility, (0, 0, None))(forecasts(model, signals), returns, risk))


# --8<-- [end:layer]
value_and_slope = jax.jit(jax.value_and_grad(loss))
worth = jax.jit(lambda *given: jnp.mean(jax.vmap(utility, (0, 0, None))(*given)))


@jax.jit
def trained(model, risk, signals, returns):
    """Return the model after thirty steps of L-BFGS on the utility of the past."""
    return dini.minimize(loss, model, risk, signals, returns, solver=dini.LBFGS(), steps=30).x


def regrets(degree, seed):
    """Return what forecasts by least squares and forecasts learned for decisions lose against the known truth."""
    risk, past, (signals, mean) = market(degree, seed)
    fit = linear_model.LinearRegression().fit(*map(np.asarray, past))
    squares = {"W": jnp.array(fit.coef_.T), "b": jnp.array(fit.intercept_)}
    decisions = trained(squares, risk, *past)
    best = worth(mean, mean, risk)
    return [float(best - worth(forecasts(model, signals), mean, risk)) for model in (squares, decisions)]


def main():
    """Compare both ways on markets where linear forecasts are right and where they are not, and draw."""
    risk, past, _ = market(4, 0)
    model = {"W": jnp.ones((FACTORS, ASSETS)) / 4, "b": jnp.linspace(0.0, 1.0, ASSETS)}
    slope = value_and_slope(model, risk, *past)[1]["b"]
    shift = jax.random.normal(jax.random.key(0), (ASSETS,))
    high, low = (value_and_slope(model | {"b": model["b"] + step * shift}, risk, *past)[0] for step in (1e-6, -1e-6))
    error = abs(float((high - low) / 2e-6 / (slope @ shift)) - 1)
    print(f"slope of the utility: {error:.0e} from differences, relatively")
    results = {degree: np.array([regrets(degree, seed) for seed in range(SEEDS)]) for degree in (1, 2, 4)}
    print(f"degree of the truth   regret by least squares   for decisions   better with (of {SEEDS} seeds)")
    for degree, pairs in results.items():
        squares, decisions = pairs.mean(axis=0)
        print(f"{degree:19d}   {squares:23.3f}   {decisions:13.3f}   {int((pairs[:, 1] < pairs[:, 0]).sum()):4d}")
    assert error < 1e-5
    assert results[4].mean(axis=0)[1] < results[4].mean(axis=0)[0]
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], results)


def draw(path, results):
    """Draw the regrets for each degree of the truth."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    places = np.arange(len(results))
    for i, (name, color) in enumerate((("least squares", "#E69F00"), ("learned for decisions", "#0072B2"))):
        regret = np.array([pairs[:, i] for pairs in results.values()])
        axis.bar(places + 0.38 * (i - 0.5), regret.mean(axis=1), 0.36, color=color, label=name)
        axis.plot(places + 0.38 * (i - 0.5), regret, "k.", markersize=4, alpha=0.5)
    axis.set(xticks=places, xticklabels=results, xlabel="degree of the true returns in the signals", ylabel="regret")
    axis.set_title("Utility lost against the known truth")
    axis.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
