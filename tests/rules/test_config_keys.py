"""A config key is declared once, and read; every key that is read has a default."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detecture.config import add_detecture_config
from detecture.config.page import config_page
from detecture.config.sections.declaring import SECTIONS
from detecture.config.sections.detectron2 import DETECTRON2_KEYS
from detecture.d2 import CfgNode, get_cfg
from detecture.d2.lite import unread_keys
from detecture.d2.lite.config import get_cfg as lite_get_cfg
from detecture.engine.idle_keys import OF_SCRIPTS

REPO = Path(__file__).parents[2]
CONFIG = sorted((REPO / "detecture/config").rglob("*.py"))
READERS = [p for folder in ("detecture", "tools") for p in sorted((REPO / folder).rglob("*.py"))]


def leaves(node, prefix=""):
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def chain(node):
    """`cfg.A.B` as ("cfg", "A", "B"); None where it does not begin with a name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return (node.id, *reversed(parts))


def keys_read(path):
    """Keys that a file reads, `crop = cfg.A.B; crop.C` and `self.cfg.A` included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    aliases = {"cfg": ()}
    for node in ast.walk(tree):
        targets = []
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                targets = list(zip(target.elts, value.elts, strict=True))
            else:
                targets = [(target, value)]
        for target, value in targets:
            found = chain(value)
            if isinstance(target, ast.Name) and found and "cfg" in found:
                aliases[target.id] = found[found.index("cfg") + 1 :]
    written = {id(n) for n in ast.walk(tree) if isinstance(getattr(n, "ctx", None), ast.Store)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in written:
            continue
        found = chain(node)
        if found is None:
            continue
        if found[0] in aliases:
            key = (*aliases[found[0]], *found[1:])
        elif "cfg" in found:
            key = found[found.index("cfg") + 1 :]
        else:
            continue
        upper = [part for part in key if part.isupper()]
        if upper and list(key[: len(upper)]) == upper:
            yield ".".join(upper)


def all_keys():
    cfg = get_cfg()
    add_detecture_config(cfg)
    return set(leaves(cfg))


def fields_read():
    """Keys whose fields are read of an object, in a file that knows the class or one around it."""
    around = {
        path: [p for p in SECTIONS if path == p or path.startswith(f"{p}.")] for path in SECTIONS
    }
    for file in READERS:
        if file in CONFIG:
            continue
        text = file.read_text(encoding="utf-8")
        known = {path for path, kind in SECTIONS.items() if kind.__name__ in text}
        if not known:
            continue
        read = {
            node.attr
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
        }
        for path, kind in SECTIONS.items():
            if known.intersection(around[path]):
                for name, _, _ in kind.declarations():
                    if name.lower() in read:
                        yield f"{path}.{name}"


def factors_read():
    """Keys of SOLVER.LR_FACTOR, which the optimiser reads by the names of a model's parts."""
    for file in (REPO / "detecture/modeling").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"SOLVER.LR_FACTOR.{node.value.upper()}"


def test_every_key_of_ours_has_a_reader():
    read = {key for path in READERS if path not in CONFIG for key in keys_read(path)}
    read |= set(fields_read()) | set(factors_read())
    # The one key that the config package itself is there to resolve.
    read |= {key for path in CONFIG for key in keys_read(path)} & {"MODEL.DEVICE"}
    ours = all_keys() - set(leaves(get_cfg()))
    assert "TEST.COUNT" in ours
    assert sorted(ours - read) == []


