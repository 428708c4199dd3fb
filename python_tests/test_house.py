"""The house: which room may use which, nothing hidden, and what a user adds from outside."""

from __future__ import annotations

import ast
import graphlib
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import rrfast
from rrfast._names import TUNINGS
from rrfast.cli import COMMANDS
from rrfast.data import splits
from rrfast.methods import METHODS

ROOT = Path(rrfast.__file__).parent
#: From the ground up: a room uses those before it, and none behind it.
ROOMS = [
    *("private", "ops", "reference", "engine", "methods", "metrics", "scores", "estimator"),
    *("attacks", "objectives", "data", "models", "selective", "train", "inference"),
    *("integrations", "evaluate", "bench", "report", "demo", "cli", "__main__"),
]


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(("rrfast", *path.relative_to(ROOT).with_suffix("").parts))
        yield name.removesuffix(".__init__"), path


KNOWN = dict(modules())


def room(module: str) -> str:
    parts = module.split(".")
    if len(parts) == 1:
        return "front door"
    return "private" if parts[1].startswith("_") and parts[1] != "__main__" else parts[1]


def imported(path: Path, package: str, nodes: Iterable[ast.AST] = ()) -> Iterator[str]:
    """What a file, or some nodes of it, imports of rrfast: modules, and names in them."""
    for node in nodes or ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module.split(".")[0] == "rrfast":
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    yield full if full in KNOWN else f"{node.module}:{alias.name}"
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "rrfast")
        elif isinstance(node, ast.ImportFrom):
            pytest.fail(f"{package} imports by dots")


def test_no_room_uses_one_above_it() -> None:
    """The front door, rrfast/__init__.py and rrfast/_radius.py, opens to all of them."""
    wrong = []
    for name, path in KNOWN.items():
        if room(name) == "front door" or name == "rrfast._radius":
            continue
        for used in imported(path, name):
            there = room(used.partition(":")[0])
            if there != "front door" and ROOMS.index(there) > ROOMS.index(room(name)):
                wrong.append(f"{name} uses {used}")
    # The machine's description names the version and what answers the ops.
    allowed = {"rrfast._config uses rrfast.ops:OPS", "rrfast._config uses rrfast.ops"}
    assert set(wrong) <= allowed, wrong


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """What runs when a module is imported: no function, and nothing for type checkers only."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from at_import(node.orelse)
        elif not isinstance(node, ast.FunctionDef):
            yield node
            yield from at_import([x for x in ast.iter_child_nodes(node) if isinstance(x, ast.stmt)])


def test_modules_import_each_other_in_no_circle() -> None:
    """Nor do those of one room."""
    needs = {
        name: {used.partition(":")[0] for used in imported(path, name, nodes)} - {name}
        for name, path in KNOWN.items()
        if (nodes := [*at_import(ast.parse(path.read_text()).body)])
    }
    graphlib.TopologicalSorter(needs).prepare()


def test_no_private_name_of_another_room() -> None:
    wrong = [
        f"{name} uses {used}"
        for name, path in KNOWN.items()
        for used in imported(path, name)
        for module, _, what in [used.partition(":")]
        if room(module) not in ("front door", "private", room(name))
        # What the specification is made of is written in the files of the ops.
        and name != "rrfast.reference"
        and any(part.startswith("_") for part in [*module.split("."), what])
    ]
    assert wrong == []


def test_every_module_is_reached_by_its_name() -> None:
    """No function of a package hides the module of the same name."""
    for found in pkgutil.walk_packages(rrfast.__path__, "rrfast."):
        parent, name = found.name.rsplit(".", 1)
        if name != "__main__" and not name.startswith("lib"):
            if parent == "rrfast.integrations" and lacks_its_library(found.name):
                continue
            module = importlib.import_module(found.name)
            assert getattr(importlib.import_module(parent), name) is module, found.name


def lacks_its_library(module: str) -> bool:
    """Whether a file of this room needs a library that is not here, and says so."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        return "Install it with" in str(error)
    return False


#: What is written once, and in which file.
ONCE = {
    r"from rich\.progress": "_progress.py",
    r"Install (it|them|\{it\}) with": "_errors.py",
    r"str\(error\)\.(split\([^)]|splitlines|partition)": "_errors.py",
}


@pytest.mark.parametrize("what", ONCE)
def test_written_once(what: str) -> None:
    """Bars, the remedy of what is not installed, and the first line of an error."""
    inside = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py")}
    found = {name for name in inside if re.search(what, (ROOT / name).read_text())}
    assert found == {ONCE[what]}


