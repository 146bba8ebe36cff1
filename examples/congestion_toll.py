"""Tolls by gradients through an equilibrium: python examples/congestion_toll.py congestion_toll.png."""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

SIDE = 4
TRIPS = {((0, 0), (3, 3)): 5.0, ((0, 1), (2, 3)): 3.0, ((1, 0), (3, 2)): 2.0}
COUNTS = (1, 2, 3, 4, 6, 8, 12, 24)


def streets():
    """Return the one-way streets of a grid: each leads down or to the right."""
    nodes = itertools.product(range(SIDE), repeat=2)
    ends = [(node, (node[0] + down, node[1] + 1 - down)) for node in nodes for down in (1, 0)]
    return [street for street in ends if max(street[1]) < SIDE]


def ways(start, end):
    """Return the ways between two nodes: for each a row with a one for each street that it uses."""
    number, rows = {street: k for k, street in enumerate(STREETS)}, []
    down, right = end[0] - start[0], end[1] - start[1]
    for turns in itertools.combinations(range(down + right), down):
        at, row = start, np.zeros(len(STREETS))
        for k in range(down + right):
            to = (at[0] + 1, at[1]) if k in turns else (at[0], at[1] + 1)
            row[number[at, to]], at = 1.0, to
        rows.append(row)
    return np.array(rows)


STREETS = streets()
WAYS, DEMANDS = tuple(ways(*trip) for trip in TRIPS), tuple(TRIPS.values())
rng = np.random.default_rng(0)
FREE, CAPACITY = rng.uniform(1.0, 3.0, len(STREETS)), rng.uniform(1.0, 4.0, len(STREETS))
EVEN = tuple(jnp.full(len(rows), demand / len(rows)) for rows, demand in zip(WAYS, DEMANDS, strict=True))


# --8<-- [start:equilibrium]
def flows(cars):
    """Return the cars on each street from those on each way."""
    return sum(each @ rows for each, rows in zip(cars, WAYS, strict=True))


def times(flow):
    """Return the minutes that each street takes, by the formula of the Bureau of Public Roads."""
    return FREE * (1 + 0.15 * (flow / CAPACITY) ** 4)


def minutes(cars):
    """Return the minutes that all cars travel together."""
    return flows(cars) @ times(flows(cars))


def costs(cars, tolls, spread):
    """Return what each way costs, in minutes; the last term makes the cars on each way unique."""
    street = times(flows(cars)) + tolls
    return tuple(rows @ street + spread * each for each, rows in zip(cars, WAYS, strict=True))


TRAVELERS = dini.sets.Product(tuple(dini.sets.Simplex(demand) for demand in DEMANDS))


def equilibrium(tolls, spread=0.01):
    """Return the cars on each way where no driver gains by taking another one."""
    return dini.variational_inequality(costs, EVEN, tolls, spread, constraint=TRAVELERS).x


# --8<-- [end:equilibrium]
# --8<-- [start:tolls]
def total(tolls):
    """Return the minutes in equilibrium. Tolls are no loss: they only move money."""
    return minutes(equilibrium(tolls))


def priced(limits):
    """Return the tolls between zero and their limits for which the total is least."""
    start, bounds = jnp.zeros(len(STREETS)), dini.sets.Box(0.0, limits)
    return dini.minimize(total, start, constraint=bounds, solver=dini.LBFGSB())


# --8<-- [end:tolls]


def main():
    """Find tolls for some streets, compare them with the least total of all plans, and draw where a file is named."""
    free = jnp.zeros(len(STREETS))
    before, slopes = jax.jit(jax.value_and_grad(total))(free)
    step = 1e-4 * np.eye(len(STREETS))
    around = jax.jit(jax.vmap(total))(np.concatenate([step, -step])).reshape(2, -1)
    wrong = jnp.abs(slopes - (around[0] - around[1]) / 2e-4).max() / jnp.abs(slopes).max()
    plan = jax.jit(lambda: dini.minimize(minutes, EVEN, constraint=TRAVELERS).x)()
    flow, least = flows(plan), minutes(plan)
    marginal = total(flow * jax.jvp(times, (flow,), (jnp.ones_like(flow),))[1])
    print(f"without tolls: {before:.2f} minutes; the least of all plans: {least:.2f}")
    print(f"derivatives in {len(STREETS)} tolls: {wrong:.0e} from differences, relatively")
    print(f"every street at its marginal cost: {marginal:.2f}")
    order, price, totals = np.argsort(slopes), jax.jit(priced), []
    for count in COUNTS:
        found = price(free.at[order[:count]].set(5.0))
        totals.append(found.value)
        if count <= 3:
            named = ", ".join(f"{found.x[k]:.2f} on {name(k)}" for k in order[:count])
            print(f"tolls on {count}: {named}: {found.value:.2f} minutes after {found.stats.steps} steps")
            three = found.x
    print(f"tolls on all: {totals[-1]:.2f}")
    less = minutes(equilibrium(free, 0.001))
    print(f"with a tenth of the spread, without tolls: {less:.2f}")
    assert wrong < 1e-5
    assert abs(marginal - least) < 1e-2
    assert least - 1e-6 < totals[-1] < least + 1e-2
    assert totals[2] < before - 0.6 * (before - least)
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], slopes, three, totals, before, least)


def name(k):
    """Return a street's ends, as rows and columns."""
    (i, j), (m, n) = STREETS[k]
    return f"{i}{j}-{m}{n}"


def draw(path, slopes, tolls, totals, before, least):
    """Draw the streets with the derivative in each toll, and the totals by the number of streets with a toll."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, (town, curve) = plt.subplots(1, 2, figsize=(8.4, 4.0), layout="constrained", width_ratios=(1.15, 1))
    colors, flow = plt.get_cmap("coolwarm"), flows(equilibrium(jnp.zeros(len(STREETS))))
    for k, ((i, j), (m, n)) in enumerate(STREETS):
        town.annotate(
            "",
            (n, -m),
            (j, -i),
            arrowprops={"arrowstyle": "-|>", "linewidth": 1 + 1.2 * flow[k], "color": colors(0.5 + slopes[k] / 8)},
        )
        if tolls[k] > 0.01:
            label = {"size": 12, "weight": "bold", "ha": "center", "va": "center"}
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "black"}
            town.text((j + n) / 2, -(i + m) / 2, f"{tolls[k]:.2f}", bbox=box, **label)
    for i, j in itertools.product(range(SIDE), repeat=2):
        town.plot(j, -i, "o", color="0.3", markersize=9)
    bar = figure.colorbar(plt.cm.ScalarMappable(plt.Normalize(-4, 4), colors), ax=town, shrink=0.8)
    bar.set_label("change of the total by a toll")
    town.set(title="Three tolls, in minutes", aspect="equal")
    town.axis("off")
    curve.plot((0, *COUNTS), (before, *totals), "o-", color="#0072B2")
    curve.axhline(least, color="0.4", linestyle="--", linewidth=1)
    curve.text(0, least + 0.12, "least of all plans", color="0.3")
    curve.set(xlabel="streets with a toll", ylabel="minutes of all cars", title="Total time")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