@pytest.mark.slow
def test_no_field_of_a_section_is_read_by_its_name_alone(tmp_path):
    """Without their fields, the type checker names every line that reads one.

    `fields_read` takes any `.weight` in a file that knows the class for a reader.
    """
    ignored = shutil.ignore_patterns("__pycache__", "assets")
    shutil.copytree(REPO / "detecture", tmp_path / "detecture", ignore=ignored)
    shutil.copytree(REPO / "tools", tmp_path / "tools", ignore=ignored)
    shutil.copy(REPO / "pyproject.toml", tmp_path)
    paths = {kind.__name__: path for path, kind in SECTIONS.items()}
    for file in (tmp_path / "detecture/config/sections").glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name in paths:
                node.body = [part for part in node.body if not is_key(part)]
        file.write_text(ast.unparse(tree), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache")]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    # `type[Settings]` is not among them: that a default is taken from a declaration reads no key.
    missed = re.findall(r'^(\S+?):\d+: error: "(\w+)" has no attribute "(\w+)"', said, re.MULTILINE)
    read = {
        f"{paths[kind]}.{field.upper()}"
        for file, kind, field in missed
        if kind in paths and not Path(file).is_relative_to("detecture/config")
    }
    assert len(read) > 200, said[-2000:]
    read |= {key for path in READERS if path not in CONFIG for key in keys_read(path)}
    declared = {f"{path}.{n}" for path, kind in SECTIONS.items() for n, *_ in kind.declarations()}
    assert sorted(declared - read - set(factors_read())) == []


def is_key(node):
    """Whether a statement in a class declares a key: `name: type = key(..)`."""
    value = node.value if isinstance(node, ast.AnnAssign) else None
    return isinstance(value, ast.Call) and getattr(value.func, "id", "") == "key"


def test_detectron2s_keys_are_those_that_the_page_explains_and_those_that_are_warned_of():
    told = {*DETECTRON2_KEYS, *OF_SCRIPTS, *unread_keys.UNREAD_KEYS}
    ours = {f"{p}.{name}" for p, kind in SECTIONS.items() for name, *_ in kind.declarations()}
    theirs = {key for key, _ in unread_keys.leaves(lite_get_cfg())}
    assert sorted(theirs - told - ours) == []
    assert sorted(told - theirs) == []


def test_detectron2s_keys_without_a_reader_are_those_that_are_warned_of():
    read = {key for path in READERS for key in keys_read(path)} | {"VERSION"}  # self.VERSION
    without = {key for key, _ in unread_keys.leaves(lite_get_cfg())} - read
    assert sorted(without) == sorted(unread_keys.UNREAD_KEYS)


def test_every_key_that_is_read_has_a_default():
    keys = all_keys()
    sections = {key.rsplit(".", n)[0] for key in keys for n in range(1, key.count(".") + 1)}
    unknown = {
        f"{path.relative_to(REPO)}: {key}"
        for path in READERS
        for key in keys_read(path)
        if key not in keys and key not in sections
    }
    assert sorted(unknown) == []


def test_every_key_of_ours_says_what_it_means():
    found = [
        (f"{path}.{name}", declared)
        for path, kind in SECTIONS.items()
        for name, _, declared in kind.declarations()
    ]
    assert len(found) > 100
    assert [name for name, declared in found if not declared.meaning.endswith((".", ")."))] == []


def test_every_default_is_in_its_range():
    for kind in SECTIONS.values():
        kind()


def test_the_page_of_keys_is_that_of_the_declarations():
    """If it fails: python tools/list_config.py --markdown > docs/config.md."""
    assert (REPO / "docs/config.md").read_text(encoding="utf-8") == config_page()


def literal(node):
    """Whether a default is written out: a number, a text or several, and not just nothing."""
    if isinstance(node, (ast.Tuple, ast.List)):
        return bool(node.elts) and all(map(literal, node.elts))
    if isinstance(node, ast.UnaryOp):
        return literal(node.operand)
    return isinstance(node, ast.Constant) and node.value not in (None, "", ())


def arguments_with_defaults(function):
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    yield from zip(positional[len(positional) - len(given.defaults) :], given.defaults, strict=True)
    yield from ((a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d)


def test_no_setting_is_declared_twice():
    """What is built from a config has no default of its own, and no range; nor has a dataclass.

    A class may take the default of a declaration (`Settings.field`), and settings as a whole.
    """
    names = {name.lower() for kind in SECTIONS.values() for name, _, _ in kind.declarations()}
    twice, seen = [], 0
    for file in READERS:
        if file in CONFIG or "d2" in file.relative_to(REPO).parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef):
                continue
            functions = {f.name: f for f in node.body if isinstance(f, ast.FunctionDef)}
            if "from_config" not in functions:
                continue
            seen += 1
            for argument, default in arguments_with_defaults(functions.get("__init__", EMPTY)):
                if literal(default) and (argument.arg in names or is_number(default)):
                    twice.append(f"{file.relative_to(REPO)}: {node.name}({argument.arg})")
            twice += [
                f"{file.relative_to(REPO)}: {node.name}.{field.target.id}"
                for field in node.body
                if isinstance(field, ast.AnnAssign) and field.value and literal(field.value)
                if isinstance(field.target, ast.Name) and "ClassVar" not in ast.dump(field)
            ]
    assert seen > 15
    assert twice == []


EMPTY = ast.parse("def nothing(): pass").body[0]


def is_number(default):
    return isinstance(default, ast.Constant) and type(default.value) in (int, float)
