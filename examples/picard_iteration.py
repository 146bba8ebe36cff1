"""A differential equation as a fixed point: python examples/picard_iteration.py picard_iteration.png."""

import sys

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import chebyshev

import dini

dini.keep_programs()
jax.config.update("jax_enable_x64", True)

START, END, NODES = jnp.array([2.0, 1.0]), 5.0, 40


def field(t, x, rates):
    """Hares and lynxes: births, catches and deaths."""
    hares, lynxes = x
    return jnp.stack([rates[0] * hares - rates[1] * hares * lynxes, rates[2] * hares * lynxes - rates[3] * lynxes])


# --8<-- [start:picard]
# integrals from zero to each of the Chebyshev points, of the polynomial through values at these points
points = -np.cos(np.pi * np.arange(NODES) / (NODES - 1))
coefficients = np.linalg.inv(chebyshev.chebvander(points, NODES - 1))
integral = chebyshev.chebvander(points, NODES) @ chebyshev.chebint(coefficients, lbnd=-1)
times, integral = jnp.array(0.5 * END * (points + 1)), jnp.array(0.5 * END * integral)


def picard(x, rates):
    """One iteration: the start plus the integral of the field along the last curve, two rows of 40 values."""
    return START[:, None] + field(times, x, rates) @ integral.T


def curve(rates, solver, monitor=None):
    """Return the curve that an iteration leaves where it is."""
    constant = jnp.tile(START[:, None], NODES)
    return dini.fixed_point(picard, constant, rates, solver=solver, monitor=monitor)


# --8<-- [end:picard]
def by_diffrax(rates):
    """Return the same curve from a Runge-Kutta method with small tolerances."""
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Dopri8(),
        0.0,
        END,
        0.01,
        START,
        rates,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.PIDController(rtol=1e-12, atol=1e-12),
        adjoint=diffrax.ForwardMode(),
    ).ys.T


def main():
    """Compare curves and derivatives with diffrax's, count iterations, and draw where a file is named."""
    rates = jnp.array([1.1, 0.4, 0.1, 0.4])
    solvers = {
        "Picard's iteration": dini.FixedPointIteration(rtol=1e-12),
        "Anderson acceleration": dini.Anderson(rtol=1e-12, history=10),
    }
    truth, tangents = jax.jit(lambda rates: (by_diffrax(rates), jax.jacfwd(by_diffrax)(rates)))(rates)
    errors = {}
    for name, solver in solvers.items():
        found = jax.jit(lambda rates, solver: curve(rates, solver, dini.Record(120)))(rates, solver)
        slopes = jax.jit(jax.jacrev(lambda rates, solver: curve(rates, solver).x))(rates, solver)
        apart = jnp.abs(found.x - truth).max() / truth.max()
        wrong = jnp.abs(slopes - tangents).max() / jnp.abs(tangents).max()
        print(
            f"{name}: {found.stats.steps} steps; curve {apart:.0e}, derivatives {wrong:.0e} from diffrax's, relatively"
        )
        assert apart < 1e-9
        assert wrong < 1e-8
        errors[name] = found.history["error"][: int(found.stats.steps)]
    if len(sys.argv) > 1 and sys.argv[1].endswith(".png"):
        draw(sys.argv[1], rates, truth, errors)


def draw(path, rates, truth, errors):
    """Draw the first iterates of the hares, and the errors of both methods."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["font.size"] = 12
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 3.6), layout="constrained", width_ratios=[1.3, 1])
    x, colors = jnp.tile(START[:, None], NODES), plt.get_cmap("viridis")
    for step in range(1, 17):
        x = picard(x, rates)
        if step in (1, 2, 4, 8, 16):
            left.plot(times, x[0], color=colors(0.9 - 0.2 * np.log2(step)), linewidth=2, label=f"{step}")
    left.plot(times, truth[0], "k--", linewidth=1.5, label="diffrax")
    left.set(ylim=(0, 1.4 * float(truth[0].max())), xlabel="time", title="hares, after steps")
    left.legend(fontsize=10)
    for (name, along), color in zip(errors.items(), ("#D55E00", "#0072B2"), strict=True):
        right.semilogy(along, color=color, linewidth=2, label=name.split("'")[0].split()[0])
    right.set(xlabel="step", title="error")
    right.legend(fontsize=11)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
