"""Describers that ask an endpoint, against a server on this machine that misbehaves."""

import base64
import io
import re

import numpy as np
import pytest
from miner.endpoints import Endpoint, answer_of, cut_off, fails, serving, stalls
from miner.scenes import LOOK, described, task
from PIL import Image

from detecture.errors import MinerError
from detecture.miner.describe import (
    DescribeRunner,
    DescribeSettings,
    DescribeStopped,
    build_describer,
    running,
)
from detecture.miner.describe.calls import endpoint_name, jpeg_text, retry_after
from detecture.miner.describe.costs import counted

NEEDED = 'pip install -e ".[miner-api]"'
KEY = "a-key-of-the-tests"


@pytest.fixture(params=["openai", "anthropic"])
def describer_name(request, monkeypatch):
    pytest.importorskip(request.param, reason=f"needs {request.param}: {NEEDED}")
    pytest.importorskip("pydantic", reason=f"needs pydantic: {NEEDED}")
    monkeypatch.setenv(f"{request.param.upper()}_API_KEY", KEY)
    return request.param


@pytest.fixture
def openai_only(monkeypatch):
    pytest.importorskip("openai", reason=f"needs openai: {NEEDED}")
    pytest.importorskip("pydantic", reason=f"needs pydantic: {NEEDED}")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def settings_for(name, url="http://localhost:1", **more):
    path = "/v1" if name == "openai" else ""
    options = {
        "describer": name,
        "send_images": True,
        "model": "a-model",
        "base_url": url + path,
        "timeout": 5.0,
        "backoff": 0.001,
        "retries": 3,
        "concurrency": 1,
    }
    return DescribeSettings(**{**options, **more})


def run(name, endpoint, tasks=None, look=LOOK, **more):
    """Results by id, and the runner."""
    with serving(endpoint) as url:
        settings = settings_for(name, url, **more)
        runner = DescribeRunner(build_describer(settings, look=look), settings)
        return dict(described(runner, [task()] if tasks is None else tasks)), runner


def texts_sent(body):
    """All that a request says in words."""
    content = body["messages"][-1]["content"]
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def images_sent(body):
    """The images of a request, decoded."""
    found = []
    for part in body["messages"][-1]["content"]:
        if part["type"] == "image_url":
            head, _, data = part["image_url"]["url"].partition(",")
            assert head == "data:image/jpeg;base64"
            found.append(data)
        elif part["type"] == "image":
            assert part["source"]["media_type"] == "image/jpeg"
            found.append(part["source"]["data"])
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


# ---- what is sent, and what comes of it ------------------------------------------------------


def test_an_image_is_described(describer_name):
    endpoint = Endpoint(answer_of(2))
    results, runner = run(describer_name, endpoint, price_in=1.0, price_out=5.0)
    result = results["one"]
    assert result["status"] == "ok" and result["describer"] == describer_name
    assert result["offline"] is False and result["model"] == "a-model"
    assert [text[:21] for text in result["descriptions"]] == [
        "Texture of rough grey",
        "Texture of short gree",
    ]
    assert result["attempts"] == 1 and result["tokens"] == [100, 20]
    assert result["cost"] == pytest.approx(200e-6)
    assert runner.limit.spent == pytest.approx(200e-6)
    assert "reason" not in result


def test_the_image_and_its_overlay_are_sent(describer_name):
    endpoint = Endpoint(answer_of(2))
    run(describer_name, endpoint)
    (body,) = endpoint.bodies
    image, overlay = images_sent(body)
    assert image.size == overlay.size == (64, 48)
    assert np.abs(np.asarray(image).astype(int) - task().image).mean() < 12
    due = LOOK.render(task().image, task().index_mask)
    assert np.abs(np.asarray(overlay).astype(int) - due).mean() < 12
    assert 'texture_b (green): "grass"' in texts_sent(body)
    assert body["model"] == "a-model"
    assert not image.getexif() and not image.info.get("comment")


def test_large_images_are_shrunk_and_no_overlay_is_sent_where_none_is_wanted(describer_name):
    endpoint = Endpoint(answer_of(2))
    run(describer_name, endpoint, [task(height=200, width=400)], overlay=False, max_side=100)
    (image,) = images_sent(endpoint.bodies[0])
    assert image.size == (100, 50)
    assert "(red)" not in texts_sent(endpoint.bodies[0])


def test_the_key_is_sent_and_nothing_else_of_the_environment(describer_name, monkeypatch):
    # Whatever else the clients would read must not lead images elsewhere.
    monkeypatch.setenv(f"{describer_name.upper()}_BASE_URL", "http://localhost:1/elsewhere")
    endpoint = Endpoint(answer_of(2))
    run(describer_name, endpoint)
    (headers,) = endpoint.headers
    sent = headers.get("authorization", "") + headers.get("x-api-key", "")
    assert sent.removeprefix("Bearer ") == KEY


