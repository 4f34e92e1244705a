"""One measurement of the build and solve benchmarks, in a process of its own.

``python worker.py build|solve TOOL LIMIT INSTANCE.npz...`` prints lines of JSON. Run by
build.py and solve.py with the Python of this package or of the peers; each tool's
imports are left out of the times. ``calibration`` is the CPU seconds of a fixed piece of
work before and after, so that rows of different hours can be compared.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import resource
import sys
import time

import numpy as np

PEERS = ("omlt-bigm", "omlt-partition", "scip-ml-sos", "scip-ml-bigm", "gurobi-ml")
OWN = (
    "pyomo_relu",
    "pyomo_relu-one",
    "pyomo_relu-global",
    "pyomo_relu-lp",
    "pyomo_relu-nostart",
    "pyomo_relu-appsi",
    "start",
)
#: Solvers that need no rows of a network, by their tool.
SEARCHES = {"pyomo_relu-one": "relu", "pyomo_relu-global": "relu_global"}


def read(path: str) -> dict:
    """The arrays of an instance; ``layers`` are dense (w, b)."""
    with np.load(path) as data:
        found = dict(data)
    found["layers"] = []
    while f"w{len(found['layers'])}" in found:
        k = len(found["layers"])
        found["layers"].append((found[f"w{k}"], found[f"b{k}"]))
    return found


def forward(instance: dict, x) -> np.ndarray:
    """The network's outputs at a point."""
    x = np.asarray(x, dtype=float)
    for k, (w, b) in enumerate(instance["layers"]):
        x = w @ x + b
        if k + 1 < len(instance["layers"]):
            x = np.maximum(x, 0)
    return x


def conv_matrix(kernel: np.ndarray, size: int, stride: int):
    """A valid convolution as a CSR matrix, channels first."""
    import scipy.sparse as sp

    out_channels, in_channels, k, _ = kernel.shape
    n = (size - k) // stride + 1
    o, i, r, c, a, b = np.meshgrid(
        np.arange(out_channels),
        np.arange(in_channels),
        np.arange(n),
        np.arange(n),
        np.arange(k),
        np.arange(k),
        indexing="ij",
    )
    rows = (o * n + r) * n + c
    columns = (i * size + r * stride + a) * size + c * stride + b
    data = np.broadcast_to(kernel[:, :, None, None, :, :], rows.shape)
    shape = (out_channels * n * n, in_channels * size * size)
    return sp.csr_array((data.ravel(), (rows.ravel(), columns.ravel())), shape=shape)


# -------------------------------------------------------------------- this package
def own_network(instance: dict):
    from pyomo_relu import NetworkBuilder, activations

    builder = NetworkBuilder()
    last = builder.input("x", (len(instance["lower"]),))
    layers = instance["layers"]
    if "k1" in instance:
        first, second = (
            conv_matrix(instance["k1"], 28, 2),
            conv_matrix(instance["k2"], 13, 2),
        )
        layers = [(w, np.zeros(w.shape[0])) for w in (first, second, instance["dense"])]
    for k, (w, b) in enumerate(layers):
        last = builder.affine(f"dense_{k}", [(last, w)], b)
        if k + 1 < len(layers):
            last = builder.piecewise(f"relu_{k}", last, activations.relu())
    return builder.build([last])


def own_model(instance: dict, network, bounds=None, formulation="bigm"):
    import pyomo.environ as pyo

    from pyomo_relu import ReLUNetBlock

    m = pyo.ConcreteModel()
    m.x = pyo.Var(range(len(instance["lower"])))
    for v, a, b in zip(
        m.x.values(), instance["lower"].tolist(), instance["upper"].tolist()
    ):
        v.setlb(a)
        v.setub(b)
    given = {} if formulation is None else {"bounds": bounds}
    m.net = ReLUNetBlock(network=network, inputs=m.x, formulation=formulation, **given)
    finish(m, m.net.outputs, instance)
    return m


def finish(m, outputs, instance: dict) -> None:
    """Objective and rows over the outputs of a Pyomo model."""
    import pyomo.environ as pyo

    def over(coefs):
        return sum(a * outputs[j] for j, a in enumerate(coefs.tolist()) if a)

    m.obj = pyo.Objective(expr=over(instance["cost"]), sense=pyo.maximize)
    if "rows" in instance:
        m.rows = pyo.ConstraintList()
        for row, right in zip(instance["rows"], instance["right"].tolist()):
            m.rows.add(over(row) <= right)


