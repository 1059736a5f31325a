"""The wording of a published checkpoint, from a yaml file or Python source that is never run."""

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from detecture.data.prompts import DEFAULT_PROMPTS, OPEN_COUNT, PromptTemplate
from detecture.errors import ConfigError
from detecture.untrusted import read_text

MOST_SOURCE_BYTES = 1 << 20
"""Size of a Python source."""


def load_wording(path: Path) -> PromptTemplate:
    """Prompts from a yaml file, or from the string constants of a Python source (`*.py`).

    The source is parsed, never run: only string literals that are constants of modules and classes
    are read. The release builds its texts in functions, so its own source is refused, and you have
    to write a yaml from it.

    Raises:
        ConfigError: it cannot be read or lacks a part; says how to write the yaml.
    """
    if path.suffix != ".py":
        return PromptTemplate.from_yaml(path)
    try:
        tree = ast.parse(read_text(path, ConfigError, MOST_SOURCE_BYTES))
    except (ConfigError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ConfigError(f"--prompts {path}: cannot be read as Python source ({error})") from error
    constants: dict[str, str] = {}
    _collect_constants(tree.body, constants)
    lines = {v: _line_form(v) for v in constants.values() if _line_form(v)}
    users = {
        _user_form(v): n
        for n, v in constants.items()
        if v not in lines and "system" not in n.lower() and "{N}" in _user_form(v) and "<|" in v
    }
    named = {
        part: {v: n for n, v in constants.items() if re.search(pattern, n, re.IGNORECASE)}
        for part, pattern in (("system", "system"), ("joiner", "join|separator"))
    }
    parts = {
        "system text (a name with SYSTEM)": list(named["system"]),
        "user text (with the format and {N}, another {placeholder}, or the open count)": list(
            users
        ),
        "line format (with two {placeholders}, ending in the seg token)": list(lines.values()),
        "joiner (a name with JOIN or SEPARATOR)": list(named["joiner"]),
    }
    problems = [f"no constant for the {k}" for k, found in parts.items() if not found]
    problems += [f"several for the {k}" for k, found in parts.items() if len(found) > 1]
    if problems:
        raise ConfigError(
            f"--prompts {path}: {'; '.join(problems)} (what a program computes, f-strings too, is "
            f"not read; constants found: {', '.join(constants) or 'none'}). Write a yaml with the "
            "texts that the checkpoint was trained with, and give that: system: .., user: .. (with "
            "{N} for the number of regions), assistant_line: .. (such as "
            f'"{DEFAULT_PROMPTS.line}"), assistant_join: "\\n", seg_token: '
            f'"{DEFAULT_PROMPTS.seg_token}", warm_start_token: "{DEFAULT_PROMPTS.end_token}"; '
            "docs/detecture.md says where each stands in the release"
        )
    system, user, line, joiner = (found[0] for found in parts.values())
    end = DEFAULT_PROMPTS.end_token
    seg_token = line[line.rindex("<|") :]
    try:
        return PromptTemplate(system, user, line, joiner, seg_token, end, end)
    except ConfigError as error:
        raise ConfigError(f"--prompts {path}: {error}; write a yaml instead") from error


def _collect_constants(body: Sequence[ast.stmt], into: dict[str, str]) -> None:
    for node in body:
        if isinstance(node, ast.ClassDef):
            _collect_constants(node.body, into)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            text = _literal(node.value, into)
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name) and text is not None:
                    into[target.id] = text


def _literal(node: ast.expr, known: Mapping[str, str]) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _literal(node.left, known), _literal(node.right, known)
        return None if left is None or right is None else left + right
    return None


def _line_form(text: str) -> str:
    """A line format with `{i}` and `{description}`; empty if it is not one."""
    pattern = r"([^{}\n]*)\{\w*\}([^{}\n]*?)(?:Texture of )?\{\w*\}([^{}\n]*<\|[^{}\n|]+\|>)"
    match = re.fullmatch(pattern, text)
    return "" if match is None else "{}{{i}}{}{{description}}{}".format(*match.groups())


def _user_form(text: str) -> str:
    """A user text with `{N}`; without it if there is none."""
    if "{N}" in text:
        return text
    placeholders = set(re.findall(r"(?<!\{)\{\w*\}(?!\})", text))
    if len(placeholders) == 1:  # written for str.format, which also undoubles braces
        text = text.replace(placeholders.pop(), "\0").replace("{{", "{").replace("}}", "}")
        return text.replace("\0", "{N}")
    return text.replace(OPEN_COUNT, "{N}") if text.count(OPEN_COUNT) == 1 else text
