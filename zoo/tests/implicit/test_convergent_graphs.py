"""Convergent graph solvers: contraction, fixed points and gradients by hand, batches, the data, the experiment."""

import doctest
import importlib
import types
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from outputs import assert_bars_met

import dini
from dini_zoo.implicit.convergent_graphs import (
    MLP,
    AttentionLayer,
    ContractiveFixedPoint,
    ConvergentGraphSolver,
    Encoded,
    Encoder,
    Graph,
    action_values,
    as_graph,
    best_values,
    contractive_operator,
    decision_graph,
    decision_processes,
    dense_solution,
    join,
    leaky_relu,
    make_graph,
    pad,
    policy_accuracy,
    pore_network,
    pressures,
    stack,
    walk,
)
from dini_zoo.implicit.convergent_graphs.experiment import experiment
from dini_zoo.implicit.convergent_graphs.operator import segment_softmax
from dini_zoo.implicit.convergent_graphs.study import Settings, decision_model

NODES, HEADS, GAMMA = 7, 2, 0.9
#: Two edges from 0 to 1, one from 2 to itself, none at node 6; the last edge is one of the padding.
SENDERS = np.array([0, 0, 1, 2, 2, 3, 4, 5, 3, 0, 7])
RECEIVERS = np.array([1, 1, 2, 2, 3, 4, 5, 0, 0, 4, 7])


def random_maps(seed=0):
    """Logits inside and outside of the unit interval, biases and a cotangent."""
    random = np.random.default_rng(seed)
    return (
        random.uniform(-0.5, 1.5, (len(SENDERS), HEADS)),
        random.standard_normal((NODES, HEADS)),
        random.standard_normal((NODES, HEADS)),
    )


def matrix(logits, normalization="row"):
    """The matrices by hand, edge by edge."""
    A = np.zeros((HEADS, NODES, NODES))
    real = SENDERS < NODES
    for s, d, a in zip(SENDERS[real], RECEIVERS[real], logits[real], strict=True):
        if normalization == "softmax":
            entering = logits[real & (d == RECEIVERS)]
            A[:, d, s] += np.exp(a) / np.exp(entering).sum(axis=0)
        else:
            degree = np.sum(d == RECEIVERS) if normalization == "row" else np.sum(s == SENDERS)
            A[:, d, s] += np.clip(a, 0, 1) / degree
    return A


def by_hand(logits, b, slope):
    """The fixed point of `tanh` or of the identity, by iteration in NumPy to rounding."""
    A, x = GAMMA * matrix(logits), np.zeros_like(b)
    for _ in range(600):
        x = np.einsum("mij,jm->im", A, x) + b
        x = np.tanh(x) if slope else x
    return x


@pytest.mark.parametrize("normalization", ["row", "column", "softmax"])
def test_the_operator_is_the_matrix_made_edge_by_edge(normalization):
    logits, x, y = random_maps()

    @jax.jit
    def products(logits, x, y):
        A = contractive_operator(logits, SENDERS, RECEIVERS, NODES, normalization)
        # it is an operator of lineax: half of it can be subtracted from the identity and solved with
        shifted = lx.IdentityLinearOperator(A.in_structure()) - 0.5 * A
        solved = lx.linear_solve(shifted, x, lx.LU()).value
        return A.dense(), A.mv(x), A.T.mv(y), A.as_matrix() @ x.ravel(), solved - 0.5 * A.mv(solved)

    dense, product, transposed, flat, back = products(logits, x, y)
    truth = matrix(logits, normalization)
    np.testing.assert_allclose(dense, truth, atol=1e-14)
    np.testing.assert_allclose(product, np.einsum("mij,jm->im", truth, x), atol=1e-14)
    np.testing.assert_allclose(transposed, np.einsum("mij,im->jm", truth, y), atol=1e-14)
    np.testing.assert_allclose(flat, np.ravel(product), atol=1e-14)
    np.testing.assert_allclose(back, x, atol=1e-13)