def build_own(instance, tool):
    network = own_network(instance)

    def build():
        network._fingerprint = None  # hashed once for each network: counts as building
        return own_model(instance, network, "interval")

    def load(m):
        from pyomo_relu.programs import HighsModel
        from pyomo_relu.programs.standard_form import compile_standard_form

        return HighsModel(compile_standard_form(m))

    return build, load


def solve_own(instance, tool, limit):
    network = own_network(instance)
    begin = time.process_time()
    if tool in SEARCHES:
        m = own_model(instance, network, formulation=None)
    else:
        m = own_model(instance, network, "lp" if tool == "pyomo_relu-lp" else None)
    built = time.process_time()
    if tool == "start":
        from pyomo_relu import find_start

        start = find_start(m, time_limit=limit)
        x = [v.value for v in m.x.values()] if start.value is not None else None
        return built - begin, time.process_time() - built, x, np.inf, "start", 0
    if tool == "pyomo_relu-appsi":
        return solve_appsi(m, instance, m.x, begin, built, limit)
    from pyomo.contrib.solver.common.factory import SolverFactory

    if tool in SEARCHES:
        solver, options = SolverFactory(SEARCHES[tool]), {}
    else:
        solver = SolverFactory("relu_highs")
        options = {
            "start": None if tool == "pyomo_relu-nostart" else "auto",
            "solver_options": {"mip_min_logging_interval": 0.2},
        }
    results = solver.solve(
        m,
        threads=1,
        progress=lambda p: time.process_time() - begin > limit,
        raise_exception_on_nonoptimal_result=False,
        load_solutions=False,
        **options,
    )
    done = time.process_time()
    x = None
    if results.incumbent_objective is not None:
        results.solution_loader.load_vars()
        x = [v.value for v in m.x.values()]
    nodes = (
        results.extra_info.mip_node_count
        if hasattr(results.extra_info, "mip_node_count")
        else 0
    )
    return (
        built - begin,
        done - built,
        x,
        results.objective_bound,
        results.termination_condition.name,
        nodes,
    )


def solve_appsi(m, instance, xs, begin, built, limit):
    """HiGHS by Pyomo's appsi interface, ended by CPU time."""
    from pyomo.contrib.appsi.solvers import Highs

    solver = Highs()
    solver.config.load_solution = False
    solver.highs_options = {"threads": 1}
    solver.set_instance(m)
    highs = solver._solver_model

    def stop(event):
        if time.process_time() - begin > limit:
            event.data_in.user_interrupt = True

    highs.cbMipInterrupt += stop
    results = solver.solve(m)
    done = time.process_time()
    x = None
    if results.best_feasible_objective is not None:
        results.solution_loader.load_vars()
        x = [v.value for v in xs.values()]
    status = highs.getModelStatus().name
    status = "convergenceCriteriaSatisfied" if status == "kOptimal" else status
    info = highs.getInfo()
    return built - begin, done - built, x, info.mip_dual_bound, status, info.mip_node_count


# ------------------------------------------------------------------------- the peers
def omlt_network(instance):
    from omlt.neuralnet.layer import ConvLayer2D, DenseLayer, IndexMapper, InputLayer
    from omlt.neuralnet.network_definition import NetworkDefinition

    low, high = instance["lower"].tolist(), instance["upper"].tolist()
    if "k1" in instance:
        box = {
            (0, r, c): (low[28 * r + c], high[28 * r + c])
            for r in range(28)
            for c in range(28)
        }
        net = NetworkDefinition(scaled_input_bounds=box)
        layers = [
            InputLayer([1, 28, 28]),
            ConvLayer2D(
                [1, 28, 28], [8, 13, 13], [2, 2], instance["k1"], activation="relu"
            ),
            ConvLayer2D([8, 13, 13], [8, 5, 5], [2, 2], instance["k2"], activation="relu"),
            DenseLayer(
                [200],
                [10],
                instance["dense"].T,
                np.zeros(10),
                activation="linear",
                input_index_mapper=IndexMapper([8, 5, 5], [200]),
            ),
        ]
    else:
        net = NetworkDefinition(scaled_input_bounds=dict(enumerate(zip(low, high))))
        layers = [InputLayer([len(low)])]
        for k, (w, b) in enumerate(instance["layers"]):
            last = k + 1 == len(instance["layers"])
            layers.append(
                DenseLayer(
                    [w.shape[1]],
                    [w.shape[0]],
                    w.T,
                    b,
                    activation="linear" if last else "relu",
                )
            )
    for k, layer in enumerate(layers):
        net.add_layer(layer)
        if k:
            net.add_edge(layers[k - 1], layer)
    return net