def test_a_table_of_names_has_a_name_of_its_own() -> None:
    """No other file has a constant that is called as one of those that users look names up in."""
    tables = {"ATTACKS", "METHODS", "METRICS", "OBJECTIVES", "SCORES", "TASKS"}
    there = re.compile(rf"^({'|'.join(tables)})\b.*=", re.MULTILINE)
    found = [name for path in KNOWN.values() for name in there.findall(path.read_text())]
    assert sorted(found) == sorted(tables)


def public_functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Of a module, and of its classes."""
    for node in ast.parse(path.read_text()).body:
        for each in [node, *(node.body if isinstance(node, ast.ClassDef) else ())]:
            if isinstance(each, ast.FunctionDef) and not each.name.startswith("_"):
                yield each.name, each


def code_of(function: ast.FunctionDef, lines: list[str]) -> int:
    """Lines with code: its signature, and its body without the docstring."""
    first, *_ = function.body
    doc = range(first.lineno, (first.end_lineno or 0) + 1) if ast.get_docstring(function) else ()
    places = set(range(function.lineno, (function.end_lineno or 0) + 1)) - set(doc)
    return sum(bool(re.match(r"\s*[^\s#]", lines[i - 1])) for i in places)


def test_public_functions_fit_on_a_screen() -> None:
    """Sixty lines of code at most."""
    long = {
        f"{path.relative_to(ROOT)}::{name}": code
        for path in KNOWN.values()
        for name, function in public_functions(path)
        if (code := code_of(function, path.read_text().splitlines())) > 60
    }
    assert long == {}


def test_files_are_short() -> None:
    """400 lines at most; the specification's too, since each op has a file of its own."""
    counts = {str(p.relative_to(ROOT)): p.read_text().count("\n") for p in KNOWN.values()}
    assert {name: lines for name, lines in counts.items() if lines > 400} == {}


def test_a_comment_has_its_mark_in_front_alone() -> None:
    """A tool that fills paragraphs may leave one within."""
    broken = re.compile(r"^ *#:.* #:", re.MULTILINE)
    assert [name for name, p in KNOWN.items() if broken.search(p.read_text())] == []


def test_what_runs_before_a_commit_is_what_make_lint_runs() -> None:
    yaml = pytest.importorskip("ruamel.yaml").YAML(typ="safe")
    checkout = ROOT.parent
    hooks = yaml.load(checkout / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    *linters, subject = (re.sub(r"^\.venv/bin/| -.*", "", hook["entry"]) for hook in hooks)
    makefile = (checkout / "Makefile").read_text(encoding="utf-8")
    lint = makefile.partition("\nlint:")[2].partition("\n\n")[0].splitlines()[1:]
    assert linters == [re.sub(r"^\t\$\(BIN\)/| -.*", "", line) for line in lint]
    pattern = re.compile(subject, re.MULTILINE | re.DOTALL)
    for good in ("x" * 72, f"{'x' * 72}\n", "short\n\nmore", "short\n# of git"):
        assert pattern.search(good), good
    for bad in ("x" * 73, f"{'x' * 73}\n\nmore", "\nlate", "no empty line\nbehind it"):
        assert not pattern.search(bad), bad


def test_every_room_is_an_attribute() -> None:
    """Loaded on demand, in a fresh process."""
    rooms = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
    code = f"import rrfast; print(*(getattr(rrfast, name).__name__ for name in {rooms}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [f"rrfast.{name}" for name in rooms]


def test_the_import_loads_what_it_needs() -> None:
    """Progress bars, statistics, figures and training are loaded on demand."""
    heavy = {"rich", "scipy", "sklearn", "matplotlib", "PIL", "msgspec", "lightning_fabric"}
    heavy |= {"torch._dynamo", "urllib.request", "rrfast.objectives", "rrfast.scores"}
    code = f"""
import sys, torch
before = set(sys.modules)
import rrfast
print({heavy} & set(sys.modules) - before)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


HELP = """
import runpy, sys
from rrfast.cli import COMMANDS
for command in ("", *(module.__name__.rpartition(".")[2] for module in COMMANDS)):
    sys.argv = ["rrfast", *command.split(), "--help"]
    try:
        runpy.run_module("rrfast", run_name="__main__")
    except SystemExit as end:
        assert end.code == 0
print("loaded:", {"torch", "numpy", "rich"} & set(sys.modules))
"""


def test_help_needs_no_torch() -> None:
    """Of every command: what its text lists is known before torch is there, and is true."""
    run = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "loaded: set()"
    assert run.stdout.count("usage: rrfast") == 1 + len(COMMANDS)
    assert f"some of {', '.join(METHODS)}" in re.sub(r"\s+", " ", run.stdout)
    assert tuple(splits.TUNINGS) == TUNINGS


def test_rich_is_loaded_for_a_bar_alone() -> None:
    code = """
import sys, torch, rrfast
model, x = torch.nn.Linear(4, 3), torch.rand(2, 4)
rrfast.predict(model, [x])
rrfast.RadiusEstimator(model).predict([x])
assert "rich" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=True)


