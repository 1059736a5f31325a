"""Whose files are whose, how large a request may be, the headers, a slow start."""

import re
import time
from pathlib import Path

import httpx
import pytest

from detecture.web.guard import COOKIE, Places, secret_of

PHOTOS = Path(__file__).parents[2] / "datasets/samples/photos"
KIB = 1024
SCRIPT = b"<script>alert(1)</script>"


@pytest.fixture
def user(demo):
    """Function that makes a user with cookies, as a browser is one."""
    users = []

    def user(opens_page=True):
        client = httpx.Client(base_url=demo.url, timeout=30)
        users.append(client)
        if opens_page:
            client.get("")
        return client

    yield user
    for client in users:
        client.close()


def upload(client, content=b"\xff" * KIB, name="leaf.jpg"):
    (path,) = client.post("gradio_api/upload", files={"files": (name, content)}).json()
    return path


def fetch(client, path, **headers):
    return client.get(f"gradio_api/file={path}", headers=headers)


def ask(client, path):
    """What the page says to a user about a file that lies on the server."""
    image = {"path": path, "meta": {"_type": "gradio.FileData"}}
    asked = client.post("gradio_api/call/segment", json={"data": [image, "2"]}).json()
    return client.get(f"gradio_api/call/segment/{asked['event_id']}").text


def results(said):
    return re.findall(r'"path": "([^"]+)"', said)


def left(demo):
    """Files in the folder of uploads."""
    return sorted(p for p in (demo.service.folder.parent / "uploads").rglob("*") if p.is_file())


def test_a_page_gives_a_cookie_that_scripts_cannot_read(user):
    first = user().get("")
    assert "set-cookie" not in first.headers, "known already"
    cookie = user(opens_page=False).get("").headers["set-cookie"]
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{43}}; Path=/; HttpOnly; SameSite=Lax", cookie)


def test_an_upload_and_its_results_are_fetched_by_who_uploaded_alone(user):
    mine, other, nobody = user(), user(), user(opens_page=False)
    photo = (PHOTOS / "coffee.jpg").read_bytes()
    path = upload(mine, photo, "coffee.jpg")
    assert fetch(mine, path).content == photo
    said = ask(mine, path)
    assert "2 regions" in said and len(results(said)) == 3
    for each in (path, *results(said)):
        assert fetch(mine, each).status_code == 200
        for client in (other, nobody):
            assert fetch(client, each).status_code == 403
            assert fetch(client, each.replace("/uploads/", "/uploads/../uploads/")).is_error
            assert client.head(f"gradio_api/file={each}").status_code == 403
            assert client.get(f"gradio_api/file/{each}").is_error
    assert "not yours" in ask(other, path) and "not yours" in ask(nobody, path)
    assert upload(mine, photo, "coffee.jpg") == path, "so that its encoding is kept"
    assert upload(other, photo, "coffee.jpg") != path


def test_an_upload_without_a_cookie_has_a_path_that_nobody_guesses(user):
    first, second = (upload(user(opens_page=False)) for _ in range(2))
    assert first != second, "equal bytes under an equal name"
    assert fetch(user(opens_page=False), first).status_code == 200
    for parent in list(Path(first).parents)[:4]:
        assert fetch(user(), parent).status_code == 403, "nothing is listed"


@pytest.mark.parametrize("cookie", ["", "x", "../../etc", "shared", "a" * 43 + "\u00e4", '"'])
def test_a_cookie_that_this_server_never_made_names_no_folder(cookie):
    headers = [(b"cookie", f"other=1; {COOKIE}={cookie}".encode())]
    assert secret_of(headers) is None
    assert Places.owner(cookie) == "shared"


def test_paths_that_are_not_of_the_server(tmp_path):
    example = tmp_path / "examples/a.jpg"
    places = Places(tmp_path / "root", [example])
    root = str(places.root)
    for each in ("", "/uploads", "/uploads/me", "/uploads/me/a", "/x/me/a/b", "/deep_links/a/b"):
        assert not places.may_read("me", root + each), each
    assert not places.may_read("me", f"{root}/uploads/me/../you/a/b")
    assert not places.may_read("me", f"{root}/uploads/me/a\0/b")
    assert not places.holds(f"{root}/../x.jpg") and not places.holds(str(tmp_path / "b.jpg"))
    assert places.may_read("me", f"{root}/uploads/me/a/b.jpg")
    assert places.may_read("me", str(example)) and places.holds(str(example))


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/x", "HTTPS://example.org/x", "ftp://example.org/x", "file:///x"]
)
def test_no_address_is_fetched_in_place_of_a_file(user, address):
    refused = fetch(user(), address)
    assert refused.status_code == 403 and "not there, or not yours" in refused.text


def test_the_limit_is_of_the_whole_upload(demo, user):
    half = b"\xff" * (600 * KIB)
    too_much = [
        {"files": [("files", (f"{n}.jpg", half)) for n in range(2)]},
        {"files": [("other", ("a.jpg", half)), ("files", ("b.jpg", half))]},
        {"files": [("files", ("a.jpg", half))], "data": {"field": "x" * 600 * KIB}},
    ]
    before = left(demo)
    for request in too_much:
        refused = user().post("gradio_api/upload", **request)
        assert refused.status_code == 413
        assert "exceeds the maximum allowed size of 1,114,112 bytes" in refused.text
    assert left(demo) == before
    assert upload(user(), half)


