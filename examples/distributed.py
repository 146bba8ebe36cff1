"""A fit and its hypergradient on split data: python examples/distributed.py distributed.png.

As a script it makes eight virtual devices of the CPU; imported where JAX runs already, it takes the devices there are.
"""

import os
import re
import sys

if "jax" not in sys.modules:
    # in front: XLA reads no further than the first word that is no flag of its own
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 " + os.environ.get("XLA_FLAGS", "")

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding
from sklearn import datasets, linear_model, utils

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

TRAIN, HELD_OUT, STEPS = 1200, 592, 60
LOG_STRENGTH = -5.0
ROWS = (1200, 9600, 76800)

pixels, digits = utils.shuffle(*datasets.load_digits(return_X_y=True), random_state=0)
X, y = np.concatenate([pixels / 16, np.ones((len(pixels), 1))], axis=1), digits
WHOLE = X[:TRAIN], y[:TRAIN], X[TRAIN : TRAIN + HELD_OUT], y[TRAIN : TRAIN + HELD_OUT]

# --8<-- [start:split]
MESH = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
SPLIT, ONE = NamedSharding(MESH, PartitionSpec("data")), SingleDeviceSharding(jax.devices()[0])


def loss(w, X, y):
    """The mean cross-entropy of the rows, wherever they are."""
    scores = X @ w
    return jnp.mean(jax.nn.logsumexp(scores, axis=1) - jnp.take_along_axis(scores, y[:, None], axis=1)[:, 0])


def penalized(w, log_strength, X, y):
    """The loss of the fit."""
    return loss(w, X, y) + 0.5 * jnp.exp(log_strength) * jnp.sum(w**2)


def held_out(log_strength, X, y, other_X, other_y):
    """The loss on held-out rows of the weights that the fit finds, and the weights."""
    w = dini.minimize(penalized, jnp.zeros((65, 10)), log_strength, X, y, solver=dini.LBFGS(rtol=1e-8)).x
    return loss(w, other_X, other_y), w


value_and_slope = jax.jit(jax.value_and_grad(held_out, has_aux=True))
# --8<-- [end:split]


@jax.jit
def gaps(best, X, y):
    """Return how far the loss is above its least value after each step of L-BFGS."""
    problem, solver, start = dini.Minimize(penalized), dini.LBFGS(), jnp.zeros((65, 10))

    def step(now, _):
        now = solver.step(problem, *now, LOG_STRENGTH, X, y)
        return now, penalized(now[0], LOG_STRENGTH, X, y) - best

    return jax.lax.scan(step, (start, solver.init(problem, start, LOG_STRENGTH, X, y)), None, STEPS)[1]


def moved(program):
    """Return the bytes that each kind of collective operation of a compiled program gives to each device."""
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    bytes_of = {}
    for line in program.as_text().splitlines():
        if found := re.search(rf" ({kinds})(?:-start)?\(", line):
            for bits, shape in re.findall(r"\w(\d+)\[([\d,]*)\]", line[: found.start()]):
                size = int(bits) // 8 * int(np.prod([int(k) for k in shape.split(",") if k]))
                bytes_of[found[1]] = bytes_of.get(found[1], 0) + size
    return bytes_of


def of_an_evaluation(rows):
    """Return the bytes that an evaluation of the loss with its gradient moves, where so many rows are split."""
    data = [jax.ShapeDtypeStruct(shape, kind, sharding=SPLIT) for shape, kind in (((rows, 65), float), ((rows,), int))]
    return moved(jax.jit(jax.value_and_grad(penalized)).lower(jnp.zeros((65, 10)), LOG_STRENGTH, *data).compile())


def main():
    """Solve on one device and on all, compare, count what is moved, and draw where a file is named."""
    devices = jax.device_count()
    split = jax.device_put(WHOLE, SPLIT)
    program = value_and_slope.lower(LOG_STRENGTH, *split).compile()
    (other_value, other_w), other_slope = jax.device_get(program(LOG_STRENGTH, *split))
    (value, w), slope = jax.device_get(value_and_slope(LOG_STRENGTH, *jax.device_put(WHOLE, ONE)))
    print(f"{devices} devices, {TRAIN} rows to fit, {HELD_OUT} held out")
    print(f"held-out loss {value:.6f} on one device, {other_value:.6f} on all")
    print(f"weights apart by {np.abs(w - other_w).max():.0e}, the largest is {np.abs(w).max():.2f}")
    print(f"its slope in log strength {slope:.6f} and {other_slope:.6f}, apart by {abs(other_slope / slope - 1):.0e}")
    ends = [program(LOG_STRENGTH + h, *split)[0][0] for h in (1e-4, -1e-4)]
    wrong = abs(float((ends[0] - ends[1]) / 2e-4 / other_slope) - 1)
    how = {"fit_intercept": False, "tol": 1e-9, "max_iter": 5000}
    peer = linear_model.LogisticRegression(C=np.exp(-LOG_STRENGTH) / TRAIN, **how)
    apart = np.abs(peer.fit(*WHOLE[:2]).coef_.T - other_w).max() / np.abs(other_w).max()
    print(f"{wrong:.0e} from differences; weights {apart:.0e} of the largest from scikit-learn's")
    print(f"collectives in the program of the slope, bytes: {moved(program)}")
    counts = [sum(of_an_evaluation(rows).values()) for rows in ROWS]
    for rows, count in zip(ROWS, counts, strict=True):
        print(f"{rows:6d} rows: {rows * 66 * 8 / 1e6:6.2f} MB of data, an evaluation moves {count / 1e3:.2f} kB")
    assert wrong < 1e-5
    assert apart < 1e-4
    assert np.abs(w - other_w).max() < 1e-5
    assert abs(other_slope / slope - 1) < 1e-6
    assert len(set(counts)) == 1
    assert set(moved(program)) <= {"all-reduce"}
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], penalized(other_w, LOG_STRENGTH, *WHOLE[:2]), counts)


def draw(path, best, counts):
    """Draw the loss along the steps on one device and on all, and the bytes that an evaluation moves."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3.8), layout="constrained")
    one, every = (gaps(best, *jax.device_put(WHOLE[:2], where)) for where in (ONE, SPLIT))
    left.semilogy(one, color="#E69F00", linewidth=6, label="1 device")
    left.semilogy(every, "--", color="#0072B2", linewidth=2.5, label=f"{jax.device_count()} devices")
    left.set(xlabel="step of L-BFGS", title="loss above its least")
    left.legend()
    right.loglog(ROWS, [rows * 66 * 8 for rows in ROWS], "o-", color="0.5", linewidth=2.5, label="data")
    right.loglog(ROWS, counts, "o-", color="#0072B2", linewidth=2.5, label="moved")
    right.set(xlabel="rows", title="bytes of an evaluation", ylim=(1e3, 3e8))
    right.legend(loc="upper left")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
