"""Measure the tests: random changes of the core modules, each run with the tests of its module.

``python tests/mutants.py [--write docs/mutants.md] [--count N] [--seed N] [MODULE ...]`` prints every
change that no test detects, and exits 1 if fewer than 95 % are detected. ``EQUIVALENT`` lists changes
without effect.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, TestOutcome

ROOT = Path(__file__).parents[1]
FLOOR = 0.95
COUNT = 10  # changes per module
TIMEOUT_SECONDS = 300
# Each core module with the test files that cover it.
TESTS = {
    "graphs/graph.py": "graph_reader wiring",
    "graphs/operators/attributes.py": "graph_operators graph_reader",
    "graphs/operators/registry.py": "graph_operators graph_reader wiring",
    "graphs/operators/reshaping.py": "graph_code",
    "graphs/codegen/blocks.py": "graph_code",
    "graphs/codegen/folding.py": "graph_code",
    "graphs/codegen/identifiers.py": "graph_code",
    "graphs/codegen/scopes.py": "graph_code",
    "graphs/codegen/statements.py": "graph_code",
    "graphs/execute.py": "graph_code",
    "graphs/implicit.py": "graph_reader",
    "graphs/pruning.py": "graph_pruning",
    "graphs/reader.py": "graph_reader",
    "networks/graph_search.py": "graph_search",
    "networks/expressions.py": "wiring",
    "networks/wiring.py": "wiring graph_search",
    "networks/definition.py": "wiring parity_comparison",
    "networks/naming_styles.py": "naming_styles graph_search",
    "networks/matching.py": "matching mapping conversion reverse_conversion manifest_checks",
    "networks/mapping.py": "mapping catalog naming_styles detection",
    "networks/detection.py": "detection conversion_options",
    "formats/archives.py": "archives tar archived_labels",
    "formats/detect.py": "detect archives tar npz checkpoint",
    "formats/pickle_contents.py": "detect",
    "formats/binary_reader.py": "params npz",
    "formats/ndarray_list.py": "params",
    "formats/npz.py": "npz",
    "formats/params.py": "params npz",
    "formats/file_arrays.py": "file_arrays changed_sources",
    "formats/artifact.py": "artifact bytes",
    "formats/labels.py": "labels manifest_checks",
    "parity/comparison.py": "parity_comparison parity_result diagnosis",
    "parity/result.py": "parity_result parity_comparison json_report",
    "parity/diagnosis.py": "diagnosis",
    "references/numpy.py": "parity_comparison",
    "references/kernels.py": "kernels parity_comparison",
    "formats/array_comparison.py": "array_comparison diff",
    "formats/precision.py": "precision",
    "names.py": "names",
    "manifests/builder.py": "manifest_builder conversion json_report precision",
    "manifests/schema.py": "manifest_schema manifest_checks training",
    "manifests/consistency.py": "manifest_checks training",
    "manifests/converted_file.py": "manifest_checks verification class_names training",
    "manifests/strength.py": "strength manifest_builder",
    "manifests/artifact_checks.py": "manifest_checks verification training",
}
# Changes without effect: a module, a part of the changed line, and the reason.
EQUIVALENT = [
    ("formats/artifact.py", "max_workers=", "one task is submitted"),
    ("formats/binary_reader.py", "self._window", "the file is read again outside the window"),
    ("formats/binary_reader.py", "place = self.offset", "the file is read again outside the window"),
    ("formats/binary_reader.py", "count = min(max(size", "the size of the window"),
    ("formats/array_comparison.py", "_are_equal_files", "only saves reading equal arrays as numbers"),
    ("formats/file_arrays.py", "0 < done", "Linux reads 2 GB at once, never more than the buffer holds"),
    ("formats/ndarray_list.py", "> cursor.remaining", "the slow path refuses it too"),
    ("formats/npz.py", "member.flag_bits // TEXT", "no higher bit is used"),
    ("graphs/graph.py", "kind >= VARIABLE", "no kind sorts after it"),
    ("networks/expressions.py", "kind >= VARIABLE", "no kind sorts after it"),
    ("graphs/operators/activation.py", "smooth_alpha:", "has no effect at inference"),
    ("graphs/operators/activation.py", "out_grad:", "has no effect at inference"),
    ("graphs/reader.py", "backward_source_id:", "has no effect at inference"),
    ("graphs/reader.py", "present[ -1]", "all present values are equal"),
    ("networks/detection.py", "if len(models) != 1:", "there is at least one"),
    ("references/kernels.py", "weight[ 1].size", "all filters have one size"),
    ("references/kernels.py", "UNFOLDED_ELEMENTS", "how many rows are computed at once"),
    ("references/numpy.py", "reshape(~1", "any negative number stands for the rest"),
    ("formats/array_comparison.py", "one.nbytes ^ begin", "only saves reading equal arrays as numbers"),
    ("formats/binary_reader.py", "def peek", "without lookahead, the slow path is taken"),
    ("formats/file_arrays.py", "reshape(- 2)", "any negative number stands for the rest"),
    ("formats/file_arrays.py", "if done > len(memory)", "a truncated file has another size"),
    ("formats/ndarray_list.py", "if header is None", "without lookahead, the slow path is taken"),
    ("networks/detection.py", "if len(matches) > 0:", "one model is kept in any case"),
    ("networks/expressions.py", "plain[ -1]", "a setting that an operator lacks has a single value"),
    ("networks/expressions.py", "kind < VARIABLE", "no kind sorts after it"),
    ("networks/graph_search.py", "MENTIONS =", "a bound"),
    ("networks/mapping.py", ">= MAX_TENSORS", "a bound"),
    ("networks/naming_styles.py", "< MAX_NAME_CHARACTERS", "a bound"),
    ("networks/wiring.py", "actual.nodes[number][ -1]", "all nodes of an expression compute the same"),
    (
        "networks/wiring.py",
        "actual.output > expected.output",
        "all the model's expressions were found before",
    ),
    ("parity/comparison.py", "@property", "belongs to a protocol"),
    ("references/kernels.py", "weight.shape[~1]", "kernels are square"),
    ("references/kernels.py", "top + stride * (h - 1) + 2", "no row remains there"),
    ("formats/archives.py", "size + place", "a member ends there anyway"),
    ("formats/npz.py", "compress_type > zipfile.ZIP_STORED", "no method has a lower number"),
    ("references/kernels.py", "beyond = [", "padding beyond the values that are read"),
]
# No effect: annotations are not evaluated; equal names and small numbers are identical objects.
SKIPPED = re.compile("BitOr|ReplaceComparisonOperator_[A-Za-z]+_Is(Not)?$")
# Limits of time, memory and message length: a similar value works as well.
BOUNDS = re.compile(r"(MAX_\w+|\w+_BYTES|PIECE|CHUNK)\b.* = ")
# Declarations that mypy checks or that guard against our own mistakes; they do not change results.
DECLARATIONS = ("frozen=", "slots=", "kw_only=", "repr=", "compare=", "strict=", "gc=", "usedforsecurity=")


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a module, and whether the tests detected it."""

    module: str
    operator: str
    diff: str
    seen: bool

    @property
    def lines(self) -> list[str]:
        """The removed and the added lines."""
        return [
            line
            for line in self.diff.splitlines()
            if line[:1] in {"-", "+"} and line[:3] not in {"---", "+++"}
        ]

    @property
    def reason(self) -> str:
        """Why the change has no effect, or "" if it is not listed."""
        changed = "\n".join(self.lines)
        return next(
            (why for module, part, why in EQUIVALENT if module == self.module and part in changed), ""
        )