@pytest.mark.parametrize("normalization", ["row", "column", "softmax"])
def test_no_logits_make_the_map_expand(normalization):
    """Many random graphs, with parallel edges and isolated nodes, and logits from tiny to huge."""
    random = np.random.default_rng(0)
    count, nodes, edges = 200, 6, 9
    senders, receivers = random.integers(0, nodes, (2, count, edges))
    logits = random.standard_normal((count, edges, 1)) * 10.0 ** random.integers(-3, 4, (count, 1, 1))
    b, x = random.standard_normal((2, count, nodes, 1))

    def look(squash, logits, senders, receivers, b, x):
        A = contractive_operator(logits, senders, receivers, nodes, normalization, squash)
        steps = [x]
        for _ in range(6):
            steps.append(GAMMA * A.mv(steps[-1]) + b)
        return A.dense()[0], jnp.stack(steps)[..., 0]

    parallel = [len(set(zip(s, d, strict=True))) < edges for s, d in zip(senders, receivers, strict=True)]
    assert any(parallel)
    assert any(len(set(d)) < nodes for d in receivers)
    for squash in ("clip", "sigmoid"):
        matrices, steps = jax.vmap(partial(look, squash))(logits, senders, receivers, b, x)
        sums = np.sum(matrices, axis=1 if normalization == "column" else 2)
        assert np.min(matrices) >= 0
        assert sums.max() <= 1 + 1e-12
        assert sums.max() > 0.9
        met = np.array([[i in d for i in range(nodes)] for d in receivers])
        if normalization == "softmax":
            np.testing.assert_allclose(sums, met, atol=1e-12)
        # the step shrinks in the norm in which the map contracts
        moves = np.abs(np.diff(steps, axis=1))
        sizes = moves.sum(axis=2) if normalization == "column" else moves.max(axis=2)
        assert np.all(sizes[:, 1:] <= GAMMA * sizes[:, :-1] + 1e-12)


@pytest.mark.by_default(1)
@pytest.mark.parametrize("solver", ["direct", "gmres", "picard"])
def test_fixed_points_and_gradients_are_those_of_dense_algebra(solver):
    logits, b, cotangent = random_maps()
    point = ContractiveFixedPoint(GAMMA, solver=solver, tol=1e-11)

    def total(logits, b):
        x = point(contractive_operator(logits, SENDERS, RECEIVERS, NODES), b)
        return jnp.sum(cotangent * x), x

    (on_logits, on_b), x = jax.jit(jax.grad(total, (0, 1), has_aux=True))(logits, b)
    A = matrix(logits)
    for m in range(HEADS):
        np.testing.assert_allclose(x[:, m], np.linalg.solve(np.eye(NODES) - GAMMA * A[m], b[:, m]), atol=1e-9)
    truth, on_b_truth, on_weights = dense_solution(
        contractive_operator(jnp.asarray(logits), SENDERS, RECEIVERS, NODES), b, GAMMA, cotangent
    )
    np.testing.assert_allclose(x, truth, atol=1e-9)
    np.testing.assert_allclose(on_b, on_b_truth, atol=1e-8)
    degree = np.array([np.sum(d == RECEIVERS) for d in RECEIVERS])[:, None]
    inside = (logits > 0) & (logits < 1)
    np.testing.assert_allclose(on_logits, on_weights * inside / degree, atol=1e-8)
    # central differences of the iteration by hand
    width = 1e-6
    for at, slope, move in ((1, on_b, (4, 1)), (0, on_logits, (3, 0)), (0, on_logits, (8, 1))):
        given = [[logits.copy(), b.copy()] for _ in range(2)]
        for sign, arguments in zip((1, -1), given, strict=True):
            arguments[at][move] += sign * width
        above, below = (np.sum(cotangent * by_hand(*arguments, slope=False)) for arguments in given)
        assert slope[move] == pytest.approx((above - below) / (2 * width), rel=1e-6, abs=1e-7)


