"""The page over HTTP, without a browser: two users, every kind of wrong file, nothing left over."""

import http.server
import json
import re
import socket
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from detecture import TexturePredictor
from detecture.errors import DetectureError

REPO = Path(__file__).parents[2]
PHOTOS = REPO / "datasets/samples/photos"
CLUSTERS = REPO / "configs/baselines/texture_clusters.yaml"


@pytest.fixture(scope="module")
def connect(demo, tmp_path_factory):
    """Function that makes another user."""
    from gradio_client import Client

    clients = []

    def connect():
        downloads = tmp_path_factory.mktemp("downloads")
        client = Client(demo.url, verbose=False, download_files=str(downloads))
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def client(connect):
    """One user for all tests that need no more."""
    return connect()


def ask(client, path, regions="automatic"):
    """(view, message, files) that the page gets."""
    from gradio_client import handle_file

    image = None if path is None else handle_file(str(path))
    view, message, *files = client.predict(image, regions, api_name="/segment")
    values = [file["value"] for file in files]
    return view, message, values


def test_a_image_and_its_files(client, tmp_path):
    view, message, files = ask(client, PHOTOS / "coffee.jpg", "3")
    assert "<b>3 regions</b> in coffee.jpg, 448 x 299 pixels: read and encoded in" in message
    assert view.count("<li ") == 3
    expected = TexturePredictor.from_config(CLUSTERS)(PHOTOS / "coffee.jpg", count=3)
    paths = expected.save(tmp_path)
    for path, name in zip(files, ("labels", "json", "overlay"), strict=True):
        mine, other = Path(path).read_bytes(), paths[name].read_bytes()
        if name == "json":
            mine, other = json.loads(mine), json.loads(other)
            assert mine.pop("name") == "coffee.jpg"
            other.pop("name")
        assert mine == other, name


def test_a_number_of_regions_that_is_left_empty_is_the_methods_choice(client):
    empty, automatic = (ask(client, PHOTOS / "coffee.jpg", n) for n in (None, "automatic"))
    assert empty[0] == automatic[0] and "regions</b> in coffee.jpg" in empty[1]


def test_what_is_said_of_how_an_image_was_read_is_in_the_page(client, tmp_path):
    levels = np.asarray(Image.open(PHOTOS / "coffee.jpg").convert("L")).astype(np.uint16) * 16
    Image.fromarray(levels).save(tmp_path / "dim.png")
    for _ in range(2):  # also where it is kept from before
        _, message, _ = ask(client, tmp_path / "dim.png", "2")
        assert "<br>dim.png: its values, from" in message and "stretched" in message


def test_another_count_keeps_the_encoding(client):
    automatic = ask(client, PHOTOS / "chelsea.jpg")
    again = ask(client, PHOTOS / "chelsea.jpg", "5")
    assert "encoded in" in automatic[1]
    assert "kept from before" in again[1] and "<b>5 regions</b>" in again[1]


def test_two_users_at_once(connect):
    users = {"china.jpg": "2", "flower.jpg": "4"}
    clients = {name: connect() for name in users}
    answers = {name: [] for name in users}

    def work(name):
        for count in (users[name], "1", users[name]):
            answers[name].append((count, ask(clients[name], PHOTOS / name, count)))

    threads = [threading.Thread(target=work, args=(name,)) for name in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, given in answers.items():
        assert len(given) == 3
        for number, (count, (_, message, files)) in enumerate(given):
            assert f"<b>{count} region" in message and f" in {name}," in message
            assert ("kept from before" in message) == (number > 0)
            assert json.loads(Path(files[1]).read_text())["num_regions"] == int(count)


def broken_jpeg(folder):
    path = folder / "broken.jpg"
    path.write_bytes((PHOTOS / "china.jpg").read_bytes()[:9000])
    return path


def empty_file(folder):
    path = folder / "empty.png"
    path.write_bytes(b"")
    return path


def too_many_pixels(folder):
    path = folder / "big.png"
    Image.fromarray(np.zeros((1000, 600), np.uint8)).save(path)
    return path


def bomb(folder):
    """A small file of a 40-megapixel image."""
    path = folder / "bomb.png"
    Image.fromarray(np.zeros((5000, 8000), np.uint8)).save(path)
    return path


def text_file(folder):
    path = folder / "notes.txt"
    path.write_text("no image")
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (broken_jpeg, "broken.jpg: cannot be decoded"),
        (empty_file, "empty.png: is empty"),
        (too_many_pixels, "big.png has 600 x 1000 = 0.6 million pixels; this page takes 0.5"),
        (bomb, "bomb.png has 8000 x 5000 = 40.0 million pixels"),
        (text_file, "notes.txt: is no image"),
        (lambda folder: None, "no image yet"),
    ],
)
def test_wrong_files_become_messages_and_the_server_goes_on(client, make, words, tmp_path):
    ask(client, PHOTOS / "coffee.jpg")
    view, message, files = ask(client, make(tmp_path))
    assert 'role="alert"' in message and words in message
    assert view == "" and files == [None, None, None], "nothing of the image before is left"
    assert "Traceback" not in message and "/tmp" not in message
    assert "regions</b>" in ask(client, PHOTOS / "coffee.jpg")[1]


