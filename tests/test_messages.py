"""What failures and solutions say: the cause first, nothing that is not so, no advice that was followed already."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini.differentiation._verdict import Certificate, Verdict
from dini.solution import Solution, failure
from dini.testing import check_gradient

Status = dini.Status


def steep(x, a):
    return jnp.sum((x - a) ** 2) + jnp.sum(x**4)


def ended(status, dtype, *, tol=1e-3):
    """The solution of a made-up end."""
    figure = lambda value: jnp.asarray(value, dtype)
    return Solution.of(figure([1.0]), int(status), 3, figure(0.1), tol, figure(2.0))


@pytest.mark.parametrize("way", ["solve", "derivative", "pullback"])
def test_the_cause_comes_first_under_jit(way):
    flat = lambda x, a: (x[0] + x[1] - a) ** 2
    point = lambda a: dini.minimize(flat, jnp.zeros(2), a).x[0]
    few = lambda a: dini.minimize(steep, jnp.zeros(2), a, solver=dini.BFGS(max_steps=1)).x
    call, says = {
        "solve": (lambda: jax.jit(few)(1.0), "SolveError: Minimize(steep) was not solved by BFGS: MAX_STEPS"),
        "derivative": (lambda: jax.jit(jax.grad(point))(1.0), "DerivativeError: The linear system of the derivative"),
        "pullback": (lambda: jax.jit(jax.vjp(point, 1.0)[1])(1.0), "DerivativeError: The linear system of the"),
    }[way]
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(call())
    # after a head of JAX's and one line: where the package lies says how long that is
    assert str(caught.value).splitlines()[2].startswith(says)


@pytest.mark.parametrize("status", [Status.STALLED, Status.STEP_TOO_SMALL])
def test_float64_is_advised_to_who_computes_in_less(status):
    single, double = (ended(status, dtype) for dtype in (jnp.float32, jnp.float64))
    texts = [(s.message, repr(s), str(failure(s.figures, problem="P", solver="S"))) for s in (single, double)]
    assert all("oosen `rtol`, or compute in float64." in text for text in texts[0])
    assert all("oosen `rtol`." in text and "float64" not in text.partition("\n")[0] for text in texts[1])


def test_float64_is_advised_so_by_derivatives_and_projections():
    for verdict in (Verdict.LINEAR_SOLVE, Verdict.ILL_CONDITIONED):
        zero, end = jnp.zeros(()), jnp.asarray(verdict)
        says = [Certificate.of(*[zero.astype(dtype)] * 6, end).message for dtype in (jnp.float32, jnp.float64)]
        assert ", or compute in float64." in says[0]
        assert "float64" not in says[1]
    for dtype in (np.float32, np.float64):
        with pytest.raises(dini.DerivativeError, match="singular") as caught:
            dini.linear.solve(lambda v: jnp.ones((2, 2), v.dtype) @ v, jnp.array([1, 2], dtype))
        assert ("compute in float64" in str(caught.value)) == (dtype == np.float32)


def test_a_singular_system_has_no_residual_that_was_accepted():
    with pytest.raises(dini.DerivativeError, match="singular") as caught:
        dini.linear.solve(lambda v: jnp.ones((2, 2)) @ v, jnp.ones(2))
    assert "accepted up to" not in str(caught.value)
    assert "which is not informative here" in str(caught.value)
    slow = dini.linear.CG(max_steps=1)
    with pytest.raises(dini.DerivativeError, match=r"its tolerance .*relative residual is .*, accepted up to"):
        dini.linear.solve(lambda v: jnp.arange(1.0, 9) * v, jnp.ones(8), solver=slow, structure="positive definite")


@pytest.mark.by_default("LBFGS")
@pytest.mark.parametrize("solver", [dini.BFGS, dini.LBFGS, dini.GradientDescent, dini.Newton], ids=lambda s: s.__name__)
def test_a_tolerance_that_is_not_known_is_not_zero(solver):
    far = dini.minimize(steep, jnp.zeros(2), 100.0, solver=solver(max_steps=1), on_failure="ignore")
    assert "tolerance" not in repr(far)
    says = str(failure(far.figures, problem="P", solver="S"))
    assert "tolerance not known yet" in says
    # one of zero that was asked for is one
    none = dini.minimize(steep, jnp.zeros(2), 100.0, solver=solver(rtol=0.0, max_steps=1), on_failure="ignore")
    assert "(tolerance 0.0e+00)" in repr(none)


def test_a_nan_lane_hides_no_other():
    a = jnp.full(100, 4.0).at[3].set(jnp.nan).at[5].set(1.0)
    lanes = jax.vmap(lambda a: dini.root(lambda x, a: x**2 - a, 1.0, a, on_failure="ignore"))(a)
    rows = dict(line.split(maxsplit=1) for line in repr(lanes).splitlines()[1:])
    low, high = (f"{v:.1e}" for v in (jnp.nanmin(lanes.stats.error), jnp.nanmax(lanes.stats.error)))
    assert rows["error"].startswith(f"{low} to {high}, 1 nan (tolerance ")
    assert rows["value"].endswith(", 1 nan")
    every = jax.tree.map(lambda v: v[3:4], lanes)
    assert "error   nan" in repr(every)


def test_divergence_on_a_bounded_set_is_not_called_running_away():
    """The error of a kink grows without bound where nothing runs away: the words have to be true of that as well."""
    says = ended(Status.DIVERGED, jnp.float32).message
    assert "The objective is unbounded below, or" in says
    assert "or the optimality error grows without bound" in says


@pytest.mark.by_default("OperatorSplitting")
@pytest.mark.parametrize(
    "solver", [dini.OperatorSplitting, dini.InteriorPoint, dini.ActiveSet], ids=lambda s: s.__name__
)
def test_bounds_that_exclude_each_other_are_infeasible(solver):
    """Outside of `jit` they are refused at the door; inside, no number of steps helps."""
    upper = jnp.array([0.0, 1.0])

    @jax.jit
    def status(lower):
        program = {"Q": jnp.eye(2), "c": jnp.ones(2), "lower": lower, "upper": upper}
        solution = dini.quadratic_program(**program, solver=solver(), on_failure="ignore")
        return solution.status, solution.stats.steps

    for gap in (1e-9, 1.0, 1e9):
        end, steps = status(jnp.array([gap, 0.0]))
        assert (end, steps) == (Status.PRIMAL_INFEASIBLE, 1)
    assert status(jnp.array([-1.0, 1.0]))[0] == Status.CONVERGED
    assert "a lower bound is above its upper one" in Status.PRIMAL_INFEASIBLE.explanation


def test_a_check_of_a_gradient_without_a_problem():
    square = lambda x: jnp.sum(x**2)
    for given in ((square,), (square, jnp.ones(2)), (square, dini.LBFGS(), jnp.ones(2)), (square, jnp.ones(2), 1.0)):
        with pytest.raises(TypeError, match=r"check_gradient\(dini.Minimize\(fun\), .*check_grads"):
            check_gradient(*given)
    with pytest.raises(TypeError, match="Did you mean directions"):
        check_gradient(dini.Minimize(square), dini.LBFGS(), jnp.ones(2), direction=3)


def test_a_point_from_elsewhere_says_how_well_it_was_tested():
    scipy = dini.minimize(steep, jnp.zeros(2), 1.0, solver=dini.adapters.SciPy("bfgs"))
    assert scipy.solver is None
    handed = dini.differentiate(dini.Minimize(steep), scipy.x, 1.0)
    own = dini.solve(dini.Minimize(steep), lambda problem, x, a: scipy.x, jnp.zeros(2), 1.0)
    for solution in (scipy, handed, own):
        assert "by default the fourth root of the unit roundoff" in solution.message
        assert solution.message in repr(solution)
    assert dini.minimize(steep, jnp.zeros(2), 1.0).message == "The stopping test was met."