def test_another_variable_can_hold_the_key(describer_name, monkeypatch):
    monkeypatch.setenv("MY_KEY", "another")
    endpoint = Endpoint(answer_of(2))
    run(describer_name, endpoint, key_variable="MY_KEY")
    headers = endpoint.headers[0]
    assert "another" in headers.get("authorization", "") + headers.get("x-api-key", "")


def test_the_default_model_of_anthropic_is_the_published_one(monkeypatch):
    pytest.importorskip("anthropic", reason=f"needs anthropic: {NEEDED}")
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    settings = DescribeSettings(describer="anthropic", send_images=True)
    describer = build_describer(settings)
    assert describer.model == "claude-haiku-4-5-20251001"
    assert describer.url == "https://api.anthropic.com"


# ---- what has to be said before ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "url"),
    [("openai", "https://api.openai.com/v1"), ("anthropic", "https://api.anthropic.com")],
)
def test_no_image_is_sent_before_the_user_has_said_so(name, url, monkeypatch):
    monkeypatch.setenv(f"{name.upper()}_API_KEY", KEY)
    with pytest.raises(MinerError) as refused:
        build_describer(DescribeSettings(describer=name, model="m"))
    assert f"sends images to {url}" in str(refused.value)
    assert "MINER.DESCRIBE.SEND_IMAGES True" in str(refused.value)


def test_consent_is_asked_for_local_endpoints_too_and_shows_no_password():
    url = "http://me:secret@localhost:8000/v1?key=secret"
    with pytest.raises(MinerError, match="http://localhost:8000/v1") as refused:
        build_describer(DescribeSettings(describer="openai", model="m", base_url=url))
    assert "secret" not in str(refused.value)
    assert endpoint_name(url) == "http://localhost:8000/v1"


def test_images_do_not_follow_a_redirect(describer_name):
    other = Endpoint(answer_of(2))
    with serving(other) as elsewhere:

        def leads_away(endpoint, request):
            return 307, {"location": elsewhere + endpoint.paths[-1]}, "{}"

        endpoint = Endpoint(leads_away)
        with pytest.raises(DescribeStopped, match=r"elsewhere: .* MINER\.DESCRIBE\.BASE_URL"):
            run(describer_name, endpoint)
    assert len(endpoint.bodies) == 1 and not other.bodies


def test_a_missing_key_is_named(describer_name, monkeypatch):
    monkeypatch.delenv(f"{describer_name.upper()}_API_KEY")
    with pytest.raises(MinerError, match=f"variable {describer_name.upper()}_API_KEY with the key"):
        build_describer(settings_for(describer_name))
    with pytest.raises(MinerError, match="variable MY_KEY with the key"):
        build_describer(settings_for(describer_name, key_variable="MY_KEY"))
    assert build_describer(settings_for(describer_name, key_variable="none")).remote


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "https://", "http://[1"])
def test_what_is_no_address_is_refused(url):
    settings = DescribeSettings(describer="openai", model="m", base_url=url, send_images=True)
    with pytest.raises(MinerError, match=r"MINER\.DESCRIBE\.BASE_URL"):
        build_describer(settings)


def test_openai_needs_a_model():
    with pytest.raises(MinerError, match=r"MINER\.DESCRIBE\.MODEL is empty"):
        build_describer(DescribeSettings(describer="openai", send_images=True))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    monkeypatch.setitem(__import__("sys").modules, "anthropic", None)
    for name in ("openai", "anthropic"):
        with pytest.raises(MinerError, match="miner-api"):
            build_describer(settings_for(name))


# ---- failures that pass ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 529, 408, 409])
def test_a_server_that_fails_is_asked_again(describer_name, status):
    endpoint = Endpoint(fails(status), fails(status), answer_of(2))
    results, _ = run(describer_name, endpoint)
    assert results["one"]["status"] == "ok" and results["one"]["attempts"] == 1
    assert len(endpoint.bodies) == 3


def test_a_server_that_goes_on_failing_fails_the_image(describer_name):
    endpoint = Endpoint(fails(500))
    results, _ = run(describer_name, endpoint, retries=2)
    assert results["one"]["status"] == "failed" and results["one"]["descriptions"] == []
    assert "answered 500" in results["one"]["reason"]
    assert "tried 3 times" in results["one"]["reason"]
    assert len(endpoint.bodies) == 3