def test_a_defect_of_the_method_becomes_a_message(demo, client, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("out of memory, at secret place")

    with monkeypatch.context() as patch:
        patch.setattr(demo.service.predictor.model, "cluster", fail)
        message = ask(client, PHOTOS / "coffee.jpg")[1]
    assert "something went wrong on the server" in message and "secret" not in message
    assert "secret place" in caplog.text
    assert "regions</b>" in ask(client, PHOTOS / "coffee.jpg")[1]


def test_uploads_are_limited_in_bytes(demo):
    def upload(size):
        content = {"files": ("big.jpg", b"\xff" * size)}
        return httpx.post(f"{demo.url}gradio_api/upload", files=content)

    assert upload(900_000).status_code == 200
    refused = upload(1_100_000)
    assert refused.status_code == 413
    assert "exceed" in refused.text.lower()


def ask_raw(demo, image):
    """What the server streams back to a request that is written by hand."""
    path = f"{demo.url}gradio_api/call/segment"
    asked = httpx.post(path, json={"data": [image, "automatic"]}).json()["event_id"]
    return httpx.get(f"{path}/{asked}", timeout=30).text


def test_nothing_is_fetched_for_a_request(demo):
    """A request may name an address in place of an uploaded file: the server must not go there."""
    contacted = []

    class Notes(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            contacted.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Notes) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{other.server_port}/x.png"
        said = ask_raw(demo, {"path": address, "meta": {"_type": "gradio.FileData"}})
        other.shutdown()
    assert "event: error" in said and "uploaded files, not addresses" in said
    assert not contacted


def test_files_of_the_machine_are_not_given_out(demo):
    secret = Path(__file__).resolve()
    assert httpx.get(f"{demo.url}gradio_api/file={secret}").status_code in (403, 404)
    image = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    assert "event: error" in ask_raw(demo, image)


def test_the_page_loads_from_this_server_alone(demo):
    page = httpx.get(demo.url)
    assert "default-src 'self'" in page.headers["content-security-policy"]
    loaded = re.findall(r'(?:src|href)="(https?:[^"]+)"', page.text)
    assert not loaded
    config = httpx.get(f"{demo.url}config").json()
    assert config["analytics_enabled"] is False
    assert not config.get("is_space")


def test_it_listens_on_this_machine_alone(demo):
    port = int(demo.url.rstrip("/").rsplit(":", 1)[1])
    listening = [
        connection.laddr
        for connection in psutil.Process().net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    ]
    assert [address.ip for address in listening] == ["127.0.0.1"]


def test_a_user_who_leaves_is_forgotten(demo, connect):
    client = connect()
    ask(client, PHOTOS / "coffee.jpg")
    user = client.session_hash
    assert user in demo.service.users
    client.close()
    deadline = time.monotonic() + 20
    while user in demo.service.users and time.monotonic() < deadline:
        time.sleep(0.1)
    assert user not in demo.service.users


def test_nothing_is_left_over(tmp_path, monkeypatch, demo):
    from web.conftest import free_port

    from detecture.web.server import WebDemo

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    port, looked_up, look_up = free_port(), [], socket.getaddrinfo

    def note(host, *arguments, **options):
        looked_up.append(host)
        return look_up(host, *arguments, **options)

    monkeypatch.setattr("socket.getaddrinfo", note)
    other = WebDemo(demo.service.predictor, port=port, examples=[PHOTOS / "coffee.jpg"])
    assert list(tmp_path.glob("detecture_web_*"))
    with pytest.raises(DetectureError, match=f"cannot listen on 127.0.0.1:{port}.*--port"):
        WebDemo(demo.service.predictor, port=port)
    other.close()
    assert {str(host) for host in looked_up} <= {"127.0.0.1", "localhost"}, "asked of others"
    assert not list(tmp_path.glob("detecture_web_*"))
    assert not list((Path(__file__).parents[2] / "detecture/web").glob("*.pyi"))