@pytest.mark.by_default(1)
@pytest.mark.parametrize("solver", ["picard", "anderson"])
def test_a_nonlinear_fixed_point_has_the_gradient_of_the_closed_form(solver):
    logits, b, cotangent = random_maps(1)
    point = ContractiveFixedPoint(GAMMA, jnp.tanh, solver, tol=1e-11)

    def total(logits, b):
        x = point(contractive_operator(logits, SENDERS, RECEIVERS, NODES), b)
        return jnp.sum(cotangent * x), x

    (on_logits, on_b), x = jax.jit(jax.grad(total, (0, 1), has_aux=True))(logits, b)
    truth, A = by_hand(logits, b, slope=True), matrix(logits)
    np.testing.assert_allclose(x, truth, atol=1e-9)
    slope = 1 - truth**2
    real = np.flatnonzero(SENDERS < NODES)
    inside = (logits > 0) & (logits < 1)
    for m in range(HEADS):
        # y = g + gamma A^T Phi y
        y = np.linalg.solve(np.eye(NODES) - GAMMA * A[m].T @ np.diag(slope[:, m]), cotangent[:, m])
        np.testing.assert_allclose(on_b[:, m], slope[:, m] * y, atol=1e-8)
        for e in real:
            s, d = SENDERS[e], RECEIVERS[e]
            expected = GAMMA * slope[d, m] * y[d] * truth[s, m] * inside[e, m] / np.sum(d == RECEIVERS)
            assert on_logits[e, m] == pytest.approx(expected, abs=1e-8)
    # central differences
    above, below = (np.sum(cotangent * by_hand(logits, b + s * 1e-6 * cotangent, slope=True)) for s in (1, -1))
    assert float(jnp.sum(on_b * cotangent)) == pytest.approx((above - below) / 2e-6, rel=1e-6)


def test_neither_the_gradient_nor_its_memory_grows_with_the_iterations_allowed():
    logits, b, cotangent = random_maps()

    def gradient(most):
        point = ContractiveFixedPoint(0.5, jnp.tanh, "picard", tol=1e-11, max_iter=most)
        A = lambda logits: contractive_operator(logits, SENDERS, RECEIVERS, NODES)
        return jax.grad(lambda logits: jnp.sum(cotangent * point(A(logits), b)))

    few, many = (jax.make_jaxpr(gradient(most))(logits) for most in (60, 6000))
    assert len(str(few)) == pytest.approx(len(str(many)), rel=0.01)
    few, many = (jax.jit(gradient(most)).lower(logits).compile() for most in (60, 6000))
    assert few.memory_analysis().temp_size_in_bytes == many.memory_analysis().temp_size_in_bytes
    np.testing.assert_array_equal(few(logits), many(logits))


def test_what_does_not_converge_is_seen():
    logits, b, _ = random_maps()
    A = contractive_operator(jnp.asarray(logits), SENDERS, RECEIVERS, NODES, "softmax")
    # 50 iterations, the official limit, do for 0.5 and not for 0.95
    ContractiveFixedPoint(0.5, solver="picard", tol=1e-6, max_iter=50)(A, jnp.asarray(b))
    short = ContractiveFixedPoint(0.95, solver="picard", tol=1e-6, max_iter=50)
    with pytest.raises(dini.SolveError, match="MAX_STEPS after 50 steps"):
        short(A, jnp.asarray(b))
    # in a batch it is NaN, and nothing else is: the second problem is solved at the first step
    both = jax.vmap(lambda b: short(A, b))(jnp.stack([b, np.zeros_like(b)]))
    assert np.isnan(both[0]).all()
    assert not both[1].any()
    # with the iterations that gamma needs, the error is below the tolerance
    enough = ContractiveFixedPoint(0.95, solver="picard", tol=1e-6)
    error = enough(A, jnp.asarray(b)) - dense_solution(A, b, 0.95, b)[0]
    assert 0 < np.abs(error).max() < 1e-6
    # so it is with GMRES, whose solution counts by its residual
    for limit, status in ((1, dini.Status.MAX_STEPS), (None, dini.Status.CONVERGED)):
        krylov = ContractiveFixedPoint(0.95, solver="gmres", max_iter=limit, on_failure="ignore")
        assert krylov.solve(A, jnp.asarray(b)).status == status
    with pytest.raises(dini.DerivativeError, match="the graph's fixed point was not solved"):
        ContractiveFixedPoint(0.95, solver="gmres", max_iter=1)(A, jnp.asarray(b))
    # logits that are not finite are refused, and inside of a compiled program they show in the solution
    direct = ContractiveFixedPoint(0.5)
    lost = jax.jit(lambda logits: direct(contractive_operator(logits, SENDERS, RECEIVERS, NODES), b))
    assert np.isnan(lost(np.full_like(logits, np.nan))).any()