def omlt_model(instance, tool, net):
    import pyomo.environ as pyo
    from omlt import OmltBlock
    from omlt.neuralnet import ReluBigMFormulation, ReluPartitionFormulation

    m = pyo.ConcreteModel()
    m.nn = OmltBlock()
    kind = ReluPartitionFormulation if tool == "omlt-partition" else ReluBigMFormulation
    m.nn.build_formulation(kind(net))
    finish(m, m.nn.outputs, instance)
    return m


def build_omlt(instance, tool):
    net = omlt_network(instance)

    def load(m):
        from pyomo.contrib.appsi.solvers import Highs

        solver = Highs()
        solver.set_instance(m)
        return solver

    return lambda: omlt_model(instance, tool, net), load


def solve_omlt(instance, tool, limit):
    net = omlt_network(instance)
    begin = time.process_time()
    m = omlt_model(instance, tool, net)
    built = time.process_time()
    return solve_appsi(m, instance, m.nn.inputs, begin, built, limit)


def sklearn_model(instance):
    """The layers as a fitted scikit-learn regressor, which both libraries read."""
    from sklearn.neural_network import MLPRegressor

    layers = instance["layers"]
    model = MLPRegressor(hidden_layer_sizes=[w.shape[0] for w, _ in layers[:-1]])
    model.coefs_ = [w.T for w, _ in layers]
    model.intercepts_ = [b for _, b in layers]
    model.n_layers_ = len(layers) + 1
    model.n_outputs_ = layers[-1][0].shape[0]
    model.n_features_in_ = layers[0][0].shape[1]
    model.out_activation_ = "identity"
    return model


def scip_model(instance, tool, predictor):
    import pyscipopt
    from pyscipopt_ml.sklearn import add_mlp_regressor_constr

    scip = pyscipopt.Model()
    scip.hideOutput()
    box = zip(instance["lower"].tolist(), instance["upper"].tolist())
    x = np.array([[scip.addVar(f"x{i}", lb=a, ub=b) for i, (a, b) in enumerate(box)]])
    n = len(instance["cost"])
    y = np.array([[scip.addVar(f"y{j}", lb=None, ub=None) for j in range(n)]])
    kind = "bigm" if tool == "scip-ml-bigm" else "sos"
    add_mlp_regressor_constr(scip, predictor, x, y, "n_", formulation=kind)
    cost = instance["cost"].tolist()
    scip.setObjective(
        pyscipopt.quicksum(a * y[0, j] for j, a in enumerate(cost) if a), "maximize"
    )
    if "rows" in instance:
        for row, right in zip(instance["rows"].tolist(), instance["right"].tolist()):
            scip.addCons(
                pyscipopt.quicksum(a * y[0, j] for j, a in enumerate(row) if a) <= right
            )
    return scip, x


def solve_scip(instance, tool, limit):
    predictor = sklearn_model(instance)
    begin = time.process_time()
    scip, x = scip_model(instance, tool, predictor)
    built = time.process_time()
    scip.setParam("timing/clocktype", 1)
    scip.setParam("limits/time", limit)
    scip.setParam("limits/gap", 1e-4)
    scip.optimize()
    done = time.process_time()
    point = None
    if scip.getNSols():
        point = [scip.getVal(v) for v in x[0]]
    status = scip.getStatus()
    status = "convergenceCriteriaSatisfied" if status in ("optimal", "gaplimit") else status
    return (
        built - begin,
        done - built,
        point,
        scip.getDualbound(),
        status,
        scip.getNTotalNodes(),
    )


def gurobi_model(instance, predictor):
    import gurobipy as gp
    from gurobi_ml.sklearn import add_mlp_regressor_constr

    env = gp.Env(params={"OutputFlag": 0})
    model = gp.Model(env=env)
    x = model.addMVar((1, len(instance["lower"])), lb=instance["lower"][None])
    x.UB = instance["upper"][None]
    y = model.addMVar((1, len(instance["cost"])), lb=-gp.GRB.INFINITY)
    add_mlp_regressor_constr(model, predictor, x, y)
    model.setObjective((y @ instance["cost"]).sum(), gp.GRB.MAXIMIZE)
    if "rows" in instance:
        model.addConstr(y @ instance["rows"].T <= instance["right"][None])
    model.update()
    return model, x