WITHOUT = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"lightning_fabric", "msgspec", "ruamel"}:
            raise ImportError(f"No module named {name!r}")
sys.meta_path.insert(0, Absent())
from rrfast.cli import main
"""


def test_score_and_report_need_no_training_extra(tmp_path: Path) -> None:
    code = f"""{WITHOUT}
import numpy as np
from rrfast.data import digits
np.save(r"{tmp_path}/x.npy", digits().test.x[:3].numpy())
assert main(["score", "rrfast.models:digits_cnn", r"{tmp_path}/x.npy", "--threshold", "2",
             "--out", r"{tmp_path}/scores.csv"]) == 0
results = r"{Path(__file__).parents[1]}/docs/evaluate/digits-distal"
assert main(["report", results, "--out", r"{tmp_path}/report.html"]) == 0
assert main(["score", r"{tmp_path}", "x.npy", "--out", "y.csv"]) == 1
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "pip install 'rrfast[train]'" in run.stderr
    assert (tmp_path / "scores.csv").is_file()
    assert (tmp_path / "report.html").is_file()


def test_the_walks_name_files_that_are_there() -> None:
    page = (ROOT.parent / "docs" / "architecture.md").read_text()
    named = re.findall(r"[\w/]+\.(?:py|cuh?|h)\b", page)
    assert len(named) > 40
    for name in named:
        base = ROOT.parent if name.startswith(("csrc/", "python_tests/")) else ROOT
        assert (base / name).is_file(), name


def test_what_to_touch_to_add_something_is_there() -> None:
    page = (ROOT.parent / "CONTRIBUTING.md").read_text()
    rows = page.partition("\n## To add ...")[2].partition("\n## ")[0]
    files = {
        name for name in re.findall(r"`([\w/]+\.\w+)`", rows) if "NAME" not in name and "/" in name
    }
    assert len(files) > 15
    assert [name for name in files if not (ROOT.parent / name).is_file()] == []
    for table, file in re.findall(r"`([A-Z_]+)` of `([\w/]+\.py)`", rows):
        assert re.search(rf"^{table}\b", (ROOT.parent / file).read_text(), re.MULTILINE), table


#: Arrows of docs/architecture.md whose target is handed over as an object or found by its name.
HANDED_OVER = {
    "methods/measure.py --> methods/fast.py",
    "cli/evaluate.py --> evaluate/misd/protocol.py",
    "evaluate/run_study.py --> evaluate/misd/curves.py",
    *(f"evaluate/study.py --> evaluate/misd/{name}.py" for name in ("tables", "claims", "figures")),
}


def leads_to(source: str, target: str) -> bool:
    """Whether a file imports another, a name of it from its package, or calls it as an op."""
    path = ROOT / source
    wanted = ".".join(("rrfast", *Path(target).with_suffix("").parts)).removesuffix(".__init__")
    for used in imported(path, source):
        module, _, name = used.partition(":")
        inner = imported(KNOWN[module], module) if name else ()
        if wanted in (module, *(i.partition(":")[0] for i in inner if i.endswith(f":{name}"))):
            return True
    op = re.match(r"ops/_(\w+)\.py", target)
    return op is not None and f".{op[1]}" in path.read_text()


def test_an_arrow_of_the_walks_is_an_import() -> None:
    page = (ROOT.parent / "docs" / "architecture.md").read_text()
    arrows = set()
    for chart in re.findall(r"```mermaid\n(.*?)```", page, re.DOTALL):
        file = dict(re.findall(r'(\w+)\["([\w/]+\.py)<br>', chart))
        found = re.findall(r'^ *(\w+)(?:\[".*?"\])? --> (\w+)', chart, re.MULTILINE)
        arrows |= {(file[a], file[b]) for a, b in found if a in file and b in file}
    assert len(arrows) > 40
    assert {f"{a} --> {b}" for a, b in arrows if not leads_to(a, b)} == HANDED_OVER
