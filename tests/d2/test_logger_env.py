import logging
import sys

import numpy
import pytest
import torch

from detecture.d2 import collect_env_info, setup_logger


@pytest.fixture
def name(request):
    """A logger of its own for each test, since loggers are global."""
    name = f"contract_{request.node.name}"
    yield name
    logger = logging.getLogger(name)
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()


def test_terminal_and_file(tmp_path, capsys, name):
    logger = setup_logger(str(tmp_path / "out"), name=name)
    logger.info("hello")
    logging.getLogger(f"{name}.part").warning("careful")
    terminal = capsys.readouterr().out
    assert "hello" in terminal
    assert "careful" in terminal
    assert "WARNING" in terminal
    file = (tmp_path / "out" / "log.txt").read_text()
    assert "hello" in file
    assert f"{name}.part WARNING: careful" in file


def test_other_ranks_write_to_their_own_file_only(tmp_path, capsys, name):
    setup_logger(str(tmp_path), distributed_rank=3, name=name).info("from three")
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "log.txt").exists()
    assert "from three" in (tmp_path / "log.txt.rank3").read_text()


def test_loggers_above_are_left_alone(caplog, name):
    setup_logger(name=name).info("for this logger only")
    assert caplog.records == []


def test_file_name_of_ones_own(tmp_path, name):
    path = tmp_path / "sub" / "mine.log"
    setup_logger(str(path), name=name).info("hello")
    assert "hello" in path.read_text()


def test_same_call_twice_logs_once(tmp_path, capsys, name):
    for _ in range(2):
        logger = setup_logger(str(tmp_path), name=name)
    logger.info("one line")
    assert capsys.readouterr().out.count("one line") == 1
    assert (tmp_path / "log.txt").read_text().count("one line") == 1


@pytest.mark.lite_only
def test_adding_a_file_later_does_not_double_the_terminal(tmp_path, capsys, name):
    setup_logger(name=name)
    setup_logger(str(tmp_path), name=name).info("one line")
    assert capsys.readouterr().out.count("one line") == 1
    assert (tmp_path / "log.txt").read_text().count("one line") == 1


def test_two_loggers_may_share_a_file(tmp_path, name):
    one = setup_logger(str(tmp_path), name=name)
    two = setup_logger(str(tmp_path), name="fvcore")
    one.info("first")
    two.info("second")
    one.info("third")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["first", "second", "third"]


def test_colour_and_abbreviation(capsys, name):
    setup_logger(name=name, color=False).info("plain")
    out = capsys.readouterr().out
    assert "\x1b[" not in out
    assert f"{name} INFO: plain" in out


@pytest.mark.lite_only
@pytest.mark.parametrize(("abbreviation", "shown"), [("d", " d.part]: "), ("", " part]: ")])
def test_abbreviated_name(tmp_path, capsys, monkeypatch, name, abbreviation, shown):
    monkeypatch.setenv("NO_COLOR", "1")
    setup_logger(str(tmp_path), name=name, abbrev_name=abbreviation)
    logging.getLogger(f"{name}.part").info("text")
    assert shown in capsys.readouterr().out
    assert f"{name}.part INFO" in (tmp_path / "log.txt").read_text()  # the file has the full name


@pytest.mark.lite_only
def test_default_name_is_ours(tmp_path):
    assert setup_logger(str(tmp_path)).name == "detecture"
    logging.getLogger("detecture.anything").info("heard")
    assert "heard" in (tmp_path / "log.txt").read_text()


def test_environment_table_has_the_versions():
    info = collect_env_info()
    for version in (torch.__version__.split("+")[0], numpy.__version__, sys.version.split()[0]):
        assert version in info


@pytest.mark.lite_only
def test_environment_table_of_lite(monkeypatch):
    monkeypatch.setenv("DETECTURE_DATASETS_ROOT", "/somewhere/else")
    monkeypatch.delenv("DETECTURE_D2", raising=False)
    rows = dict(line.split("  ", 1) for line in collect_env_info().splitlines())
    rows = {key.strip(): value.strip() for key, value in rows.items()}
    assert rows["torchvision::nms"] == "works"
    assert rows["DETECTURE_DATASETS_ROOT"] == "/somewhere/else"
    assert rows["DETECTURE_D2"] == "not set"
    assert rows["accelerators"].startswith(str(torch.cuda.device_count()))


@pytest.mark.lite_only
def test_environment_table_tells_when_torchvision_does_not_fit(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.ops", None)
    assert "FAILED" in collect_env_info()
