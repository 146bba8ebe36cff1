"""dini's peers for the shared benchmark of peers: pass this file to the harness with ``--adapter``.

The harness calls ``register`` once for each family, after the peers of that family are in place. Every peer takes its
data as arguments and uses one set of settings for all sizes of a task; where a name says nothing else, these are the
defaults, the raising policy included.
"""

from __future__ import annotations

import pathlib
import sys
from functools import partial
from types import SimpleNamespace

import dini

# the harness loads this file from a folder of its own
sys.path.append(str(pathlib.Path(__file__).resolve().parent))

import bare

NAME = "dini"


def register(family):
    """Register dini's peers of one family ("f1" .. "f9"), if there are any."""
    make = globals().get(family)
    if make is not None:
        make()


def f1():
    """Hypergradients of ridge and logistic regression."""
    import f1_hypergrad as fam
    import jax.numpy as jnp

    @fam.on_all(f"{NAME} minimize (default)")
    def _(p):
        fun = fam.jx(p)[1]
        return fam.hyper(p, lambda theta, X, y: dini.minimize(fun, jnp.zeros(X.shape[1]), theta, X, y).x)

    # with default settings, and a tolerance with which the gradient's relative error is at most 1e-6 at n = 1000,
    # d = 100; each with the raising policy, while "unchecked" is what the peers with throw=False do
    loose = dini.LBFGS(tol=1e-7)
    for name, solver, on_failure in (
        ("BFGS implicit", dini.BFGS(), "raise"),
        ("BFGS implicit, unchecked", dini.BFGS(), "ignore"),
        ("BFGS implicit, tol 1e-7", dini.BFGS(tol=1e-7), "raise"),
        ("LBFGS implicit", dini.LBFGS(), "raise"),
        ("LBFGS implicit, tol 1e-7", loose, "raise"),
        ("LBFGS implicit, tol 1e-7, unchecked", loose, "ignore"),
        ("LBFGS implicit, tol 1e-6 (JAXopt's)", dini.LBFGS(tol=1e-6), "raise"),
        ("Newton implicit", dini.Newton(), "raise"),
        ("BFGS from the Hessian implicit", dini.BFGS(start="hessian"), "raise"),
    ):

        @fam.on_all(f"{NAME} {name}")
        def _(p, solver=solver, on_failure=on_failure):
            problem = dini.Minimize(fam.jx(p)[1])

            def solve(theta, X, y):
                return dini.solve(problem, solver, jnp.zeros(X.shape[1]), theta, X, y, on_failure=on_failure).x

            return fam.hyper(p, solve)


def f2():
    """Lasso and elastic net: the path, warm started in a scan, and gradients in the penalties."""
    import f2_lasso as fam
    import jax
    import jax.numpy as jnp

    newton = dini.ProximalNewton()
    regression = dini.LinearComposite(lambda z, w, X, y: 0.5 * jnp.mean((z - y) ** 2), lambda X, y: X.T)

    def lasso(fun, lam):
        return dini.Minimize(fun, penalty=dini.penalties.L1(lam))

    def path(p, prepare):
        """Return the path of problems whose objective is ``prepare(X, y)``, made once for all of them."""

        @jax.jit
        def run(X, y, lams):
            fun, args = prepare(X, y)

            def step(w, lam):
                w = dini.solve(lasso(fun, lam), newton, w, *args).x
                return w, w

            return jax.lax.scan(step, jnp.zeros(X.shape[1]), lams)[1]

        data = [jnp.asarray(a) for a in (p.X, p.y, p.lambdas)]
        return lambda: {"W": run(*data)}

    @fam.peer("f2.path", f"{NAME} ProximalNewton")
    def _(p):
        return path(p, lambda X, y: (regression, (X, y)))

    @fam.peer("f2.path", f"{NAME} ProximalNewton, Gram matrix")
    def _(p):
        if p.X.shape[0] < p.X.shape[1]:
            raise fam.Skip
        return path(p, lambda X, y: (regression.quadratic(X.shape[1], X, y), ()))

    def solution(p, solver, differentiation):
        def solve(th, X, y):
            if p.lam2:
                lam, lam2 = jnp.exp(th)
                problem = dini.Minimize(regression, penalty=dini.penalties.ElasticNet(lam, lam2 / lam))
            else:
                problem = lasso(regression, jnp.exp(th))
            return dini.solve(problem, solver, jnp.zeros(X.shape[1]), X, y, differentiation=differentiation).x

        return solve

    for name, solver, differentiation in (
        ("ProximalNewton implicit", newton, dini.Implicit()),
        ("ProximalNewton one step", newton, dini.OneStep()),
        # what `minimize` takes
        ("minimize (default)", dini.ProximalGradient(), dini.Implicit()),
    ):
        fam.both(f"{NAME} {name}")(
            lambda p, solver=solver, how=differentiation: fam.jax_grad(p, solution(p, solver, how))
        )