def test_the_solver_suits_the_problem():
    assert ContractiveFixedPoint(0.95).method(512) == "direct"
    assert ContractiveFixedPoint(0.5).method(513) == "picard"
    assert ContractiveFixedPoint(0.95).method(513) == "anderson"
    assert ContractiveFixedPoint(0.5, jnp.tanh).method(10) == "picard"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ContractiveFixedPoint(1.0), "gamma must be at least 0 and below 1.*given 1.0"),
        (lambda: ContractiveFixedPoint(-0.1), "gamma"),
        (lambda: ContractiveFixedPoint(0.5, solver="newton"), "solver must be one of"),
        (lambda: ContractiveFixedPoint(0.5, jnp.tanh, "direct"), "linear fixed points"),
        (lambda: ContractiveFixedPoint(0.5, tol=0.0), "tol must be positive"),
        (lambda: ContractiveFixedPoint(0.5, max_iter=0), "max_iter must be at least 1"),
        (lambda: ContractiveFixedPoint(0.5)(jnp.eye(3), jnp.ones(4)), "A must fit b"),
        (lambda: contractive_operator(np.array([np.inf]), np.array([0]), np.array([0]), 1), "logits must be finite"),
        (lambda: contractive_operator(np.ones(2), np.array([0]), np.array([0]), 1), "as many senders and receivers"),
        (lambda: contractive_operator(np.ones(1), np.array([0]), np.array([0]), 1, "rows"), "normalization"),
        (lambda: contractive_operator(np.ones(1), np.array([0]), np.array([0]), 1, squash="tanh"), "squash"),
        (lambda: make_graph(np.ones((2, 1)), np.ones((1, 1)), [0], [2]), "receivers must be from 0 to 1.*2 to 2"),
        (lambda: make_graph(np.ones((2, 1)), np.ones((1, 1)), [0, 1], [1]), "senders must have an index for each"),
        (lambda: make_graph(np.ones(2), np.ones((1, 1)), [0], [1]), "nodes must have a row for each"),
        (lambda: pore_network(7, np.random.default_rng(0)), "at least 8 pores"),
        (lambda: pore_network(9, np.random.default_rng(0), 0.5), "rim must be between"),
        (lambda: pad(walk(4, np.random.default_rng(0)).graph, 3, 9), "room for 4 nodes and 6 edges"),
        (lambda: stack([]), "at least one graph"),
        (lambda: MLP(jax.random.key(0), (3, 0), leaky_relu), "widths must be two positive numbers"),
        (lambda: Encoder(jax.random.key(0), 1, 1, 0), "heads must be at least 1"),
        (lambda: AttentionLayer(jax.random.key(0), (1, 1), (1, 1), 1, leaky_relu, "median"), "aggregate"),
        (lambda: ConvergentGraphSolver(len, len, readout="median"), "readout must be None or one of"),
    ],
)
def test_bad_input_raises_at_the_door(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def some_graph(nodes, edges, seed):
    random = np.random.default_rng(seed)
    senders, receivers = random.integers(0, nodes, (2, edges))
    return make_graph(random.standard_normal((nodes, 2)), random.standard_normal((edges, 1)), senders, receivers)


@eqx.filter_jit
def model(aggregate="sum", fixed_point=0.9, **settings):
    keys = jax.random.split(jax.random.key(0))
    encoder = Encoder(
        keys[0], 2, 1, 3, width=4, hidden=5, aggregate=aggregate, activation=jax.nn.silu, b_activation=None
    )
    return ConvergentGraphSolver(encoder, MLP(keys[1], (3, 4, 2), leaky_relu), fixed_point, **settings)


@pytest.mark.parametrize("aggregate", ["sum", "mean", "max"])
def test_an_attention_layer_is_the_one_written_node_by_node(aggregate):
    graph = some_graph(4, 9, 3)._replace(receivers=np.array([0, 0, 0, 1, 1, 2, 2, 2, 0]))
    layer = AttentionLayer(jax.random.key(1), (2, 3), (1, 2), 4, leaky_relu, aggregate)

    def mlp(net, x):
        for linear in net.layers:
            x = np.asarray(linear.weight) @ x + np.asarray(linear.bias)
            x = np.where(x > 0, x, 0.01 * x)
        return x

    nodes, edges = eqx.filter_jit(layer)(graph.nodes, graph.edges, graph.senders, graph.receivers)
    inputs = [
        np.concatenate([f, graph.nodes[s], graph.nodes[d]])
        for f, s, d in zip(graph.edges, graph.senders, graph.receivers, strict=True)
    ]
    new, scores = (np.array([mlp(net, x) for x in inputs]) for net in (layer.edge, layer.attention))
    np.testing.assert_allclose(edges, new, atol=1e-12)
    # node 3 has no edges
    for i in range(4):
        entering = graph.receivers == i
        shares = np.exp(scores[entering]) / np.exp(scores[entering]).sum()
        messages = shares * new[entering]
        met = getattr(messages, aggregate)(axis=0) if entering.any() else np.zeros(2)
        np.testing.assert_allclose(nodes[i], mlp(layer.node, np.concatenate([met, graph.nodes[i]])), atol=1e-12)


def test_a_softmax_among_edges_has_the_gradient_of_a_softmax():
    logits, weights = np.random.default_rng(0).standard_normal((2, 6))
    index = np.array([1, 0, 1, 1, 3, 0])  # the last but one is padding
    ours = jax.jit(jax.grad(lambda a: jnp.sum(weights * segment_softmax(a, index, 3))))(logits)
    for group in ([1, 5], [0, 2, 3]):
        w, p = weights[group], np.exp(logits[group]) / np.exp(logits[group]).sum()
        np.testing.assert_allclose(ours[np.array(group)], p * w - p * (p @ w), atol=1e-14)


def test_the_first_weights_have_the_deviation_of_their_gain():
    usual, large = (MLP(jax.random.key(0), (50, 80, 60), leaky_relu, gain=gain) for gain in (None, 1.5))
    for net, deviation in ((usual, 3**-0.5), (large, 1.5)):
        for layer, inputs in zip(net.layers, (50, 80), strict=True):
            assert layer.weight.shape[1] == inputs
            assert np.std(layer.weight) * inputs**0.5 == pytest.approx(deviation, rel=0.03)
            assert np.std(layer.bias) == (0 if net is large else pytest.approx((3 * inputs) ** -0.5, rel=0.25))


def test_options_of_the_encoder_change_what_they_say():
    graph = some_graph(5, 8, 0)
    make = partial(Encoder, jax.random.key(0), 2, 1, 3, hidden=4, activation=leaky_relu)
    official, plain, lower = (
        eqx.filter_jit(make(**options))(graph) for options in ({}, {"b_activation": None}, {"edge_bias": 0.0})
    )
    np.testing.assert_allclose(official.b, leaky_relu(plain.b))
    assert np.min(plain.b) < 0
    np.testing.assert_array_equal(official.logits, plain.logits)
    # the bias is added before the activation
    inverse = lambda y: np.where(y > 0, y, 100 * np.asarray(y))
    np.testing.assert_allclose(inverse(official.logits), inverse(lower.logits) + 0.5, atol=1e-12)


def test_gamma_zero_is_the_network_without_fixed_points():
    graph = some_graph(5, 8, 0)

    @eqx.filter_jit
    def both(model, graph):
        A, b = model.maps(graph)
        return model(graph), model.decoder(model.encoder(graph).b), b, ContractiveFixedPoint(0.0)(A, b)

    found, expected, b, x = both(model(fixed_point=0.0), graph)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(x, b)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "settings",
    [
        {"aggregate": "max"},
        {
            "readout": "mean",
            "aggregate": "mean",
            "fixed_point": ContractiveFixedPoint(0.6, jnp.tanh, tol=1e-10),
            "normalization": "softmax",
        },
    ],
)
def test_a_graph_in_a_batch_is_the_graph_alone_whatever_its_nodes_are_called(settings):
    small, large = some_graph(3, 2, 0), some_graph(6, 11, 1)
    random = np.random.default_rng(0)
    name, order = random.permutation(6), random.permutation(11)
    ends = name[large.senders][order], name[large.receivers][order]
    renamed = make_graph(large.nodes[np.argsort(name)], large.edges[order], *ends)
    ours = model(**settings)
    padded = jax.jit(jax.vmap(ours))(stack([small, large, renamed], 8, 12))
    if ours.readout is None:
        expected = eqx.filter_jit(ours)(large)
        np.testing.assert_allclose(padded[1, :6], expected, atol=1e-9)
        np.testing.assert_allclose(padded[2, :6][name], expected, atol=1e-9)
        assert not padded[1:, 6:].any()
    else:  # side by side
        expected = eqx.filter_jit(ours)(join([small, large]))
        np.testing.assert_allclose(padded[:2, 0], expected, atol=1e-9)
        np.testing.assert_allclose(padded[2, 0], expected[1], atol=1e-9)


