"""What a benchmark was asked for, kept in its folder, so that reports need not be told again."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from detecture.benchmark.protocol import Cell, ProtocolFile, read_protocols
from detecture.checkpoint.atomic import write_text_atomic
from detecture.errors import ConfigError


@dataclass(frozen=True)
class Request:
    """The cells that were asked for; see `ProtocolFile.cells`.

    Attributes:
        protocol_file: path of the protocol file.
        protocol: name.
        methods: names; empty: all of the protocol.
        datasets: registered names; empty: those of the protocol.
        random_weights: tiny configs with random weights, where a method has one.
        limit: number of pictures of each data set; 0: all.
    """

    protocol_file: str
    protocol: str
    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    random_weights: bool = False
    limit: int = 0

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
        )
        return file, cells


def write_request(root: Path, request: Request) -> None:
    """Keep a request as `<protocol>.json` in the folder of a benchmark."""
    text = json.dumps(asdict(request), indent=1)
    write_text_atomic(root / f"{request.protocol}.json", f"{text}\n")


def read_request(root: Path, protocol: str | None = None) -> Request:
    """The request that was kept last for a protocol.

    Args:
        root: folder of the benchmark.
        protocol: name; None: the only one that is there.

    Raises:
        ConfigError: there is none, several and no name, or the file is damaged.
    """
    names = sorted(path.stem for path in root.glob("*.json"))
    if protocol is None and len(names) != 1:
        what = f"has {len(names)} protocols ({', '.join(names)})" if names else "has no benchmark"
        raise ConfigError(f"{root} {what}; name one with --protocol, or run tools/benchmark.py")
    name = protocol or names[0]
    path = root / f"{name}.json"
    if name not in names:
        raise ConfigError(f"{path} does not exist; run tools/benchmark.py --protocol {name} first")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        lists = {key: _names(found[key]) for key in ("methods", "datasets")}
        return Request(**{**found, **lists})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is damaged ({error}); run tools/benchmark.py again") from error


def _names(value: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError(f"{value!r} is no list of names")
    return tuple(value)
