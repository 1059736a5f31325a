"""What a benchmark was asked to run and the state of its cells, kept in its folder for reports."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from detecture.benchmark.cells import is_without_data, look_at, records_folder
from detecture.benchmark.protocol import Cell, ProtocolFile, read_protocols
from detecture.benchmark.results import CellResult
from detecture.checkpoint.atomic import write_text_atomic
from detecture.errors import ConfigError, DetectureError, EvaluationError
from detecture.untrusted import read_own_json

_KINDS = {"protocol_file": str, "protocol": str, "random_weights": bool, "limit": int}


@dataclass(frozen=True)
class Request:
    """A request for cells; see `ProtocolFile.cells`.

    Attributes:
        protocol_file: path of the protocol file.
        protocol: name.
        methods: names; empty: all of the protocol.
        datasets: registered names; empty: those of the protocol.
        random_weights: use tiny configs with random weights for methods that have one.
        limit: number of images of each data set; 0: all.
        settings: config overrides: a method's name or `all`, key and value of each.
    """

    protocol_file: str
    protocol: str
    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    random_weights: bool = False
    limit: int = 0
    settings: tuple[tuple[str, ...], ...] = ()

    def read(self) -> tuple[ProtocolFile, list[Cell]]:
        """The protocol file and the cells.

        Raises:
            ConfigError: the file or a name in this request is wrong.
            DatasetError: a data set is not registered.
        """
        file = read_protocols(Path(self.protocol_file))
        cells = file.cells(
            self.protocol,
            self.methods,
            self.datasets,
            random_weights=self.random_weights,
            limit=self.limit,
            settings=self.settings,
        )
        return file, cells


def index_path(root: Path, protocol: str) -> Path:
    """The file that lists the cells of a protocol in the folder of a benchmark."""
    return root / f"benchmark-{protocol}.json"


def write_index(
    root: Path, request: Request, cells: Sequence[Cell], results: Sequence[CellResult]
) -> None:
    """Keep a request, its cells and their states; `detecture.benchmark.read_cells` reads them.

    Raises:
        EvaluationError: the file cannot be written, or something else is in its place.
    """
    entries = [
        {
            **{key: getattr(result, key) for key in ("method", "label", "dataset", "variant")},
            **{key: getattr(result, key) for key in ("k_access", "random_weights", "state")},
            "note": result.note,
            "folder": os.path.relpath(records_folder(root, cell), root),
        }
        for cell, result in zip(cells, results, strict=True)
    ]
    content = {"protocol": request.protocol, "request": asdict(request), "cells": entries}
    path = index_path(root, request.protocol)
    _require_index(path)
    try:
        write_text_atomic(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise EvaluationError(
            f"{path}: cannot be written ({error.strerror or error}); make room and run it again"
        ) from error


def _require_index(path: Path) -> None:
    if not path.exists():
        return
    try:
        content = read_own_json(path)
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise EvaluationError(
            f"{path}: is there already, and no index of a benchmark; choose another --root"
        )


def as_of_today(root: Path, request: Any, results: Sequence[CellResult]) -> list[CellResult]:
    """Results with their states checked again, as far as that is possible here.

    If the protocol file, a config or the data is not available, as on another machine, cells that
    were done when the benchmark ran become `unchecked`, and the note says why.

    Args:
        root: folder of the benchmark.
        request: that of its index, as read; None: states stay as they are.
        results: of the index, in its order.
    """
    if request is None:
        return list(results)
    try:
        cells = _cells_of_today(_request(request))
    except DetectureError as error:
        return [_unchecked(result, str(error)) for result in results]
    known = {_name(look.method.name, look): look for look in cells}
    found = []
    for result in results:
        cell = known.get(_name(result.method, result))
        now = None if cell is None else look_at(root, cell)
        if now is None:
            found.append(
                replace(result, state="stale", note="the protocol no longer has this cell")
            )
        elif is_without_data(now):
            found.append(_unchecked(result, now.note))
        else:
            found.append(now)
    return found


def _cells_of_today(request: Request) -> list[Cell]:
    """A request without the methods that the protocol no longer has."""
    file = read_protocols(Path(request.protocol_file))
    plan = file.protocols.get(request.protocol)
    if plan is None:
        return []
    methods = tuple(name for name in request.methods if name in plan.entries)
    if request.methods and not methods:
        return []
    return replace(request, methods=methods).read()[1]


def _unchecked(result: CellResult, reason: str) -> CellResult:
    if result.state != "done":
        return result
    note = f"not checked against today's files ({reason.splitlines()[0]})"
    return replace(result, state="unchecked", note=note)


def _name(method: str, of: Any) -> tuple[str, str, str, str]:
    return method, of.variant, of.dataset, of.k_access


def _request(value: Any) -> Request:
    try:
        lists = {key: _names(value[key]) for key in ("methods", "datasets")}
        settings = tuple(_names(one) for one in value["settings"])
        if any(len(one) != 3 for one in settings):
            raise ValueError("settings must be method, key and value each")
        for key, kind in _KINDS.items():
            if type(value[key]) is not kind:
                raise TypeError(f"{key} is {value[key]!r:.80}")
        return Request(**{**value, **lists, "settings": settings})
    except (TypeError, KeyError, ValueError) as error:
        raise ConfigError(
            f"the request is damaged ({error}); run tools/benchmark.py again"
        ) from error


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError(f"{value!r} is no list of names")
    return tuple(value)
