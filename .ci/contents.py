"""What wheel and sdist contain: licence, py.typed, every module; no data, no tests."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

wheel, sdist = sys.argv[1:]
names = set(zipfile.ZipFile(wheel).namelist())
modules = {
    path.relative_to(".").as_posix()
    for path in Path("pyomo_relu").rglob("*.py")
    if "__pycache__" not in path.parts
}
missing = (modules | {"pyomo_relu/py.typed"}) - names
assert not missing, f"the wheel lacks {sorted(missing)}"
assert any(name.endswith("licenses/LICENSE") for name in names), "the wheel lacks LICENSE"
other = {n for n in names - modules if ".dist-info/" not in n} - {"pyomo_relu/py.typed"}
assert not other, f"the wheel should not contain {sorted(other)}"

with tarfile.open(sdist) as archive:
    packed = {n.split("/", 1)[1] for n in archive.getnames() if "/" in n}
assert {"LICENSE", "README.md", "pyomo_relu/py.typed"} <= packed, "the sdist lacks a file"
data = {n for n in packed if n.startswith(("examples/data", "docs/", "benchmarks/"))}
assert not data, f"the sdist should not contain {sorted(data)}"
print(f"{len(names)} files in the wheel, {len(packed)} in the sdist")
