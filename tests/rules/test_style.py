"""Rules of style that are tests: lint, format, types, length, devices, import directions."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
PACKAGE = REPO / "detecture"
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(REPO / "tools").glob("*.py")])

# From top to bottom: each may import what stands below it, and itself.
LAYERS = (
    "commands",
    "web",
    "doctor",
    "miner",
    "benchmark",
    "recipes",
    "profiling",
    "conversion",
    "engine",
    "evaluation",
    "modeling",
    "data",
    "jobs",
    "checkpoint",
    "config",
    "visualize",
    "d2",
    "untrusted_torch",
    "untrusted",
    "untrusted_plain",
    "device",
    "errors",
)


WRITTEN = ("LICENSES.md",)
"""Beside the images of a data set, by the script that makes it."""


def run(*command):
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [("check", "."), ("format", "--check", ".")])
def test_ruff(arguments):
    done = run(sys.executable, "-m", "ruff", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy():
    done = run(sys.executable, "-m", "mypy")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(REPO)))
def test_no_file_is_long_without_a_reason(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 400 or any("over 400 lines" in line for line in lines[:10])


def test_public_functions_are_annotated_and_documented():
    """Over what ruff checks: nested in no class that is private, and with its arguments named."""
    bare = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                named = [a for a in arguments if a.arg not in ("self", "cls")]
                if node.returns is None or any(a.annotation is None for a in named):
                    bare.append(f"{path.relative_to(REPO)}:{node.lineno} {node.name}")
    assert not bare


def test_device_names_are_known_in_one_place_only():
    found = [
        f"{path.relative_to(REPO)}:{number}"
        for path in SOURCES
        if path != PACKAGE / "device.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "cuda" in line.lower()
    ]
    assert not found


def test_nothing_names_a_users_folder():
    found = [
        f"{path.relative_to(REPO)}: {match.group()}"
        for path in SOURCES
        for match in re.finditer(r"/(home|root|Users|work)/\w+", path.read_text(encoding="utf-8"))
    ]
    assert not found


def test_files_that_the_code_speaks_of_are_there():
    """Markdown files, by a path in the project or beside the file that names them."""
    named = re.compile(r"(?<![\w./}-])[\w-]+(?:/[\w-]+)*\.md\b(?!\w|\()")
    files = [*SOURCES, *REPO.glob("datasets/*.py"), *REPO.glob("configs/**/*.yaml")]
    missing = [
        f"{path.relative_to(REPO)}: {name}"
        for path in files
        for name in named.findall(path.read_text(encoding="utf-8"))
        if not any((place / name).is_file() for place in (REPO, path.parent))
    ]
    assert [line for line in missing if not line.endswith(WRITTEN)] == []


def imported_modules(path):
    """Full names of the package's modules that a file imports, lazily too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = path.relative_to(REPO).with_suffix("").parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package[: len(package) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield base
            for alias in node.names:
                yield f"{base}.{alias.name}"


def test_imports_point_downwards():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        here = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if here == "__init__":
            continue
        assert here in LAYERS, f"{path}: give {here} a place in LAYERS"
        for module in imported_modules(path):
            parts = module.split(".")
            if parts[0] in ("tools", "tests"):
                wrong.append(f"{path.relative_to(REPO)} imports {module}")
            if parts[0] != "detecture" or len(parts) < 2 or parts[1] not in LAYERS:
                continue
            if LAYERS.index(parts[1]) < LAYERS.index(here):
                wrong.append(f"{path.relative_to(REPO)} imports {module}")
    assert not wrong


def module_of(path):
    parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph():
    """Every module of the package to those that it imports, lazily and for types alone too."""
    modules = {module_of(path): path for path in PACKAGE.rglob("*.py")}
    # The root imports nothing before it is asked for a name.
    del modules["detecture"]
    graph = {}
    for name, path in modules.items():
        found = set(imported_modules(path))
        # `from package import name` runs the package, unless the name is a module of it.
        whole = {f for f in found if any(g.startswith(f"{f}.") and g in modules for g in found)}
        graph[name] = {f for f in found - whole if f in modules and f != name}
    return graph


def circle_of(graph):
    """One circle of a graph, as a list of its nodes; empty where there is none."""
    done, way = set(), []

    def visit(node):
        if node in way:
            return way[way.index(node) :]
        if node in done:
            return []
        way.append(node)
        for other in sorted(graph.get(node, ())):
            if circle := visit(other):
                return circle
        done.add(way.pop())
        return []

    return next(filter(None, map(visit, sorted(graph))), [])


def test_no_module_imports_itself_in_a_circle():
    assert circle_of({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    graph = import_graph()
    assert len(graph) > 250
    assert circle_of(graph) == []


def test_the_rooms_of_modeling_stand_in_no_circle():
    rooms = {}
    for name, imported in import_graph().items():
        here = name.split(".")
        if here[:2] != ["detecture", "modeling"] or len(here) < 4:
            continue
        there = {m.split(".")[2] for m in imported if m.startswith("detecture.modeling.")}
        rooms.setdefault(here[2], set()).update(there - {here[2]})
    assert len(rooms) > 10
    assert circle_of(rooms) == []


def test_modeling_has_few_loose_files():
    assert len(list((PACKAGE / "modeling").glob("*.py"))) <= 5


def test_no_two_classes_share_a_name():
    """One word for one thing; a private class is known in its file alone."""
    places = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(REPO)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_only_the_seam_imports_detectron2():
    wrong = [
        str(path.relative_to(REPO))
        for path in SOURCES
        if PACKAGE / "d2" not in path.parents
        and any(m.split(".")[0] == "detectron2" for m in imported_modules(path))
    ]
    assert not wrong


def test_loggers_are_set_up_by_name():
    """Without a name, detectron2's setup_logger is about its own logger alone."""
    bare = [
        f"{path.relative_to(REPO)}:{node.lineno}"
        for path in SOURCES
        if PACKAGE / "d2" not in path.parents
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "setup_logger"
        and "name" not in {keyword.arg for keyword in node.keywords}
    ]
    assert [place.partition(":")[0] for place in bare] == ["detecture/engine/command_line.py"]


def test_lite_stands_alone():
    allowed = tuple(f"detecture.{n}" for n in ("d2.lite", "device", "errors", "untrusted"))
    wrong = [
        f"{path.relative_to(REPO)} imports {module}"
        for path in (PACKAGE / "d2/lite").glob("*.py")
        for module in imported_modules(path)
        if module.startswith("detecture.") and not module.startswith(allowed)
    ]
    assert not wrong