@pytest.mark.parametrize("readout", ["sum", "mean", "max"])
def test_a_property_of_each_graph_is_read_from_its_nodes(readout):
    graphs = [some_graph(nodes, 2 * nodes, nodes) for nodes in (3, 5)]
    encoder = lambda graph: Encoded(graph.nodes, jnp.zeros((len(graph.edges), 2)))
    ours = ConvergentGraphSolver(encoder, lambda x: 2 * x, 0.5, readout)
    expected = [2 * getattr(graph.nodes, readout)(axis=0) for graph in graphs]
    found = eqx.filter_jit(ours)(pad(join(graphs), 10, 20))
    np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize("kind", ["sum", "mean", "max"])
def test_a_node_that_is_no_number_shows_where_it_is_felt(kind):
    graph = some_graph(3, 4, 0)._replace(senders=np.array([0, 0, 1, 2]), receivers=np.array([1, 1, 2, 2]))
    nodes = graph.nodes.copy()
    nodes[0] = np.nan
    lost = join([graph._replace(nodes=nodes), graph])
    encoder = lambda graph: Encoded(graph.nodes, jnp.zeros((len(graph.edges), 2)))
    readout = ConvergentGraphSolver(encoder, lambda x: x, 0.0, kind)(lost)
    np.testing.assert_array_equal(np.isnan(readout).all(axis=1), [True, False])
    layer = AttentionLayer(jax.random.key(0), (2, 3), (1, 2), 4, leaky_relu, kind)
    new, _ = layer(lost.nodes, lost.edges, lost.senders, lost.receivers)
    np.testing.assert_array_equal(np.isnan(new).all(axis=1), [True, True, False, False, False, False])


