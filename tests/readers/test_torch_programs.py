"""Exported programs and ``.pt2`` files, against PyTorch."""

from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from pyomo_relu.readers import read_network  # noqa: E402


def module():
    torch.manual_seed(0)
    layers = (
        nn.Linear(4, 6),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(6, 2),
    )
    made = nn.Sequential(*layers).double().eval()
    made[1].running_mean += 0.3
    return made


def exported(dynamic=True, batch=2, source=None):
    batch_axis = ({0: torch.export.Dim("batch")},) if dynamic else None
    sample = (torch.zeros(batch, 4, dtype=torch.float64),)
    return torch.export.export(source or module(), sample, dynamic_shapes=batch_axis)


def agree(source, **options):
    network = read_network(source, **options)
    x = np.random.default_rng(0).normal(size=(6, 4))
    with torch.no_grad():
        expected = module()(torch.tensor(x)).numpy()
    assert np.abs(network.evaluate(x) - expected).max() <= 1e-12


def test_programs(tmp_path):
    agree(exported())
    agree(exported(dynamic=False, batch=1), input_shape=(4,))
    torch.export.save(exported(), tmp_path / "a.pt2")
    agree(tmp_path / "a.pt2")
    agree(tmp_path / "a.pt2", max_memory=1e8)


def test_a_program_of_a_fixed_batch_says_what_to_do():
    with pytest.raises(ValueError, match=r"fixed shape \(3, 4\).*dynamic_shapes"):
        read_network(exported(dynamic=False, batch=3))


def test_reading_a_program_leaves_it_alone():
    program = exported()
    before = {k: v.clone() for k, v in program.state_dict.items()}
    agree(program)
    assert all(torch.equal(v, before[k]) for k, v in program.state_dict.items())
    program.module()(torch.zeros(3, 4, dtype=torch.float64))


def changed(path, target, change):
    """The archive with one of its files changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = next(n for n in parts if n.endswith(target))
    parts[name] = change(parts[name])
    made = path.with_name("changed.pt2")
    with zipfile.ZipFile(made, "w") as archive:
        for key, value in parts.items():
            archive.writestr(key, value)
    return made


class Trap:
    def __reduce__(self):
        return (print, ("the trap is sprung",))


def test_files_that_could_run_code_are_refused(tmp_path, capsys):
    path = tmp_path / "a.pt2"
    torch.export.save(exported(), path)

    def replaced(old, new):
        return lambda data: data.replace(old, new)

    def pickled(data):
        found = json.loads(data)
        next(iter(found["config"].values()))["use_pickle"] = True
        return json.dumps(found).encode()

    cases = [
        ("model.json", replaced(b"torch.ops.aten.relu.default", b"torch.hub.load")),
        ("model.json", replaced(b"Symbol('s", b"__import__('os')+Symbol('s")),
        ("weights_config.json", pickled),
        ("sample_inputs/model.pt", lambda data: pickle.dumps(Trap())),
    ]
    for target, change in cases:
        with pytest.raises(ValueError, match="may run any code.*torch.export.load"):
            read_network(changed(path, target, change))
    assert "sprung" not in capsys.readouterr().out


def test_damaged_and_foreign_files(tmp_path):
    path = tmp_path / "a.pt2"
    path.write_bytes(b"some text")
    with pytest.raises(ValueError, match="not a .pt2 file"):
        read_network(path)
    torch.save(module().state_dict(), path)
    with pytest.raises(ValueError, match="no archive of torch.export.save"):
        read_network(path)
    torch.export.save(exported(), path)
    with pytest.raises(ValueError, match="max_memory"):
        read_network(path, max_memory=100)
    broken = changed(path, "model.json", lambda data: b"{}")
    with pytest.raises(ValueError, match="can't be loaded by this PyTorch"):
        read_network(broken)