def f3():
    """Dual of the multiclass SVM."""
    import f3_svm as fam

    rows = dini.sets.Simplex(axis=-1)

    def composite(z, x, lam, X, Y, XtY):
        import jax.numpy as jnp

        w = (XtY - z) / jnp.exp(lam)
        return 0.5 * jnp.exp(lam) * jnp.vdot(w, w) + jnp.vdot(x, Y)

    def dense(p, solver, **how):
        problem = dini.Minimize(fam.pieces(p)[0], constraint=rows)
        return lambda x0, lam, X, Y: dini.solve(problem, solver, x0, lam, X, Y, **how).x

    def blocks(p, solver, **how):
        fun = dini.LinearComposite(composite, lambda lam, X, Y, XtY: X)
        problem = dini.Minimize(fun, constraint=rows)
        return lambda x0, lam, X, Y: dini.solve(problem, solver, x0, lam, X, Y, X.T @ Y, **how).x

    def schedule(k):
        import jax.numpy as jnp

        return 1.0 / jnp.sqrt(jnp.maximum(k - 100.0, 1.0))

    # the settings of jaxopt's peers: constant step, the paper's schedule, a tenth of the epochs
    fixed = {
        "MirrorDescent": (dense, lambda p, **kw: dini.MirrorDescent(step_size=schedule, **kw)),
        "ProjectedGradient": (
            dense,
            lambda p, **kw: dini.ProjectedGradient(step_size=p.step, acceleration=False, **kw),
        ),
        "BlockCoordinateDescent": (blocks, lambda p, **kw: dini.BlockCoordinateDescent(**kw)),
    }
    solved = {
        "ProjectedGradient": (dense, dini.ProjectedGradient(tol=1e-4)),
        "MirrorDescent": (dense, dini.MirrorDescent(tol=1e-2)),
        "BlockCoordinateDescent": (blocks, dini.BlockCoordinateDescent(tol=1e-4)),
    }

    def add_fixed(name, stated, make):
        def steps(p):
            return max(p.iters // 10, 1) if name.startswith("Block") else p.iters

        @fam.peer("f3.svm_fixed", f"{NAME} {name} implicit")
        def _(p):
            return fam.hyper(p, stated(p, make(p, tol=0.0, max_steps=steps(p)), on_failure="ignore"))

        @fam.peer("f3.svm_fixed", f"{NAME} {name} unrolled")
        def _(p):
            how = dini.Unrolled(steps=steps(p))
            return fam.hyper(p, stated(p, make(p), differentiation=how, on_failure="ignore"))

    for name, (stated, make) in fixed.items():
        add_fixed(name, stated, make)
    for name, (stated, solver) in solved.items():
        fam.peer("f3.svm_solved", f"{NAME} {name} implicit")(
            lambda p, stated=stated, solver=solver: fam.hyper(p, stated(p, solver))
        )


def f4():
    """Quadratic programs, forward and backward."""
    import f4_qp as fam

    def program(p):
        return lambda Q, q, A, b, G, h: dini.quadratic_program(Q=Q, c=q, A=A, b=b, G=G, h=h).x

    fam.jax_both(f"{NAME} quadratic_program (default)", program)


def f5():
    """Nonlinear least squares and roots."""
    import f5_lsq_root as fam

    def batch(solver):
        def make(p):
            problem = dini.LeastSquares(p.res)
            return lambda x0: dini.solve(problem, solver, x0).x

        return make

    def lsq(p):
        problem = dini.LeastSquares(fam.lsq_res)
        return lambda w0, *args: dini.solve(problem, dini.LevenbergMarquardt(), w0, *args).x

    def root(p):
        problem = dini.Root(p.F)
        return lambda x0, theta: dini.solve(problem, dini.Newton(), x0, theta).x

    fam.batch_peer(f"{NAME} least_squares (default)", lambda p: lambda x0: dini.least_squares(p.res, x0).x)
    fam.batch_peer(f"{NAME} LevenbergMarquardt", batch(dini.LevenbergMarquardt()))
    fam.batch_peer(f"{NAME} LevenbergMarquardt(damping=1)", batch(dini.LevenbergMarquardt(damping=1.0)))
    fam.batch_peer(f"{NAME} GaussNewton", batch(dini.GaussNewton()))
    fam.batch_peer(f"{NAME} GaussNewton, full steps", batch(dini.GaussNewton(patience=None)))
    fam.lsq_peer(
        f"{NAME} least_squares (default)", lambda p: lambda w0, *args: dini.least_squares(fam.lsq_res, w0, *args).x
    )
    fam.lsq_peer(f"{NAME} LevenbergMarquardt", lsq)
    fam.root_peer(f"{NAME} root (default)", lambda p: lambda x0, theta: dini.root(p.F, x0, theta).x)
    fam.root_peer(f"{NAME} Newton", root)
    sparse = dini.linear.Sparse()

    def sparse_root(p):
        problem, how = dini.Root(p.F), dini.Implicit(linear_solver=sparse)
        solver = dini.Newton(linear_solver=sparse)
        return lambda x0, theta: dini.solve(problem, solver, x0, theta, differentiation=how).x

    fam.root_peer(f"{NAME} Newton (detected sparsity)", sparse_root)


def f6():
    """Unconstrained test functions; a step of dini's solvers is one evaluation of the function.

    A step of ``Dogleg`` and of ``Newton`` also has a dense Hessian. A program that may raise is not slower: JAX runs
    one with a call of the host in it in the caller's thread, any other of 1,000 operations and more in another.
    """
    import f6_minimise as fam

    def peer(name, make, on_failure="ignore"):
        @fam.peer("f6.min", f"{NAME} {name}")
        def _(p):
            problem, solver = dini.Minimize(p.f), make(tol=p.tol, max_steps=4 * p.maxiter)

            def solve(x0):
                solution = dini.solve(problem, solver, x0, on_failure=on_failure)
                return solution.x, solution.stats.steps

            return fam.jitted(p, solve)

    @fam.peer("f6.min", f"{NAME} minimize (default)")
    def _(p):
        def solve(x0):
            solution = dini.minimize(p.f, x0, on_failure="ignore")
            return solution.x, solution.stats.steps

        return fam.jitted(p, solve)

    peer("LBFGS", dini.LBFGS)
    peer("BFGS", dini.BFGS)
    peer("NonlinearCG", dini.NonlinearCG)
    peer("TrustRegionNewtonCG", dini.TrustRegionNewtonCG)
    peer("Dogleg", dini.Dogleg)
    peer("Newton", dini.Newton)
    peer("Newton (detected sparsity)", partial(dini.Newton, dini.linear.Sparse()))
    peer("BFGS from the Hessian", partial(dini.BFGS, start="hessian"))
    peer("BFGS, checked", dini.BFGS, "raise")
    peer("Newton, checked", dini.Newton, "raise")
    for name, method in (("BFGS", bare.bfgs), ("L-BFGS", bare.lbfgs)):

        @fam.peer("f6.min", f"floor: a bare {name} in plain JAX")
        def _(p, method=method):
            return fam.jitted(p, lambda x0: method(p.f, x0, p.tol, 4 * p.maxiter))


def f7():
    """Fixed points of a layer."""
    import f7_deq as fam

    def peer(name, solver_of, **kw):
        def make(p, T):
            problem, solver = dini.FixedPoint(T), solver_of(tol=p.tol)
            return lambda z0, W, xin: dini.solve(problem, solver, z0, W, xin).x

        fam.jpeer(f"{NAME} {name} (implicit)", make, **kw)

    fam.jpeer(
        f"{NAME} fixed_point (default)",
        lambda p, T: lambda z0, W, xin: dini.fixed_point(T, z0, W, xin).x,
    )
    peer("FixedPointIteration", dini.FixedPointIteration, contraction=True)
    peer("Anderson", dini.Anderson)
    peer("Anderson(history=10)", partial(dini.Anderson, history=10))


def f8():
    """Projections."""
    import f8_projections as fam
    import jax.numpy as jnp

    def section(p):
        return dini.sets.BoxSection(0.0, 1.0, jnp.asarray(p.w), p.c).project

    def transport(p):
        return dini.sets.TransportationPolytope(jnp.asarray(p.a), jnp.asarray(p.b)).project

    fam.jpeer("f8.simplex", f"{NAME} Simplex", lambda p: dini.sets.Simplex(axis=-1).project)
    fam.jpeer("f8.l1ball", f"{NAME} L1Ball", lambda p: dini.sets.L1Ball().project)
    fam.jpeer("f8.boxsection", f"{NAME} BoxSection", section)
    fam.jpeer("f8.birkhoff", f"{NAME} Birkhoff", lambda p: dini.sets.Birkhoff().project)
    fam.jpeer("f8.transport", f"{NAME} TransportationPolytope", transport)


def f9():
    """Overhead of a call, compilation, memory, import."""
    import f9_overhead as fam
    import jax
    import jax.numpy as jnp

    def solve(solver):
        def make(fun):
            problem = dini.Minimize(fun)
            return lambda x0, a: dini.solve(problem, solver, x0, a).x

        return make

    def jitted(solver, on_failure="raise"):
        def make(fun):
            problem = dini.Minimize(fun)
            return jax.jit(lambda x0, a: dini.solve(problem, solver, x0, a, on_failure=on_failure).x)

        return make

    def minimize(fun):
        return lambda x0, a: dini.minimize(fun, x0, a).x

    for solver in (dini.BFGS(), dini.GradientDescent()):
        fam.jax_call(f"{NAME} solve {solver.name}", solve(solver))
    fam.jax_call(f"{NAME} minimize", minimize)
    for solver in (dini.LBFGS(), dini.BFGS(), dini.GradientDescent()):
        fam.jax_call(f"{NAME} solve {solver.name} (jitted)", jitted(solver))
        fam.jax_call(f"{NAME} solve {solver.name} unchecked (jitted)", jitted(solver, "ignore"))
    for name, method in (("BFGS", bare.bfgs), ("L-BFGS", bare.lbfgs)):

        @fam.peer("f9.call", f"floor: a bare {name} in plain JAX")
        def _(p, method=method):
            x0, a = jnp.asarray(p.x0), jnp.asarray(p.a)
            call = jax.jit(lambda x0, a: method(lambda x: fam.fun(x, a), x0, 1e-8, 500)[0])
            return lambda: {"x": call(x0, a)}

    def descent(differentiation):
        def make(N, inner, step):
            problem, solver = dini.Minimize(inner), dini.GradientDescent(step_size=step, tol=0.0, max_steps=N)
            how = SimpleNamespace(differentiation=differentiation(N), on_failure="ignore")
            return lambda theta, X: jnp.sum(dini.solve(problem, solver, jnp.zeros(X.shape[1]), theta, X, **vars(how)).x)

        return make

    fam.EXTRA_MEMORY[f"{NAME} GradientDescent implicit"] = descent(lambda N: dini.Implicit())
    fam.EXTRA_MEMORY[f"{NAME} GradientDescent unrolled"] = descent(lambda N: dini.Unrolled(steps=N))
    fam.EXTRA_MEMORY[f"{NAME} GradientDescent unrolled, no checkpoints"] = descent(
        lambda N: dini.Unrolled(steps=N, checkpoint=False)
    )
    fam.ARGS_EXTRA_IMPORTS.append(NAME)
