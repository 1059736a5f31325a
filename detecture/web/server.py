"""Start and stop the page: where it listens, what it refuses, what it cleans up."""

import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from detecture.engine import SemanticPredictor, TexturePredictor
from detecture.errors import DetectureError
from detecture.web.service import Limits, SegmentationService
from detecture.web.view import asset

# The page loads from this server alone; gradio's scripts are inline in part, and compile templates.
_CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; base-uri 'self'; form-action 'self'"
)
_TEMPORARY = "GRADIO_TEMP_DIR"


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
            host: address to listen on; 127.0.0.1 is reached from this machine alone.
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
        # Read when gradio is imported and when the page is made: uploads go to our own folder.
        os.environ[_TEMPORARY] = str(Path(self._temporary.name).resolve())
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        try:
            # The server's own attempt would fail in a thread, where nobody hears of it.
            with socket.create_server((host, port)):
                pass
            self._start(predictor, host, port, examples, max_megabytes, limits)
        except OSError as error:
            self._clean_up()
            raise DetectureError(
                f"cannot listen on {host}:{port}, which is in use or not of this machine; give "
                "another --port or --host"
            ) from error
        except BaseException:
            self._clean_up()
            raise

    def _start(
        self,
        predictor: TexturePredictor | SemanticPredictor,
        host: str,
        port: int,
        examples: Sequence[Path],
        max_megabytes: float,
        limits: Limits | None,
    ) -> None:
        import gradio
        from starlette.middleware import Middleware

        from detecture.web.page import build_page

        folder = Path(os.environ[_TEMPORARY])
        self.service = SegmentationService(predictor, folder / "results", limits)
        self._page = build_page(self.service, examples, max_megabytes)
        self._page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            inbrowser=False,
            show_error=False,
            max_file_size=round(max_megabytes * 2**20),
            footer_links=[],
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            # The reader's own fonts: none is loaded.
            theme=gradio.themes.Default(font=("system-ui", "sans-serif"), font_mono=("monospace",)),
            css=asset("view.css"),
            head=f"<script>{asset('view.js')}</script>",
            app_kwargs={"middleware": [Middleware(_ContentPolicy)]},
        )
        self.url = f"http://{host}:{port}/"

    def close(self) -> None:
        """Stop listening and remove every temporary file."""
        self._page.close(verbose=False)
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


_Message = MutableMapping[str, Any]


class _ContentPolicy:
    """ASGI middleware: every answer carries the content policy."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        async def send_with_policy(message: _Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", _CONTENT_POLICY.encode("ascii"))
                message["headers"] = [*message.get("headers", []), policy]
            await send(message)

        await self.app(scope, receive, send_with_policy)