def main() -> int:
    """Measure, report, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(TESTS))
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    work = [
        (module, spec) for module in options.modules for spec in sample(module, options.count, options.seed)
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.Pool(initializer=prepare, initargs=(folder,), processes=os.cpu_count()) as pool,
    ):
        failing = [module for module in pool.imap_unordered(failing_module, options.modules) if module]
        if failing:
            print(f"the tests fail without a change: {', '.join(failing)}")
            return 1
        changes = []
        for number, change in enumerate(pool.imap_unordered(attempt, work), start=1):
            changes.append(change)
            print(
                f"{number}/{len(work)} {change.module} {'detected' if change.seen else 'NOT DETECTED'}",
                flush=True,
            )
    page = report(changes, options.seed)
    print(page)
    if options.write:
        options.write.write_text(page, encoding="utf-8")
    return int(score(changes) < FLOOR)


def sample(module: str, count: int, seed: int) -> list[MutationSpec]:
    """Choose random places of a module, and one change for each."""
    with tempfile.TemporaryDirectory() as folder:
        database = WorkDB(str(Path(folder, "work.sqlite")), WorkDB.Mode.create)
        init([ROOT / "converter" / module], database, {})
        specs = [spec for item in database.work_items for spec in item.mutations]
        database.close()
    lines = (ROOT / "converter" / module).read_text(encoding="utf-8").splitlines()
    places: dict[object, list[MutationSpec]] = {}
    for spec in specs:
        row, column = spec.start_pos
        line = lines[row - 1]
        if not (
            SKIPPED.search(spec.operator_name)
            or "TYPE_CHECKING" in line
            or line[:column].endswith(DECLARATIONS)
            or BOUNDS.match(line)
        ):
            places.setdefault((spec.start_pos, spec.end_pos), []).append(spec)
    generator = random.Random(f"{seed} {module}")  # noqa: S311 - a sample, not a secret
    chosen = generator.sample(sorted(places, key=str), min(count, len(places)))
    return [generator.choice(places[place]) for place in chosen]


def prepare(folder: str) -> None:
    """Give a worker its own copy of the checkout, in which it changes one file at a time."""
    copy = Path(folder, str(os.getpid()))
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".git", ".nox", ".venv", "__pycache__", ".*cache")
    )
    os.chdir(copy)
    os.environ.update(PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")


def failing_module(module: str) -> str:
    """Return the module if its tests fail without a change, otherwise ""."""
    outcome = mutate_and_test([], command(module), TIMEOUT_SECONDS).test_outcome
    return "" if outcome is TestOutcome.SURVIVED else module


def attempt(work: tuple[str, MutationSpec]) -> Change:
    """Apply a change, run the module's tests, and revert the change."""
    module, spec = work
    here = MutationSpec(
        module_path=Path("converter", module),
        operator_name=spec.operator_name,
        occurrence=spec.occurrence,
        start_pos=spec.start_pos,
        end_pos=spec.end_pos,
        operator_args=spec.operator_args,
    )
    result = mutate_and_test([here], command(module), TIMEOUT_SECONDS)
    return Change(
        module, spec.operator_name, result.diff or "", result.test_outcome is not TestOutcome.SURVIVED
    )


