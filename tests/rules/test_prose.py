"""Sentences that native readers stumbled over stay out of documents, docstrings and comments."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
DOCS = [*REPO.glob("*.md"), *(REPO / "docs").glob("*.md"), REPO / "datasets/README.md"]
SOURCES = [*(REPO / "detecture").rglob("*.py"), *(REPO / "tools").glob("*.py")]

BANNED = (
    r"\bof a choice that has seen\b",
    r"\bcannot but\b",
    r"\bno difference but one\b",
    r"\bevaluated on, and decided\b",
    r"\bneeds no words, and many more\b",
    r"\bwhoever knows no\b",
    r"\bwrite their own lines of regions write none\b",
    r"\bhangs? on\b",
    r"\bgives? (it|them|that) free\b",
    r"\bway is looked for\b",
    r"\bpictures?\b",
    r"\bdoes not heed\b",
    r"\bstands? beside (it|them)\b",
)


def prose_of(path):
    """All that people read in a file, with single spaces; quoted words are not sentences."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        nodes = [ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef]
        parts = [
            ast.get_docstring(node) or ""
            for node in ast.walk(ast.parse(text))
            if isinstance(node, tuple(nodes))
        ]
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        parts += [token.string for token in tokens if token.type == tokenize.COMMENT]
        text = "\n".join(parts)
    text = re.sub(r"```.*?```|`[^`\n]*`|\"[^\"\n]*\"", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("pattern", BANNED)
def test_nothing_reads_like_this(pattern):
    found = [
        f"{path.relative_to(REPO)}: ..{text[max(0, m.start() - 40) : m.end() + 40]}"
        for path, text in PROSE.items()
        for m in re.finditer(pattern, text, re.IGNORECASE)
    ]
    assert not found, "\n".join(found)


def paragraphs_of(text):
    """Paragraphs and items of lists; no code, tables or headings."""
    text = re.sub(r"^```.*?^```|^[|#][^\n]*", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.split(r"\n\s*\n|\n(?=\s*(?:-|\d+\.) )", text)


@pytest.mark.parametrize("doc", DOCS, ids=lambda path: path.name)
def test_paragraphs_are_short(doc):
    long = [p for p in paragraphs_of(doc.read_text(encoding="utf-8")) if len(p.split()) > 90]
    assert not long, "split them, or make a list:\n" + "\n\n".join(long)


def test_paragraphs_are_found():
    text = "# Head\none\ntwo\n\n- three\n  four\n  - five\n1. six\n```\nseven\n```\n| eight |\nnine"
    assert [p.split() for p in paragraphs_of(text) if p.strip()] == [
        ["one", "two"],
        ["-", "three", "four"],
        ["-", "five"],
        ["1.", "six"],
        ["nine"],
    ]


PROSE = {path: prose_of(path) for path in sorted([*DOCS, *SOURCES])}


def test_prose_is_found():
    assert "segments each one and describes it" in PROSE[REPO / "README.md"]
    assert "Whose OUTPUT_DIR" not in PROSE[REPO / "detecture/miner/ready.py"]
    assert "before a run of the miner writes" in PROSE[REPO / "detecture/miner/ready.py"]
