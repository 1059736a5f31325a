"""What the command lines share."""

import argparse

import pytest

from detecture.errors import ConfigError, EvaluationError
from detecture.jobs.command_line import add_renamed_option, command_line


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