def solve_gurobi(instance, tool, limit):
    import gurobipy as gp

    predictor = sklearn_model(instance)
    begin = time.process_time()
    model, x = gurobi_model(instance, predictor)
    built = time.process_time()
    model.Params.Threads = 1

    def stop(m, where):
        if time.process_time() - begin > limit:
            m.terminate()

    try:
        model.optimize(stop)
    except gp.GurobiError as error:
        if error.errno == 10010:
            return built - begin, 0.0, None, np.inf, "licence", 0
        raise
    done = time.process_time()
    point = x.X[0].tolist() if model.SolCount else None
    status = "convergenceCriteriaSatisfied" if model.Status == 2 else f"{model.Status}"
    return (
        built - begin,
        done - built,
        point,
        model.ObjBound,
        status,
        int(model.NodeCount),
    )


# -------------------------------------------------------------------------- the floor
def build_floor(instance, tool):
    """The same MILP by NumPy and highspy alone: what can't be undercut."""
    import highspy
    import scipy.sparse as sp

    layers = instance["layers"]
    if "k1" in instance:
        mats = (
            conv_matrix(instance["k1"], 28, 2),
            conv_matrix(instance["k2"], 13, 2),
            sp.csr_array(instance["dense"]),
        )
        layers = [(w, np.zeros(w.shape[0])) for w in mats]
    mats = [sp.csr_array(w) for w, _ in layers]

    def build():
        low, high = instance["lower"], instance["upper"]
        lows, highs_, integral = [low], [high], [np.zeros(len(low))]
        blocks, row_low, row_high = [], [], []
        start, total = 0, len(low)
        for k, ((w, b), matrix) in enumerate(zip(layers, mats)):
            mid, rad = (low + high) / 2, (high - low) / 2
            c, r = w @ mid + b, abs(w) @ rad
            low, high = c - r, c + r
            n = len(b)
            eye = sp.eye_array(n, format="csr")
            blocks.append((matrix, start, -eye, total, None, 0))
            row_low.append(-b)
            row_high.append(-b)
            lows.append(low)
            highs_.append(high)
            integral.append(np.zeros(n))
            start, total = total, total + n
            if k + 1 == len(layers):
                continue
            pre, down, up = start, low, high
            lows += [np.zeros(n), np.zeros(n)]
            highs_ += [np.maximum(up, 0), np.ones(n)]
            integral += [np.zeros(n), np.ones(n)]
            y, z = total, total + n
            total += 2 * n
            diag = sp.diags_array
            blocks.append((eye, pre, -eye, y, None, 0))
            blocks.append((eye, y, -eye, pre, diag(-down), z))
            blocks.append((eye, y, diag(-up), z, None, 0))
            row_low += [np.full(n, -np.inf)] * 3
            row_high += [np.zeros(n), -down, np.zeros(n)]
            start, low, high = y, np.maximum(down, 0), np.maximum(up, 0)
        data, rows, columns, base = [], [], [], 0
        for first, at, second, there, third, where in blocks:
            for part, offset in ((first, at), (second, there), (third, where)):
                if part is not None:
                    coo = part.tocoo()
                    data.append(coo.data)
                    rows.append(coo.coords[0] + base)
                    columns.append(coo.coords[1] + offset)
            base += first.shape[0]
        a = sp.csr_array(
            (
                np.concatenate(data),
                (np.concatenate(rows), np.concatenate(columns)),
            ),
            shape=(base, total),
        )
        cost = np.zeros(total)
        cost[start : start + len(instance["cost"])] = instance["cost"]
        return a, cost, lows, highs_, row_low, row_high, integral

    def load(parts):
        a, cost, lows, highs_, row_low, row_high, integral = parts
        highs = highspy.Highs()
        highs.setOptionValue("output_flag", False)
        highs.passModel(
            a.shape[1],
            a.shape[0],
            a.nnz,
            2,
            -1,
            0.0,
            cost,
            np.concatenate(lows),
            np.concatenate(highs_),
            np.concatenate(row_low),
            np.concatenate(row_high),
            a.indptr.astype(np.int32),
            a.indices.astype(np.int32),
            a.data,
            np.concatenate(integral).astype(np.int32),
        )
        return highs

    return build, load


