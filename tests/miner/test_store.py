"""A mine that is kept on an object store: moto's server, and a folder under a file:// address."""

import json
import shutil
import threading
import time

import pytest
from miner_toy import use_toy_stages, write_ade_toy

from detecture.config import make_config
from detecture.errors import MinerError
from detecture.miner import store as store_module
from detecture.miner.running import Mine
from detecture.miner.store import LOCK, Store, reserved

pytest.importorskip("fsspec", reason='a store needs fsspec: pip install -e ".[store]"')


@pytest.fixture(scope="module")
def ade(tmp_path_factory):
    return write_ade_toy(tmp_path_factory.mktemp("ade"), count=10, val=2)


@pytest.fixture(params=["s3", "file"])
def url(request, tmp_path):
    """An empty place for a mine."""
    if request.param == "file":
        return f"file://{tmp_path / 'shared'}"
    address = request.getfixturevalue("endpoint")
    import s3fs

    bucket = f"bucket-{abs(hash(str(tmp_path))) % 10**12}"
    s3fs.S3FileSystem(endpoint_url=address, key="test", secret="test").mkdir(bucket)
    return f"s3://{bucket}/mine"


def mine_of(ade, output, url, *more, **settings):
    overrides = ["MINER.SOURCE.NAME", "ade20k", "MINER.SOURCE.ROOT", str(ade)]
    overrides += ["MINER.RUNNING.STORE", url, "OUTPUT_DIR", str(output)]
    return Mine.of(make_config(None, [*overrides, *more]), **settings)


def content_of(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def kept_in(store):
    names = [name for name in store.names("export") if not name.rpartition("/")[2].startswith(".")]
    return {name.removeprefix("export/"): store.read(name) for name in names}


def test_files_are_created_once(url):
    store = Store(url)
    assert store.read("a/b") is None and store.names("a") == []
    won = []
    threads = [
        threading.Thread(target=lambda n=n: won.append(store.create("a/b", b"%d" % n)))
        for n in range(2)
    ]
    if url.startswith("s3"):  # a folder has no conditional create; S3 has
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == [False, True]
    else:
        assert store.create("a/b", b"0")
    assert not store.create("a/b", b"2")
    store.write("a/b", b"3")
    assert store.read("a/b") == b"3" and store.names("a") == ["a/b"]
    store.remove("a/b")
    store.remove("a/b")
    assert store.names("") == []


def test_a_run_goes_on_elsewhere_and_ends_with_the_same(ade, tmp_path, url, monkeypatch):
    use_toy_stages(monkeypatch)
    more = ["MINER.SELECT.BY", "all"]
    mine_of(ade, tmp_path / "whole", "", *more).run()
    first = mine_of(ade, tmp_path / "one", url, *more, limit=5)
    first.run(["score", "extract"])
    shutil.rmtree(tmp_path / "one")  # that machine is gone
    outcomes = {o.stage: o.done for o in mine_of(ade, tmp_path / "two", url, *more).run()}
    assert outcomes["score"] == outcomes["extract"] == 12 - 5
    assert kept_in(Store(url)) == content_of(tmp_path / "whole/export")
    # A third machine has nothing to do, and can look at all.
    third = mine_of(ade, tmp_path / "three", url, *more)
    assert {outcome.done for outcome in third.run()} == {0}
    assert content_of(tmp_path / "three/export") == content_of(tmp_path / "whole/export")
    assert kept_in(Store(url)) == content_of(tmp_path / "whole/export")
    ids = [
        json.loads(line)["id"]
        for name in Store(url).names("journals/describe")
        for line in (Store(url).read(name) or b"").splitlines()
    ]
    assert len(ids) == len(set(ids)) == 12


def test_what_is_exported_no_longer_leaves_the_store(ade, tmp_path, url, monkeypatch):
    use_toy_stages(monkeypatch)
    mine_of(ade, tmp_path / "one", url, "MINER.SELECT.BY", "all").run()
    picked = tmp_path / "picked.txt"
    picked.write_text("ade20k/ADE_train_00000001\n")
    more = ["MINER.SELECT.BY", "picked", "MINER.SELECT.PICKED", str(picked)]
    mine_of(ade, tmp_path / "two", url, *more).run()
    images = [name for name in Store(url).names("export") if "/images/" in name]
    assert [name.rpartition("/")[2] for name in images] == ["ADE_train_00000001.jpg"]


def test_one_run_at_a_time_wherever_it_is(ade, tmp_path, url, monkeypatch):
    use_toy_stages(monkeypatch)
    store = Store(url)
    with reserved(store), pytest.raises(MinerError, match="another run of the miner writes to it"):
        mine_of(ade, tmp_path / "out", url).run()
    assert store.read(LOCK) is None
    # One that ended without a word, long ago.
    old = {"token": "t", "host": "gone", "process": 1, "time": time.time() - 3600}
    store.write(LOCK, json.dumps(old).encode())
    with reserved(store):
        assert json.loads(store.read(LOCK))["token"] != "t"
    store.write(LOCK, json.dumps(old).encode())
    with pytest.raises(MinerError, match="has taken it over"), reserved(store):
        pass


def test_a_lock_is_renewed_while_a_run_goes_on(url, monkeypatch):
    monkeypatch.setattr(store_module, "_REFRESH", 0.05)
    store = Store(url)

    def time_noted():
        while not (holder := store_module._holder(store)):
            time.sleep(0.01)  # a plain file is empty for a moment while it is written
        return holder["time"]

    with reserved(store):
        first = time_noted()
        time.sleep(0.5)
        assert time_noted() > first


def test_a_store_that_cannot_be_had(ade, tmp_path):
    with pytest.raises(MinerError, match=r"MINER\.RUNNING\.STORE nothing://x"):
        mine_of(ade, tmp_path / "out", "nothing://x").run()
    closed = tmp_path / "closed"
    closed.write_text("a file")
    with pytest.raises(MinerError, match=r"cannot be had .*goes on"):
        mine_of(ade, tmp_path / "out", f"file://{closed}").run()
