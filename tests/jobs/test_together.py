"""Errors of one process are errors of all."""

import pytest

from detecture.d2 import comm
from detecture.errors import ConfigError, EvaluationError
from detecture.jobs.together import in_all_processes


def test_alone_an_error_is_itself():
    error = KeyError("x")
    with pytest.raises(KeyError) as caught, in_all_processes(EvaluationError):
        raise error
    assert caught.value is error
    with in_all_processes(EvaluationError):
        pass


@pytest.mark.parametrize(
    ("told", "kind", "text"),
    [
        ((True, ConfigError, "no key"), ConfigError, "process 1: no key"),
        ((True, EvaluationError, "KeyError: 'x'"), EvaluationError, "process 1: KeyError: 'x'"),
    ],
)
def test_the_others_raise_what_one_of_them_says(monkeypatch, told, kind, text):
    monkeypatch.setattr(comm, "all_gather", lambda own: [own, told])
    with pytest.raises(kind, match=text), in_all_processes(EvaluationError):
        pass


def test_an_interrupt_waits_for_nobody(monkeypatch):
    monkeypatch.setattr(comm, "all_gather", lambda own: pytest.fail("it waits"))
    with pytest.raises(KeyboardInterrupt), in_all_processes(EvaluationError):
        raise KeyboardInterrupt
