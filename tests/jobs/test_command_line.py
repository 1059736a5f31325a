"""What the command lines share."""

import argparse
import io
import sys
from pathlib import Path

import pytest

from detecture.errors import ConfigError, EvaluationError
from detecture.jobs.command_line import OverridesParser, add_renamed_option, command_line


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ConfigError("no key"), 2, "tool: no key\n"),
        (EvaluationError("disk"), 1, "tool: disk\n"),
        (KeyboardInterrupt(), 130, "tool: interrupted; the same command goes on from here\n"),
    ],
)
def test_errors_become_a_text_and_a_status(capsys, error, status, text):
    @command_line("tool")
    def main(argv):
        raise error

    assert main([]) == status
    assert capsys.readouterr().err == text


def test_a_defect_of_the_program_is_not_hidden():
    @command_line("tool")
    def main():
        raise RuntimeError("defect")

    with pytest.raises(RuntimeError):
        main()


def test_the_earlier_name_of_an_option_works_and_says_the_new_one(capsys):
    parser = argparse.ArgumentParser(prog="tool")
    add_renamed_option(parser, "--images", before="--pictures", type=int, default=7, help="many")
    assert parser.parse_args([]).images == 7
    assert parser.parse_args(["--images", "3"]).images == 3
    assert capsys.readouterr().err == ""
    assert parser.parse_args(["--pictures", "4"]).images == 4
    assert "--pictures is --images now" in capsys.readouterr().err
    assert "--pictures" not in parser.format_help()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_streams_that_have_no_sign_for_a_letter(monkeypatch, encoding):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)

    @command_line("tool")
    def main():
        print("bl\u00e4tter \U0001f33f b\udcff.png")
        return 0

    monkeypatch.setattr(sys, "stdout", out)
    assert main() == 0
    out.flush()
    printed = out.buffer.getvalue()
    assert printed.startswith(b"bl") and b"b\\udcff.png" in printed
    assert (b"\\xe4" in printed) == (encoding == "ascii")
    assert out.errors == "strict", "as it was"


def test_streams_that_are_none_of_pythons(monkeypatch):
    class Stream:
        def __init__(self):
            self.texts = []

        def write(self, text):
            self.texts.append(text)

    stream = Stream()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", None)  # as in a program without a console

    @command_line("tool")
    def main():
        print("text")
        return 0

    assert main() == 0
    assert stream.texts[0] == "text"


@pytest.fixture
def overrides_parser():
    parser = OverridesParser(prog="tool")
    parser.add_argument("--input", nargs="+", required=True)
    parser.add_argument("--score", type=float)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    return parser


@pytest.mark.parametrize(
    ("line", "opts"),
    [
        ("--input a b --overwrite --score 2 A.B 1 C 2", "A.B 1 C 2"),
        ("A.B 1 --overwrite --score 2 --input a b", "A.B 1"),
        ("A.B 1 --input a b --overwrite C 2 --score=2", None),
        ("--overwrite --score 2 --input a b SEED 3 MODEL.ODD x", "SEED 3 MODEL.ODD x"),
        ("A.B 1 --overwrite C 2 --score=2 --input a b", "A.B 1 C 2"),
        ("A.B 1 --over --score 2 C -1e-3 --input a b", "A.B 1 C -1e-3"),
        ("A.B --odd --overwrite --score 2 --input a b", "A.B --odd"),
        ("A.B --overwrite --score 2 --input a b", "A.B"),
        ("--overwrite --score 2 --input a b -- A.B 1", "A.B 1"),
        ("--overwrite --score 2 --input a b", ""),
    ],
)
def test_options_may_stand_behind_pairs(overrides_parser, line, opts):
    args = overrides_parser.parse_args(line.split())
    assert args.overwrite and args.score == 2
    if opts is None:  # as ever: an option of many words takes all that follow
        assert args.input == ["a", "b"] and args.opts == ["A.B", "1", "C", "2"]
    else:
        assert args.input == ["a", "b"] and args.opts == opts.split()


@pytest.mark.parametrize("line", [["--output", ""], ["--output="]])
def test_an_empty_path_is_not_the_current_folder(line, capsys):
    parser = OverridesParser(prog="tool")
    parser.add_argument("--output", type=Path)
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    with pytest.raises(SystemExit):
        parser.parse_args(line)
    assert "--output is empty" in capsys.readouterr().err
    assert parser.parse_args(["--output", ".", "A.B", ""]).output == Path()


def test_a_file_may_be_called_like_a_key(overrides_parser):
    line = "--input SEED IMG.JPG MODEL.jpg MODEL SEED.PNG a OUTPUT_DIR x"
    args = overrides_parser.parse_args(line.split())
    assert args.input == ["SEED", "IMG.JPG", "MODEL.jpg", "MODEL", "SEED.PNG", "a"]
    assert args.opts == ["OUTPUT_DIR", "x"]


@pytest.mark.parametrize("line", ["--input a A.B 1 --odd", "A.B 1 --odd 3 --input a"])
def test_an_unknown_option_behind_pairs_is_no_key(overrides_parser, line, capsys):
    with pytest.raises(SystemExit):
        overrides_parser.parse_args(line.split())
    assert "unrecognized arguments: --odd" in capsys.readouterr().err


def test_every_tool_takes_options_behind_pairs():
    for path in sorted((Path(__file__).parents[2] / "tools").glob("*.py")):
        text = path.read_text("utf-8")
        if "REMAINDER" in text:
            assert "parser = OverridesParser(" in text, path.name