def test_a_server_that_stalls_is_left(describer_name):
    endpoint = Endpoint(stalls, answer_of(2))
    results, runner = run(
        describer_name, endpoint, timeout=0.3, price_in=1.0, price_out=1.0, max_cost=9.0
    )
    assert results["one"]["status"] == "ok" and len(endpoint.bodies) == 2
    # It may be charged for: the limit counts it, the image's own figure only what was counted.
    assert runner.limit.spent > results["one"]["cost"] == pytest.approx(120e-6)


def test_a_server_that_is_not_there_fails_the_image(describer_name):
    settings = settings_for(describer_name, "http://127.0.0.1:9", retries=1)
    runner = DescribeRunner(build_describer(settings), settings)
    (result,) = dict(described(runner, [task()])).values()
    assert result["status"] == "failed" and "cannot be reached" in result["reason"]


def test_retry_after_is_kept_by_all(describer_name):
    endpoint = Endpoint(fails(429, retry_after=0.4), answer_of(2))
    tasks = [task(f"image{i}") for i in range(3)]
    results, _ = run(describer_name, endpoint, tasks)
    assert {result["status"] for result in results.values()} == {"ok"}
    assert endpoint.times[1] - endpoint.times[0] >= 0.4
    assert len(endpoint.bodies) == 4


def test_who_asks_to_wait_for_an_hour_is_not_waited_for(describer_name):
    endpoint = Endpoint(fails(429, retry_after=3600))
    results, _ = run(describer_name, endpoint)
    assert "asks to wait 3600 s" in results["one"]["reason"]
    assert len(endpoint.bodies) == 1


def test_times_to_wait_are_read():
    assert retry_after({"Retry-After": "2"}) == 2.0
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, now=784111767.0) == 10.0
    assert retry_after({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}) == 0.0
    for odd in ("soon", "-1", "inf", "nan", ""):
        assert retry_after({"retry-after": odd}) is None
    assert retry_after({}) is None


def test_what_is_not_of_the_protocol_is_asked_for_again(describer_name):
    odd = ["<html>busy</html>", "[]", "{}", '{"choices": []}', "{"]
    for content in odd:
        endpoint = Endpoint(lambda e, r, content=content: (200, {}, content), answer_of(2))
        results, _ = run(describer_name, endpoint)
        assert results["one"]["status"] == "ok", content
        assert len(endpoint.bodies) == 2
    endpoint = Endpoint(lambda e, r: (200, {"content-type": "text/html"}, "<html>"), answer_of(2))
    results, _ = run(describer_name, endpoint)
    assert results["one"]["status"] == "ok"


# ---- answers that cannot be used ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("I cannot say.", "holds no JSON object"),
        (answer_of(1), "lacks texture_b"),
        (answer_of(3), "texture_c too"),
        (answer_of(2, ["Texture of wall"] * 2), "has 1 words"),
        (answer_of(2, ["Texture of grey stone with dark joints left"] * 2), "says the same as"),
        ("", "is empty"),
        (cut_off, "is cut off"),
    ],
)
def test_a_second_attempt_is_told_why(describer_name, bad, reason):
    endpoint = Endpoint(bad, answer_of(2))
    results, _ = run(describer_name, endpoint)
    result = results["one"]
    assert result["status"] == "ok" and result["attempts"] == 2
    assert result["tokens"] == [200, 40]
    first, second = map(texts_sent, endpoint.bodies)
    assert "could not be used" not in first
    assert re.search(f"could not be used: .*{reason}", second)


def test_after_the_second_attempt_the_image_has_failed(describer_name):
    endpoint = Endpoint(answer_of(1))
    results, _ = run(describer_name, endpoint, price_in=1.0)
    result = results["one"]
    assert result["status"] == "failed" and result["attempts"] == 2
    assert result["reason"] == "the answer lacks texture_b"
    assert result["tokens"] == [200, 40] and result["cost"] == pytest.approx(200e-6)


def test_other_numbers_of_words_bring_a_warning(describer_name):
    texts = ["Texture of grey stone wall with dark joints", "Texture of green grass on the right"]
    results, _ = run(describer_name, Endpoint(answer_of(2, texts)))
    assert results["one"]["status"] == "ok"
    assert "texture_a has 6 words, 10 to 15 were asked for" in results["one"]["warnings"][0]


# ---- failures for good -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (fails(401), "check the key"),
        (fails(403), "check the key"),
        (fails(404), r"MINER\.DESCRIBE\.MODEL"),
        (fails(429, "insufficient_quota"), "check the key and the account"),
        (fails(400, "Your credit balance is too low"), "check the key and the account"),
    ],
)
def test_what_would_fail_for_all_stops_the_run(describer_name, behaviour, words):
    endpoint = Endpoint(behaviour)
    drawn = []

    def tasks():
        for i in range(50):
            drawn.append(i)
            yield task(f"image{i}")

    with pytest.raises(DescribeStopped, match=words) as stopped:
        run(describer_name, endpoint, tasks())
    assert len(drawn) == 1
    assert KEY not in str(stopped.value)