def builder(instance, tool):
    """(build, load) of a tool; load is None where the model is in the solver at once."""
    if tool.startswith("pyomo_relu"):
        return build_own(instance, tool)
    if tool.startswith("omlt"):
        return build_omlt(instance, tool)
    if tool == "floor":
        return build_floor(instance, tool)
    predictor = sklearn_model(instance)
    if tool.startswith("scip"):
        return lambda: scip_model(instance, tool, predictor), None
    return lambda: gurobi_model(instance, predictor), None


def megabytes() -> float:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def small_instance() -> dict:
    rng = np.random.default_rng(1)
    layers = [(rng.normal(size=(4, 3)), np.ones(4)), (rng.normal(size=(1, 4)), np.ones(1))]
    return {
        "layers": layers,
        "lower": -np.ones(3),
        "upper": np.ones(3),
        "cost": np.ones(1),
    }


def measure_build(path: str, tool: str) -> dict:
    """CPU seconds to build and to load, and the growth of memory while building."""
    warm, load = builder(small_instance(), tool)
    first = warm()
    if load:
        load(first)
    del first
    instance = read(path)
    build, load = builder(instance, tool)
    before = megabytes()
    builds, loads, grown = [], [], 0.0
    for k in range(5):
        begin = time.process_time()
        model = build()
        builds.append(time.process_time() - begin)
        if k == 0:
            grown = megabytes() - before
        if load:
            begin = time.process_time()
            solver = load(model)
            loads.append(time.process_time() - begin)
            del solver
        del model
        if sum(builds) + sum(loads) > 4:
            break
    return {
        "build": min(builds),
        "load": min(loads) if loads else 0.0,
        "megabytes": grown,
        "runs": len(builds),
    }


def solver_of(tool: str):
    """The function that solves an instance with a tool, warmed up on a small one."""
    solver = {"omlt": solve_omlt, "scip": solve_scip, "gurobi": solve_gurobi}.get(
        tool.split("-")[0], solve_own
    )
    solver(small_instance(), tool, 5.0)
    calibrate()
    return solver


def measure_solve(path: str, tool: str, limit: float, solver) -> dict:
    """CPU seconds to build and solve, the point's value by a forward pass, the bound."""
    instance = read(path)
    gc.collect()
    before = calibrate()
    build, solve, x, bound, status, nodes = solver(instance, tool, limit)
    after = calibrate()
    value = None
    if x is not None:
        y = forward(instance, np.clip(x, instance["lower"], instance["upper"]))
        value = float(instance["cost"] @ y)
        if "rows" in instance and (instance["rows"] @ y > instance["right"] + 1e-5).any():
            status, value = f"{status} (point violates a row)", None
    return {
        "build": build,
        "solve": solve,
        "value": value,
        "bound": float(bound),
        "status": status,
        "solved": status == "convergenceCriteriaSatisfied",
        "nodes": int(nodes),
        "calibration": (before + after) / 2,
    }


def calibrate() -> float:
    """CPU seconds of a fixed piece of work: dictionaries, sorting, small matrices."""
    begin = time.process_time()
    found: dict[int, float] = {}
    for k in range(120_000):
        key = k * 7919 % 10_007
        found[key] = found.get(key, 0.0) + 0.5 * k
    values = np.sin(np.arange(200_000.0))
    matrix = np.cos(np.arange(10_000.0)).reshape(100, 100)
    for _ in range(8):
        values = np.roll(np.sort(values) * 1.01, 3)
        matrix = np.tanh(matrix @ matrix)
    return time.process_time() - begin


def versions() -> dict:
    """Versions of what this process may use."""
    names = (
        "pyomo_relu",
        "pyomo",
        "highspy",
        "omlt",
        "pyscipopt",
        "pyscipopt-ml",
        "gurobipy",
        "gurobi-machinelearning",
        "numpy",
    )
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    mode, tool, limit, *paths = sys.argv[1:]
    if mode == "solve":
        solver = solver_of(tool)
        for path in paths:
            row = measure_solve(path, tool, float(limit), solver)
            print("RESULT " + json.dumps(row), flush=True)
        return
    row = measure_build(paths[0], tool) if mode == "build" else versions()
    print("RESULT " + json.dumps(row))


if __name__ == "__main__":
    main()
