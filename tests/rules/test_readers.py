"""Yaml and JSON are parsed in one place, which bounds them."""

import ast

import pytest

from tests.rules.test_style import PACKAGE, REPO, SOURCES

PLACE = PACKAGE / "untrusted.py"

# Names of the two modules that take text apart; what only writes is free.
PARSERS = {
    "json": {"load", "loads", "JSONDecoder", "decoder", "detect_encoding"},
    "yaml": {
        *("load", "load_all", "safe_load", "safe_load_all", "full_load", "full_load_all"),
        *("unsafe_load", "unsafe_load_all", "parse", "scan", "compose", "compose_all", "loader"),
        *("Loader", "SafeLoader", "FullLoader", "UnsafeLoader", "BaseLoader", "constructor"),
        *("CLoader", "CSafeLoader", "CFullLoader", "CUnsafeLoader", "CBaseLoader"),
    },
}


def parsers_in(source):
    """Line numbers and names of what a source takes from the two modules to parse with.

    Called or not: what is passed on is called elsewhere.
    """
    tree = ast.parse(source)
    names = {}  # what the modules are called here
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root, _, inner = alias.name.partition(".")
                if root in PARSERS:
                    names[alias.asname or root] = root
                    if inner.partition(".")[0] in PARSERS[root]:
                        yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            root, _, inner = (node.module or "").partition(".")
            for alias in node.names:
                if root in PARSERS and (inner or alias.name) in {*PARSERS[root], "*"}:
                    yield node.lineno, f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            root = names.get(node.value.id)
            if root and node.attr in PARSERS[root]:
                yield node.lineno, f"{root}.{node.attr}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import json\njson.loads('1')", ["json.loads"]),
        ("import json as j\nlist(map(j.loads, []))", ["json.loads"]),
        ("from json import load as read", ["json.load"]),
        ("from json.decoder import JSONDecoder", ["json.decoder.JSONDecoder"]),
        ("import yaml\nyaml.load('', Loader=yaml.SafeLoader)", ["yaml.load", "yaml.SafeLoader"]),
        ("from yaml import *", ["yaml.*"]),
        ("def f():\n    import yaml\n    yaml.safe_load('')", ["yaml.safe_load"]),
        ("import json, yaml, torch\njson.dumps(1)\nyaml.safe_dump(1)\ntorch.load('a')", []),
        ("from .json import load", []),
    ],
)
def test_what_parses_is_found(source, found):
    assert [name for _, name in parsers_in(source)] == found


def test_yaml_and_json_are_parsed_in_one_place():
    """Without an exception: what the package itself ships is read in the same way."""
    found = [
        f"{path.relative_to(REPO)}:{line} {name}; read it with detecture.untrusted"
        for path in SOURCES
        if path != PLACE
        for line, name in parsers_in(path.read_text(encoding="utf-8"))
    ]
    assert not found
    assert list(parsers_in(PLACE.read_text(encoding="utf-8")))