def test_many_failures_in_a_row_stop_the_run(describer_name, monkeypatch):
    monkeypatch.setattr(running, "MOST_FAILURES_IN_A_ROW", 3)
    endpoint = Endpoint(answer_of(2), fails(500))
    results = {}
    with serving(endpoint) as url:
        settings = settings_for(describer_name, url, retries=0)
        runner = DescribeRunner(build_describer(settings), settings)
        with pytest.raises(DescribeStopped, match="3 images in a row got no answer"):
            results.update(described(runner, (task(f"image{i}") for i in range(50))))
            raise AssertionError
    statuses = [result["status"] for result in results.values()]
    assert statuses == ["ok", "failed", "failed", "failed"]
    assert len(endpoint.bodies) == 4


@pytest.mark.parametrize("count", [-5, 1e308, float("nan"), "abc", [1], True, 10**9])
def test_a_count_of_tokens_that_is_none_is_not_believed(count):
    assert counted(count, 700) == 700


def test_an_endpoint_that_has_never_answered_is_given_up_soon(describer_name):
    settings = settings_for(describer_name, "http://127.0.0.1:9", retries=0)
    runner = DescribeRunner(build_describer(settings), settings)
    results = {}
    with pytest.raises(DescribeStopped, match=r"3 images in a row .* cannot be reached"):
        results.update(described(runner, (task(f"image{i}") for i in range(50))))
    assert len(results) == 3


def test_an_image_that_is_refused_fails_alone(describer_name):
    known = answer_of(2)
    endpoint = Endpoint(known, fails(400, "image too odd"), known)
    results, _ = run(describer_name, endpoint, [task(f"image{i}") for i in range(3)])
    assert [results[f"image{i}"]["status"] for i in range(3)] == ["ok", "failed", "ok"]
    assert "image too odd" in results["image1"]["reason"]


# ---- forms of OpenAI's protocol ----------------------------------------------------------------


def test_a_schema_is_asked_for_where_it_is_known(openai_only):
    endpoint = Endpoint(answer_of(2))
    run("openai", endpoint)
    (body,) = endpoint.bodies
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["required"] == ["texture_a", "texture_b"]
    assert body["max_tokens"] == 1024


@pytest.mark.parametrize(
    "refused", [("response_format",), ("max_tokens",), ("response_format", "max_tokens")]
)
def test_an_endpoint_that_knows_less_is_asked_in_another_form_and_that_is_kept(
    openai_only, refused
):
    def picky(endpoint, request):
        wrong = [name for name in refused if name in request]
        return fails(400, f"unknown {wrong}")(endpoint, request) if wrong else answer_of(2)

    endpoint = Endpoint(picky)
    results, _ = run("openai", endpoint, [task(f"image{i}") for i in range(3)])
    assert {result["status"] for result in results.values()} == {"ok"}
    # A schema, then any JSON, then none: each form is tried once, and not for each image.
    steps = {"response_format": 2, "max_tokens": 1}
    assert len(endpoint.bodies) == 3 + sum(steps[name] for name in refused)
    good = [body for body in endpoint.bodies if not any(name in body for name in refused)]
    assert len(good) == 3 and len(endpoint.bodies) <= 3 + 3
    # All of the last three requests are those that succeeded: nothing is tried a second time.
    assert endpoint.bodies[-3:] == good


def test_an_endpoint_that_refuses_every_form_fails_the_image(openai_only):
    endpoint = Endpoint(fails(400, "no images here"))
    results, _ = run("openai", endpoint)
    assert "no images here" in results["one"]["reason"] and len(endpoint.bodies) == 4


def test_tokens_that_are_not_counted_are_estimated(openai_only):
    def silent(endpoint, request):
        status, headers, body = endpoint.said("/chat/completions", answer_of(2))
        return status, headers, re.sub(r', "usage": \{.*?\}', "", body)

    results, _ = run("openai", Endpoint(silent))
    read, written = results["one"]["tokens"]
    assert 300 < read < 2000 and 30 < written < 200


def test_a_model_that_refuses_says_so(openai_only):
    def refuses(endpoint, request):
        status, headers, body = endpoint.said("/chat/completions", "")
        return status, headers, body.replace('"content": ""', '"content": null, "refusal": "No."')

    results, _ = run("openai", Endpoint(refuses))
    assert results["one"]["reason"] == "the model refuses: No."


def test_images_become_jpeg_alone():
    data = base64.b64decode(jpeg_text(task().image, 90))
    assert data[:3] == b"\xff\xd8\xff"
