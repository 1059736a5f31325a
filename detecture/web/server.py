"""Start and stop the page: where it listens, what it refuses, what it cleans up."""

import os
import socket
import tempfile
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from detecture.engine import SemanticPredictor, TexturePredictor
from detecture.errors import DetectureError
from detecture.web.guard import Guard, Places, UploadFolder
from detecture.web.service import Limits, SegmentationService
from detecture.web.view import asset

_TEMPORARY = "GRADIO_TEMP_DIR"
_GRACE_SECONDS = 2  # for requests that are being answered when the server ends


def require_gradio() -> None:
    """Check that the page can be made at all.

    Raises:
        DetectureError: gradio is not installed; names the command.
    """
    if find_spec("gradio") is None:
        raise DetectureError('the web demo needs gradio: pip install -e ".[web]"')


class WebDemo:
    """A running page; use it in a `with`, or call `close`."""

    def __init__(
        self,
        predictor: TexturePredictor | SemanticPredictor,
        *,
        host: str = "127.0.0.1",
        port: int = 7860,
        examples: Sequence[Path] = (),
        max_megabytes: float = 50.0,
        limits: Limits | None = None,
    ) -> None:
        """Start the server in threads of its own.

        Args:
            predictor: answers the requests, of all users in turn.
            host: address to listen on; 127.0.0.1 can be reached only from this machine.
            port: to listen on.
            examples: images to click on.
            max_megabytes: larger uploads are refused (2^20 bytes each).
            limits: of images and users.

        Raises:
            DetectureError: gradio is missing, or host and port cannot be listened on.
        """
        require_gradio()
        self._temporary = tempfile.TemporaryDirectory(prefix="detecture_web_")
        self._before = os.environ.get(_TEMPORARY)
        # Read when gradio is imported and when the page is made; sends uploads to our own folder.
        os.environ[_TEMPORARY] = str(Path(self._temporary.name).resolve())
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{port}/"
        try:
            # Comes first: what cannot work fails at once, and nobody else gets the port.
            with _listen(host, port) as listening:
                app = self._make(predictor, examples, max_megabytes, limits)
                self._server = _Server(app, listening)
        except BaseException:
            self._clean_up()
            raise

    def _make(
        self,
        predictor: TexturePredictor | SemanticPredictor,
        examples: Sequence[Path],
        max_megabytes: float,
        limits: Limits | None,
    ) -> Guard:
        import gradio
        from fastapi import FastAPI
        from starlette.routing import Mount

        from detecture.web.page import build_page

        places = Places(Path(self._temporary.name), examples)
        max_bytes = round(max_megabytes * 2**20)
        self.service = SegmentationService(predictor, places.results, limits)
        page = build_page(self.service, examples, max_megabytes, places)
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        # Not `page.launch`, which requests the page over the network, through a proxy if the
        # environment names one, and gives up if the answer takes three seconds.
        gradio.mount_gradio_app(
            app,
            page,
            path="",
            root_path=os.environ.get("GRADIO_ROOT_PATH", ""),
            allowed_paths=[str(path) for path in examples],
            show_error=False,
            max_file_size=max_bytes,
            footer_links=[],
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            # The user's own fonts, so that none is loaded.
            theme=gradio.themes.Default(font=("system-ui", "sans-serif"), font_mono=("monospace",)),
            css=asset("view.css"),
            head=f"<script>{asset('view.js')}</script>",
        )
        page.has_launched = True  # until then, gradio takes every path for an upload
        (self._inner,) = (route.app for route in app.routes if isinstance(route, Mount))
        uploads = UploadFolder(places)
        self._inner.uploaded_file_dir = uploads
        return Guard(app, places, uploads, max_bytes)

    def close(self) -> None:
        """Stop listening and remove every temporary file."""
        self._inner.stop_event.set()  # ends the answers that stay open while a page does
        self._server.close()
        self._clean_up()

    def _clean_up(self) -> None:
        if self._before is None:
            os.environ.pop(_TEMPORARY, None)
        else:
            os.environ[_TEMPORARY] = self._before
        self._temporary.cleanup()

    def __enter__(self) -> "WebDemo":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        DetectureError: host and port cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise DetectureError(
            f"cannot listen on {host}:{port}, which is in use or not of this machine; give "
            "another --port or --host"
        ) from error


class _Server:
    """Answers requests in its own thread, from when it is made until it is closed."""

    def __init__(self, app: Guard, listening: socket.socket) -> None:
        import uvicorn

        config = uvicorn.Config(
            app, log_level="warning", lifespan="on", timeout_graceful_shutdown=_GRACE_SECONDS
        )
        self._uvicorn = uvicorn.Server(config)
        # A copy: it is closed by the server, and may outlive this call.
        arguments = {"sockets": [listening.dup()]}
        self._thread = threading.Thread(target=self._uvicorn.run, kwargs=arguments, daemon=True)
        self._thread.start()
        # Wait as long as it takes: a busy machine is not an error.
        while not self._uvicorn.started:
            self._thread.join(0.01)
            if not self._thread.is_alive():
                raise DetectureError("the server of the page did not start; the log says why")

    def close(self) -> None:
        """Stop listening, and wait for the thread."""
        self._uvicorn.should_exit = True
        self._thread.join(4 * _GRACE_SECONDS)
