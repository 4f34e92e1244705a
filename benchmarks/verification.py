"""Verdicts on the verification competition's files, against the known ones.

    python benchmarks/verification.py --set acasxu --limit 60
    python benchmarks/verification.py --set mnistfc --only 256x2 --limit 300
    python benchmarks/verification.py --table

Writes one line for each instance as soon as it is decided; a killed run goes on where it
was, and one that was decided with a smaller limit is not run again. A wrong verdict
ends the run with exit code 1. ``--table`` writes the counts of all sets to
results/verification_summary.md, which the page includes. The files are read from
``../shared/data/verification`` beside the checkout, or from --data.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from pathlib import Path

from common import HERE, RESULTS, publish
from tqdm import tqdm

from pyomo_relu import read_network
from pyomo_relu.base.deadline import Deadline
from pyomo_relu.cli.verify import decide, onnx_reference
from pyomo_relu.verification import read_vnnlib

SETS = ("test", "cartpole", "acasxu", "mnistfc")
FIELDS = ["set", "onnx", "vnnlib", "limit", "known", "verdict", "wall", "cpu"]


def read_done(path: Path, limit: float) -> dict[tuple[str, str], dict[str, str]]:
    """Instances that a former run decided in no more time, or gave as much in vain."""
    if not path.exists():
        return {}
    with open(path, newline="") as file:
        rows = [r for r in csv.DictReader(file) if None not in r.values()]
    found = {}
    for r in rows:
        decided = r["verdict"] in ("sat", "unsat")
        if (decided and float(r["limit"]) <= limit) or float(r["limit"]) == limit:
            found[r["onnx"], r["vnnlib"]] = r
    return found


def instances(data: Path, name: str, only: str | None) -> list[dict[str, str]]:
    """The known verdicts; for mnistfc the files without one as well."""
    with open(data / "verdicts.csv", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["set"] == name]
    found = [(r["onnx"], r["vnnlib"], r["verdict"]) for r in rows]
    if name == "mnistfc":
        known = {(a, b) for a, b, _ in found}
        for net in sorted((data / name).glob("*.onnx")):
            for prop in sorted((data / name).glob("*.vnnlib")):
                if (net.name, prop.name) not in known:
                    found.append((net.name, prop.name, ""))
    return [
        {"set": name, "onnx": a, "vnnlib": b, "known": v}
        for a, b, v in found
        if only is None or only in f"{a} {b}"
    ]


def table(paths: list[Path]) -> str:
    """Markdown: a line for each set, or network of mnistfc; the last run of each counts."""
    lines = [
        "| set | instances | published sat, unsat, none | right | wrong | decided besides "
        "| undecided | median CPU s | most CPU s |",
        "|" + " --- |" * 9,
    ]
    for path in paths:
        with open(path, newline="") as file:
            rows = [r for r in csv.DictReader(file) if None not in r.values()]
        last: dict[tuple[str, str], dict[str, str]] = {}
        for r in sorted(rows, key=lambda r: r["verdict"] in ("sat", "unsat")):
            last[r["onnx"], r["vnnlib"]] = r
        groups: dict[str, list[dict[str, str]]] = {}
        for r in last.values():
            name = f"mnistfc {r['onnx'][10:-5]}" if r["set"] == "mnistfc" else r["set"]
            groups.setdefault(name, []).append(r)
        for name, found in sorted(groups.items()):
            known = [sum(r["known"] == v for r in found) for v in ("sat", "unsat", "")]
            decided = [r for r in found if r["verdict"] in ("sat", "unsat")]
            right = sum(r["verdict"] == r["known"] for r in decided)
            besides = sum(not r["known"] for r in decided)
            cpu = sorted(float(r["cpu"]) for r in found)
            cells = (
                name,
                len(found),
                ", ".join(map(str, known)),
                right,
                len(decided) - right - besides,
                besides,
                len(found) - len(decided),
                f"{cpu[len(cpu) // 2]:.2f}",
                f"{cpu[-1]:.1f}",
            )
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=SETS)
    parser.add_argument("--table", action="store_true", help="only show what is there")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds each")
    parser.add_argument("--only", help="text that the names of net and property contain")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(argv)
    if options.table:
        counts = table(sorted(RESULTS.glob("verification_*.csv")))
        publish("verification", {"sets": counts})
        print(counts)
        return 0
    if options.set is None:
        parser.error("give --set or --table")
    root = os.environ.get("PYOMO_RELU_DATA") or HERE.parent.parent / "shared" / "data"
    data = options.data or Path(root) / "verification"
    output = options.output or RESULTS / f"verification_{options.set}.csv"
    output.parent.mkdir(parents=True, exist_ok=True)
    todo = instances(data, options.set, options.only)
    done = read_done(output, options.limit)
    fresh = not output.exists()
    networks: dict[str, object] = {}
    counts = {"right": 0, "wrong": 0, "no known verdict": 0, "undecided": 0}
    with open(output, "a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if fresh:
            writer.writeheader()
        for row in tqdm(todo, unit="instance", disable=None):
            key = (row["onnx"], row["vnnlib"])
            if key not in done:
                path = data / options.set / row["onnx"]
                if row["onnx"] not in networks:
                    networks[row["onnx"]] = (read_network(path), onnx_reference(str(path)))
                network, reference = networks[row["onnx"]]
                prop = read_vnnlib(data / options.set / row["vnnlib"])
                wall, cpu = time.perf_counter(), time.process_time()
                verdict, *_ = decide(network, prop, Deadline(options.limit), reference)
                row |= {
                    "limit": f"{options.limit:g}",
                    "verdict": verdict,
                    "wall": f"{time.perf_counter() - wall:.2f}",
                    "cpu": f"{time.process_time() - cpu:.2f}",
                }
                writer.writerow(row)
                file.flush()
                done[key] = row
            verdict, known = done[key]["verdict"], row["known"]
            if verdict not in ("sat", "unsat"):
                counts["undecided"] += 1
            elif not known:
                counts["no known verdict"] += 1
            else:
                counts["right" if verdict == known else "wrong"] += 1
    print(f"{options.set}: {len(todo)} instances,", counts)
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
