"""A rule of style that is a test: who takes or gives a tensor or an array says its shape.

It holds for each function and method of the package, private and nested ones too, whose
annotations name `Tensor` or `ndarray`, alone or within another type. What it takes is said by the
name of the argument (`masks_NHW`) or by a shape in the docstring. What it gives is said by the name
in the only return statement (`return masks_NHW`) or by a shape in the docstring. One shape may
stand for several arguments; who must say both what it takes and what it gives needs two.

A shape is `(B,K,D)`, `(H,W,3)`, `(N,)`, `(..,3)`, `scalar`, "the same shape" as what was said, or,
where it does not matter, "any shape", for what is taken and given alike.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
PACKAGE = REPO / "detecture"
SOURCES = sorted(PACKAGE.rglob("*.py"))

TENSOR = re.compile(r"\b(Tensor|ndarray)\b")
TERM = r"(?:\d+|[A-Za-z])"
SIDE = rf"(?:\.\.|{TERM}(?:[+*/-]{TERM})*)"
SHAPE = re.compile(
    rf"\({SIDE},(?:{SIDE}(?:,{SIDE})*)?\)"  # (B,K,D) (K+1,h*w) (N,) (..,3)
    r"|\b[Ss]calars?\b"
    r"|\b[Tt]he same shapes?\b"
)
ANY = re.compile(r"\b[Aa]ny shapes?\b")
LETTER = re.compile(r"\b[A-Za-z]\b")


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def legend(path):
    """The letters that the module's docstring explains, those of a file it refers to with them."""
    text = ast.get_docstring(parsed(path)) or ""
    if "Legend" not in text:
        return set()
    text = text[text.index("Legend") :].split("\n\n")[0]
    letters = set(LETTER.findall(text))
    for other in re.findall(r"as in (\w+\.py)", text):
        letters |= legend(path.parent / other)
    return letters


def suffix(name, letters):
    """What an argument's name says of its shape (`masks_NHW`: "NHW"), "" where nothing.

    Lower-case letters alone could be a word: they are a shape where the legend explains each.
    """
    stem, _, last = name.rpartition("_")
    if not stem.strip("_") or not re.fullmatch(r"[A-Za-z0-9]+", last):
        return ""
    if re.search(r"[A-Z]|^\d+[a-z]*$", last) or set(last) <= letters:
        return last
    return ""


def names_a_tensor(annotation):
    return annotation is not None and bool(TENSOR.search(ast.unparse(annotation)))


def arguments(function):
    """Those that are tensors or hold some."""
    listed = function.args
    every = [*listed.posonlyargs, *listed.args, *listed.kwonlyargs, listed.vararg, listed.kwarg]
    return [a.arg for a in every if a is not None and names_a_tensor(a.annotation)]


def own_nodes(function):
    """The nodes of a function without those of functions within it."""
    todo = list(function.body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            todo.extend(ast.iter_child_nodes(node))


def returned(function):
    """The name in the only return statement of a function that gives a tensor, or ""."""
    if not names_a_tensor(function.returns):
        return ""
    given = [n.value for n in own_nodes(function) if isinstance(n, (ast.Return, ast.Yield))]
    if len(given) == 1 and isinstance(given[0], ast.Name):
        return given[0].id
    return ""


def functions(node, owner=None):
    """Each function of a module, with the class that it is a method of, or None."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child, owner
        within = child if isinstance(child, ast.ClassDef) else None
        yield from functions(child, within)


def docstring(function, owner):
    """What describes a function.

    `__init__` is described by the docstring of its class (pyproject.toml says so to ruff, too).
    """
    text = ast.get_docstring(function) or ""
    if function.name == "__init__" and owner is not None:
        text += "\n" + (ast.get_docstring(owner) or "")
    return text


def missing(function, owner, letters):
    """How many shapes a function leaves unsaid."""
    due = sum(
        (
            any(not suffix(name, letters) for name in arguments(function)),
            names_a_tensor(function.returns) and not suffix(returned(function), letters),
        )
    )
    text = docstring(function, owner)
    return 0 if ANY.search(text) else max(0, due - len(SHAPE.findall(text)))


def unsaid(tree, letters=frozenset()):
    """The functions of a module that leave a shape unsaid."""
    return [
        f"{function.lineno} {function.name}"
        for function, owner in functions(tree)
        if missing(function, owner, letters)
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(REPO)))
def test_functions_say_the_shapes_of_what_they_take_and_give(path):
    assert not unsaid(parsed(path), legend(path))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(REPO)))
def test_a_legend_explains_each_letter_of_a_suffix(path):
    letters = legend(path)
    unexplained = [
        f"{function.lineno} {function.name}: {name}"
        for function, _ in functions(parsed(path))
        for name in [*arguments(function), returned(function)]
        if set(re.sub(r"\d", "", suffix(name, letters))) - letters
    ]
    assert not unexplained


@pytest.mark.parametrize(
    "source",
    [
        'def f(a: Tensor) -> Tensor: "(H,W,3) to (K+1,h*w)."',
        'def f(a: Tensor) -> Tensor: "Element by element, of any shape."',
        'def f(a: Tensor) -> np.ndarray: "(..,3) in degrees, in radians with the same shape."',
        'def f(a: Tensor, b: Tensor | None) -> None: "Both (N,)."',
        'def f(a_NHW: Tensor, b_4: Tensor) -> float: "No words."',
        'def f(a_NHW: Tensor) -> Tensor: "A scalar."',
        "def f(a_NHW: Tensor) -> Tensor:\n    b_N = a_NHW.sum((1, 2))\n    return b_N",
        'class A:\n    "Holds (N,)."\n    def __init__(self, a: Tensor) -> None: ...',
        "def f(a: int) -> str: ...",
    ],
)
def test_what_the_rule_takes(source):
    assert not unsaid(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "def f(a: Tensor) -> None: ...",
        'def f(a: "torch.Tensor") -> None: "No words."',
        'def f(*a: np.ndarray) -> None: "No words."',
        'def f(a: Sequence[tuple[int, Tensor]]) -> None: "Its (height, width) is free."',
        'def f() -> dict[str, np.ndarray] | None: "The pixel (x, y)."',
        'def f(a: Tensor) -> Tensor: "Takes (H,W)."',
        "class A:\n    'Holds (N,).'\n    def f(self, a: Tensor) -> None: ...",
        "def f(a_N: Tensor) -> Tensor:\n    if a_N is b:\n        return a_N\n    return c_N",
        "def f(a: int) -> None:\n    def g(b: Tensor) -> None: ...",
        "def f(a_fn: Callable[[Tensor], Tensor]) -> None: ...",
    ],
)
def test_what_the_rule_refuses(source):
    assert len(unsaid(ast.parse(source))) == 1


def test_lower_case_letters_are_a_suffix_where_the_legend_explains_them():
    tree = ast.parse("def f(cells_hw: Tensor) -> None: ...")
    assert unsaid(tree)
    assert not unsaid(tree, {"h", "w"})