def command(module: str) -> str:
    """Return the command that tests a module, up to the first failure."""
    files = " ".join(f"tests/test_{name}.py" for name in TESTS[module].split())
    return f"{sys.executable} -m pytest -x -q -p no:cacheprovider -p no:randomly {files}"


def score(changes: list[Change]) -> float:
    """Return the share of effective changes that were detected."""
    real = [change for change in changes if change.seen or not change.reason]
    return sum(change.seen for change in real) / len(real)


def report(changes: list[Change], seed: int) -> str:
    """Return the result as a page."""
    missed = sorted((change for change in changes if not change.seen), key=lambda change: change.module)
    same = [change for change in missed if change.reason]
    seen = sum(change.seen for change in changes)
    rows = [
        f"| `{module}` | {sum(change.seen for change in own)} | {len(own)} |"
        for module, group in itertools.groupby(
            sorted(changes, key=lambda change: change.module), key=lambda change: change.module
        )
        for own in [list(group)]
    ]
    lines = [
        "# Mutation testing",
        "",
        "`nox -s mutants` changes the core modules at random, one place at a time, and runs the tests of the",
        f"changed module. Written by that session; seed {seed}.",
        "",
        f"**{seen} of {len(changes) - len(same)} changes are detected: {score(changes):.1%}**.",
        f"The session fails below {FLOOR:.0%}.",
        f"{len(same)} more have no effect.",
        "",
        "| module | detected | changes |",
        "|---|---|---|",
        *rows,
        "",
        "## Not detected",
        "",
    ]
    for change in missed:
        why = f"no effect: {change.reason}" if change.reason else "not detected"
        lines += [
            f"`{change.module}`, {change.operator.removeprefix('core/')}: {why}",
            "",
            "```diff",
            *change.lines,
            "```",
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
