"""What the documents say is true: commands, paths, links, Python lines, tool help."""

import ast
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from detecture.config import make_config

REPO = Path(__file__).parents[2]
DOCS = [
    REPO / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "INSTALL.md",
        "CHANGELOG.md",
        "datasets/README.md",
        "docs/benchmark.md",
        "docs/config.md",
        "docs/detecture.md",
        "docs/data.md",
        "docs/detectron2.md",
        "docs/formats.md",
        "docs/glossary.md",
        "docs/miner.md",
        "docs/model_zoo.md",
        "docs/open_vocabulary.md",
        "docs/usage.md",
        "docs/web.md",
        "docs/words.md",
    )
]
TOOLS = sorted((REPO / "tools").glob("*.py"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Commands that only a network or another machine can run; they are not ours to check.
FOREIGN = {
    "git", "pip", "pip3", "python3", "hf", "huggingface-cli", "cd", "export", "source", "unzip",
    "tar", "md5sum", "docker", "mkdir", "wget", "curl", "ln", "mv", "sudo", "ffmpeg",
}  # fmt: skip


def blocks(language):
    for doc in DOCS:
        for match in BLOCK.finditer(doc.read_text(encoding="utf-8")):
            if match.group(1) == language:
                yield doc, match.group(2)


def commands():
    found = []
    for doc, text in blocks("bash"):
        joined = text.replace("\\\n", " ")
        for line in joined.splitlines():
            line = line.strip()
            if line and not line.startswith("#"):
                found.append((doc.name, line))
    return found


@cache
def help_of(tool, *subcommand):
    """What a tool prints with --help. In this process: a new one takes seconds for its imports."""
    printed = io.StringIO()
    words = [str(REPO / tool), *subcommand, "--help"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", words)
        with redirect_stdout(printed):
            runpy.run_path(words[0], run_name="__main__")
    assert not ended.value.code
    return printed.getvalue()


@pytest.mark.parametrize("tool", TOOLS, ids=lambda p: p.name)
def test_help_of_every_tool(tool):
    assert f"usage: {tool.name}" in help_of(tool.relative_to(REPO))


@pytest.mark.slow
@pytest.mark.parametrize("tool", TOOLS, ids=lambda p: p.name)
def test_help_of_every_tool_in_a_process_of_its_own(tool):
    """Where nothing is imported yet, by chance of an earlier tool."""
    done = subprocess.run([sys.executable, str(tool), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: {tool.name}" in done.stdout


def test_documents_hold_commands():
    assert len(commands()) > 10


@pytest.mark.slow
@pytest.mark.parametrize(("doc", "line"), commands(), ids=lambda value: str(value)[:70])
def test_commands(doc, line, tmp_path):
    words = shlex.split(line.split(" # ")[0])
    env = dict(os.environ)
    while words and re.fullmatch(r"[A-Z0-9_]+=.*", words[0]):
        name, value = words.pop(0).split("=", 1)
        env[name] = value
    if words[0] in FOREIGN:
        return
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (REPO / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
        return
    if words[0] == "torchrun":
        words = ["python", *words[next(i for i, w in enumerate(words) if w.endswith(".py")) :]]
    assert words[0] == "python", f"{doc}: {line}: add {words[0]} to FOREIGN, or write it otherwise"
    if words[1] == "-c":
        subprocess.run([sys.executable, *words[1:]], check=True, env=env, cwd=tmp_path)
        return
    if words[1] == "-m":
        options = [word for word in words[3:] if word.startswith("--")]
        module = [sys.executable, "-m", words[2], "--help"]
        done = subprocess.run(module, capture_output=True, text=True, check=True, cwd=REPO)
        assert all(option in done.stdout for option in options)
        return
    tool, arguments = words[1], words[2:]
    text = help_of(tool)
    if arguments and re.search(rf"\{{[\w,]*\b{re.escape(arguments[0])}\b[\w,]*\}}", text):
        text = help_of(tool, arguments[0])
    overrides = []
    for index, word in enumerate(arguments):
        if word.startswith("--"):
            assert word in text, f"{doc}: {tool} has no {word}"
        elif re.fullmatch(r"[A-Z_]+(\.[A-Z_0-9]+)*", word) and index + 1 < len(arguments):
            overrides += [word, arguments[index + 1]]
        elif word.startswith("configs/"):
            assert (REPO / word).is_file(), f"{doc}: {word} does not exist"
    if "--config-file" in arguments:
        make_config(REPO / arguments[arguments.index("--config-file") + 1], overrides)
    if runs_on_samples(line):
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=REPO, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def required_options(tool):
    """Options without which a tool refuses to start, of tools without subcommands."""
    calls = [
        node
        for node in ast.walk(ast.parse((REPO / tool).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
    ]
    return [
        call.args[0].value
        for call in calls
        if isinstance(call.func.value, ast.Name) and call.func.value.id == "parser"
        for word in call.keywords
        if word.arg == "required" and word.value.value is True
    ]


def test_commands_name_all_that_is_required():
    in_prose = [
        (doc.name, " ".join(command.split()))
        for doc in DOCS
        for command in re.findall(
            r"`(python tools/[^`]*? --[^`]*)`", BLOCK.sub("", doc.read_text(encoding="utf-8"))
        )
    ]
    lacking = [
        (doc, line, option)
        for doc, line in [*commands(), *in_prose]
        for tool in re.findall(r"python (tools/\w+\.py)", line)
        for option in required_options(tool)
        if not re.search(rf"{option}\b", line)
    ]
    assert not lacking
    assert required_options("tools/demo.py") == ["--input", "--output"]


def runs_on_samples(line):
    """Commands on the shipped images need nothing that is not here: they are run."""
    return "samples" in line or "output/procedural" in line


@pytest.mark.parametrize(
    ("doc", "code"), [(d.name, c) for d, c in blocks("python")], ids=lambda value: str(value)[:40]
)
def test_python_lines(doc, code, tmp_path):
    env = dict(os.environ)
    if "from detectron2" in code:
        pytest.importorskip("detectron2.engine", reason="needs detectron2, which is not installed")
        env["DETECTURE_D2"] = "detectron2"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{doc}: {done.stderr}"


def test_the_plain_script_of_the_document_is_the_tool():
    tool = (REPO / "tools/plain_script.py").read_text(encoding="utf-8")
    (script,) = [code for doc, code in blocks("python") if doc.name == "detectron2.md"]
    begin = "\nCONFIG = "
    assert script.partition(begin)[2] == tool.partition(begin)[2] != ""
    assert imported_names(script) == imported_names(tool)


def imported_names(code):
    return {
        alias.name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }


@pytest.mark.parametrize("doc", DOCS, ids=lambda p: str(p.relative_to(REPO)))
def test_links_and_paths(doc):
    text = doc.read_text(encoding="utf-8")
    prose = BLOCK.sub("", text)
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", prose) if "://" not in t]
    missing = [t for t in targets if not (doc.parent / t).exists()]
    pattern = r"`((?:tools|configs|datasets|detecture|tests)/[\w./*-]+)`"
    named = re.findall(pattern, prose)
    missing += [name for name in named if not list(REPO.glob(name.rstrip("/")))]
    assert not missing