def in_pieces(size, boundary="b"):
    """An upload whose length is not said before."""
    head = 'Content-Disposition: form-data; name="files"; filename="a.jpg"'
    yield f"--{boundary}\r\n{head}\r\n\r\n".encode()
    for _ in range(size // KIB):
        yield b"\xff" * KIB
    yield f"\r\n--{boundary}--\r\n".encode()


def test_the_limit_holds_where_no_length_is_said(demo, user):
    before = left(demo)
    kind = {"content-type": "multipart/form-data; boundary=b"}
    refused = user().post("gradio_api/upload", content=in_pieces(5000 * KIB), headers=kind)
    assert refused.status_code == 413
    assert left(demo) == before, "no part of it stays"
    taken = user().post("gradio_api/upload", content=in_pieces(500 * KIB), headers=kind)
    assert taken.status_code == 200 and len(left(demo)) == len(before) + 1


def test_an_upload_that_breaks_off_leaves_nothing(demo, user):
    before = left(demo)

    def broken():
        yield from list(in_pieces(100 * KIB))[:-5]
        raise ConnectionResetError

    kind = {"content-type": "multipart/form-data; boundary=b"}
    with pytest.raises(ConnectionResetError):
        user().post("gradio_api/upload", content=broken(), headers=kind)
    deadline = time.monotonic() + 10
    while left(demo) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left(demo) == before


def test_other_requests_are_limited_too(user):
    question = {"data": ["x" * 2_000_000, "2"]}
    for path in ("queue/join", "call/segment", "run/segment", "component_server", "cancel"):
        assert user().post(f"gradio_api/{path}", json=question).status_code == 413, path


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.xhtml", "x.js", "x.jpg", "x.png", "x"])
def test_no_upload_is_shown_as_a_page(user, name):
    client = user()
    path = upload(client, SCRIPT, name)
    for answer in (fetch(client, path), fetch(client, path, Range="bytes=0-5")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; sandbox;")
        kind = answer.headers["content-type"]
        assert kind in ("application/octet-stream", "image/jpeg", "image/png")
        if kind == "application/octet-stream":
            assert answer.headers["content-disposition"].startswith("attachment")


def test_an_answer_has_nothing_of_the_headers_of_the_request(user):
    client = user()
    path = upload(client)
    answer = fetch(client, path, **{"Range": "bytes=0-5", "X-Odd": "1", "Set-Cookie": "a=b"})
    assert not {"x-odd", "set-cookie", "cookie", "user-agent"} & set(answer.headers)


@pytest.mark.parametrize("path", ["", "config", "nothing", "gradio_api/file=/etc/passwd"])
def test_every_answer_has_the_headers(user, path):
    answer = user().get(path)
    for name, value in (
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "SAMEORIGIN"),
        ("referrer-policy", "no-referrer"),
    ):
        assert answer.headers.get_list(name) == [value]
    (policy,) = answer.headers.get_list("content-security-policy")
    assert "frame-ancestors 'self'" in policy


@pytest.mark.parametrize("fault", ["slow", "refused", "proxy"])
def test_it_starts_where_it_cannot_reach_itself(demo, monkeypatch, fault, tmp_path):
    """Under load, or with a proxy in the environment, a server that asks itself gives up."""
    from web.conftest import free_port

    from detecture.web.server import WebDemo

    def slow(*arguments, **options):
        raise httpx.ReadTimeout("the machine is busy")

    def refused(*arguments, **options):
        raise httpx.ConnectError("localhost is not to be reached")

    port = free_port()
    with monkeypatch.context() as patch:
        if fault == "proxy":
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                patch.setenv(name, "http://127.0.0.1:9")
            patch.delenv("NO_PROXY", raising=False)
            patch.delenv("no_proxy", raising=False)
        else:
            # The functions of httpx that gradio's own start asks itself with.
            for name in ("get", "head", "request"):
                patch.setattr(httpx, name, slow if fault == "slow" else refused)
        started = WebDemo(demo.service.predictor, port=port)
    with started:
        assert httpx.get(started.url, trust_env=False).status_code == 200


def test_a_busy_machine_is_waited_for(demo, monkeypatch):
    """The thread of the server may get its turn late."""
    import uvicorn
    from web.conftest import free_port

    from detecture.web.server import WebDemo

    run = uvicorn.Server.run

    def late(self, sockets=None):
        time.sleep(6)
        return run(self, sockets)

    monkeypatch.setattr(uvicorn.Server, "run", late)
    with WebDemo(demo.service.predictor, port=free_port()) as started:
        assert httpx.get(started.url).status_code == 200


def test_a_server_that_does_not_start_is_said(demo, monkeypatch):
    import uvicorn
    from web.conftest import free_port

    from detecture.errors import DetectureError
    from detecture.web.server import WebDemo

    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets=None: None)
    with pytest.raises(DetectureError, match="did not start"):
        WebDemo(demo.service.predictor, port=free_port())


def test_it_listens_on_an_ipv6_address(demo):
    import socket

    from detecture.web.server import WebDemo

    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6")
    with WebDemo(demo.service.predictor, host="::1", port=port) as started:
        assert started.url == f"http://[::1]:{port}/"
        assert httpx.get(started.url).status_code == 200


def test_examples_outside_the_working_folder_can_be_asked(demo, tmp_path, monkeypatch):
    import shutil

    from web.conftest import free_port

    from detecture.web.server import WebDemo

    example = tmp_path / "elsewhere/coffee.jpg"
    example.parent.mkdir()
    shutil.copy(PHOTOS / "coffee.jpg", example)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    with (
        WebDemo(demo.service.predictor, port=free_port(), examples=[example]) as started,
        httpx.Client(base_url=started.url, timeout=30) as client,
    ):
        config = client.get("config").json()
        (click,) = (
            each["id"]
            for each in config["dependencies"]
            if each["targets"] and each["targets"][0][1] == "click" and not each["queue"]
        )
        session = {"fn_index": click, "session_hash": "example", "data": [0]}
        chosen = client.post("gradio_api/run/predict", json=session).json()["data"][0]
        assert "2 regions" in ask(client, chosen["path"])