def test_whatever_has_the_fields_of_a_graph_is_one():
    graph = some_graph(4, 5, 0)
    tuple_of_jraph = types.SimpleNamespace(**graph._asdict(), globals=None)
    found = as_graph(tuple_of_jraph)
    assert isinstance(found, Graph)
    jax.tree.map(np.testing.assert_array_equal, found, graph)
    assert eqx.filter_eval_shape(model(), tuple_of_jraph).shape == (4, 2)
    with pytest.raises(TypeError, match="n_edge is missing"):
        as_graph(types.SimpleNamespace(**(graph._asdict() | {"n_edge": None})))


def test_the_values_of_a_walk_are_what_walkers_collect():
    random = np.random.default_rng(0)
    graph, values = walk(5, random)
    reward = graph.nodes[:, 0]
    assert np.sum(reward != 0) == 2
    # the expected reward of each later step, by the walk's distribution
    P = np.zeros((5, 5))
    for i in range(5):
        near = [j for j in (i - 1, i + 1) if 0 <= j < 5]
        P[i, near] = 1 / len(near)
    total, share = np.zeros(5), np.eye(5)
    for step in range(400):
        total += 0.9**step * share @ reward
        share = share @ P
    np.testing.assert_allclose(values, total, atol=1e-12)
    # the fixed point of an operator whose logits are one
    A = contractive_operator(np.ones(8), graph.senders, graph.receivers, 5)
    np.testing.assert_allclose(ContractiveFixedPoint(0.9)(A, jnp.asarray(reward)), values, atol=1e-12)


