"""What tests of stores share: one server, as fsspec keeps what it has connected to."""

import pytest


@pytest.fixture(scope="session")
def s3_server():
    """Address of a server that speaks S3."""
    pytest.importorskip("s3fs", reason='s3:// needs s3fs: pip install -e ".[store]"')
    server_module = pytest.importorskip("moto.server", reason="the store is tested against moto")
    server = server_module.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def endpoint(s3_server, monkeypatch):
    """The address of the server, which the environment names too, with credentials for it."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_ENDPOINT_URL", s3_server),
        ("FSSPEC_S3_ENDPOINT_URL", s3_server),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    return s3_server