def test_value_iteration_finds_the_values_of_the_best_policy():
    random = np.random.default_rng(0)
    graph = decision_graph(6, 3, random)
    assert np.all(graph.senders != graph.receivers)
    assert np.bincount(graph.receivers).tolist() == [3] * 6
    values = best_values(graph, 1e-10)
    # policy iteration: the policy's own values by a linear system
    edges = np.array([np.flatnonzero(graph.receivers == i)[0] for i in range(6)])
    for _ in range(20):
        P = np.zeros((6, 6))
        P[np.arange(6), graph.senders[edges]] = 1
        own = np.linalg.solve(np.eye(6) - 0.9 * P, graph.edges[edges, 0])
        gains = action_values(graph, own)
        edges = np.array([max(np.flatnonzero(graph.receivers == i), key=lambda e: gains[e]) for i in range(6)])
    np.testing.assert_allclose(values, own, atol=1e-9)
    assert np.abs(best_values(graph) - own).max() <= 1e-6

    examples = decision_processes(3, (4, 6), (2, 3), random)
    for one, target in examples:
        np.testing.assert_allclose(target, best_values(one, 1e-10), atol=1e-6)
    truth = np.concatenate([target for _, target in examples])
    assert policy_accuracy(examples, truth) == 1
    assert policy_accuracy(examples, -9 * truth) < 1
    # which edge is the best is the same for all values shifted alike
    assert policy_accuracy(examples, truth + 3) == 1


def test_pressures_in_a_pore_network_balance():
    graph, pressure = pore_network(40, np.random.default_rng(0))
    held, given = graph.nodes[:, 3] == 1, graph.nodes[:, 4]
    np.testing.assert_array_equal(pressure[held], given[held])
    assert set(given[held]) == {0.0, 1.0}
    # what flows in through the throats of a free pore flows out, pore by pore
    flow = np.zeros(40)
    for s, d, k in zip(graph.senders, graph.receivers, graph.edges[:, 2], strict=True):
        flow[d] += k * (pressure[s] - pressure[d])
    assert np.abs(flow[~held]).max() < 1e-12
    assert np.abs(flow[held]).max() > 0.1
    assert 0 < pressure[~held].min() < pressure[~held].max() < 1
    # pores do not overlap, and throats have a length
    assert graph.edges[:, 1].min() > 0
    pairs = list(zip(graph.senders, graph.receivers, strict=True))
    assert len(set(pairs)) == len(pairs)
    assert {(d, s) for s, d in pairs} == set(pairs)
    # three pores in a row, by hand: the drop is as the resistances
    row = pressures(3, np.array([0, 1]), np.array([1, 2]), np.array([1.0, 3.0]), np.array([1, 0, 1]) == 1, np.eye(3)[0])
    np.testing.assert_allclose(row, [1, 0.25, 0])
    # the pressures are a fixed point that a convergent solver can have: what comes in along edges, by conductance
    A = np.zeros((40, 40))
    np.add.at(A, (graph.receivers, graph.senders), graph.edges[:, 2])
    A = np.where(held[:, None], 0, A / A.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(A @ pressure + np.where(held, given, 0), pressure, atol=1e-12)


@pytest.mark.parametrize("name", ["graphs", "operator", "fixed_point"])
def test_the_examples_of_the_docstrings_run(name):
    module = importlib.import_module(f"dini_zoo.implicit.convergent_graphs.{name}")
    public = vars(importlib.import_module("dini_zoo.implicit.convergent_graphs"))
    found = doctest.testmod(module, extraglobs={key: public[key] for key in public["__all__"]})
    assert found.attempted
    assert not found.failed


def test_the_model_of_decision_processes_predicts_a_value_a_state():
    settings = Settings.tiny()
    build = lambda: decision_model(settings, jax.random.key(0), jnp.asarray(2.5))
    graph = decision_graph(6, 3, np.random.default_rng(0))
    found = eqx.filter_eval_shape(lambda: build()(graph))
    assert found.shape == (6, 1)


@pytest.mark.slow
def test_the_bars_at_full_scale():
    assert_bars_met("convergent-graph-solvers", experiment)
