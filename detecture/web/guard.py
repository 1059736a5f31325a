"""Whose files are whose, how much a request may hold, and the headers of every answer.

A browser gets a random cookie, whose digest names the folder of its uploads and results. So a path
says who owns it, and is worth nothing without the cookie. Clients without cookies get paths that
cannot be guessed.
"""

import asyncio
import hashlib
import os
import re
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

UPLOADS, RESULTS = "uploads", "results"
COOKIE = "detecture_user"
_ANYONE = "shared"  # owner of everything requested without a cookie
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")  # what `secrets.token_urlsafe()` makes of 32 bytes
_CONTENT = re.compile(r"[0-9a-f]{64}")  # folders of gradio's copies: the examples
_UPLOAD = re.compile(r"(/gradio_api)?/upload/?")
_FILE = re.compile(r"(?:/gradio_api)?/file[=/](.*)", re.DOTALL)
_ENVELOPE = 64 * 2**10  # bytes of an upload beside its file: boundaries, names
_QUESTION = 2**20  # bytes of every other request
_DRAIN, _DRAIN_SECONDS = 64 * 2**20, 5.0  # how much of a refused request is read, in bytes and time

# The page loads from this server alone; some of gradio's scripts are inline, and compile templates.
_CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
# A user's file runs nothing, whatever type a browser takes it for.
_FILE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'self'"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "SAMEORIGIN",
    "cross-origin-resource-policy": "same-origin",
}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Places:
    """The folders of users, below one that the server removes when it ends."""

    def __init__(self, root: Path, public: Iterable[Path] = ()) -> None:
        """Make nothing yet.

        Args:
            root: a folder of this server alone.
            public: files outside it that everybody may read: the examples.
        """
        self.root = root.resolve()
        self.results = self.root / RESULTS
        self.public = frozenset(os.path.realpath(path) for path in public)

    @staticmethod
    def owner(secret: str | None) -> str:
        """Folder name for the user with this cookie; all without our cookie share one."""
        if secret is None or not _SECRET.fullmatch(secret):
            return _ANYONE
        return hashlib.sha256(secret.encode("ascii")).hexdigest()[:32]

    def upload_folder(self, owner: str) -> Path:
        """Where uploads go: to the owner's folder or, without a cookie, to an unguessable one."""
        folder = self.root / UPLOADS / owner
        return folder / secrets.token_hex(16) if owner == _ANYONE else folder

    def holds(self, path: str) -> bool:
        """Whether a path belongs to this server at all, whoever owns it."""
        return self._parts(path) is not None

    def may_read(self, owner: str, path: str) -> bool:
        """Whether a path is one that this owner may be given."""
        parts = self._parts(path)
        if not parts:
            return parts is not None
        if len(parts) == 2 and _CONTENT.fullmatch(parts[0]):
            return True
        return len(parts) > 3 and parts[0] in (UPLOADS, RESULTS) and parts[1] in (owner, _ANYONE)

    def _parts(self, path: str) -> tuple[str, ...] | None:
        """Parts of a path below `root`; empty for a public file, None for everything else."""
        try:
            real = Path(os.path.realpath(path))
            return () if str(real) in self.public else real.relative_to(self.root).parts or None
        except ValueError:  # outside, or a name that no disk accepts
            return None


class UploadFolder(os.PathLike[str]):
    """A path that differs from request to request; gradio writes uploads to it.

    In requests that are not uploads it is the folder of everything that gradio may serve.
    """

    def __init__(self, places: Places) -> None:
        """Remember where the files of all owners are."""
        self._of_all = str(places.root)
        self._of_request: ContextVar[str | None] = ContextVar("upload_folder", default=None)

    def enter(self, folder: Path) -> None:
        """Make it this folder, for the rest of this request."""
        self._of_request.set(str(folder))

    def __fspath__(self) -> str:
        return self._of_request.get() or self._of_all

    __str__ = __fspath__


class Guard:
    """ASGI middleware around the whole page."""

    def __init__(
        self, app: App, places: Places, uploads: UploadFolder, max_upload_bytes: int
    ) -> None:
        """Keep the application.

        Args:
            app: the application to guard.
            places: the places of users' files.
            uploads: where `app` writes uploads.
            max_upload_bytes: of one request, however many files it has.
        """
        self.app = app
        self.places = places
        self.uploads = uploads
        self.max_upload_bytes = max_upload_bytes
        self._uploading: Counter[Path] = Counter()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        secret = secret_of(scope["headers"])
        owner = self.places.owner(secret)
        asked = _FILE.fullmatch(path)
        new = None
        if secret is None and path in ("/", "/config", "/config/"):
            new = secrets.token_urlsafe()
        send = _with_headers(send, _FILE_POLICY if asked else _CONTENT_POLICY, new)
        if asked:
            if is_address(asked[1]) or not self.places.may_read(owner, asked[1]):
                await _refuse(send, 403, "This file is not there, or not yours.")
                return
            # gradio answers a range request with the request's headers as those of the answer.
            headers = [(k, v) for k, v in scope["headers"] if k != b"range"]
            scope = {**scope, "headers": headers}
        if scope["method"] == "POST" and _UPLOAD.fullmatch(path):
            await self._upload(scope, receive, send, self.places.upload_folder(owner))
        else:
            await self._answer(scope, _Body(receive, scope["headers"], _QUESTION), send)

    async def _upload(self, scope: Message, receive: Receive, send: Send, folder: Path) -> None:
        """Let the application take an upload; however that ends, no partial file is left."""
        self.uploads.enter(folder)
        self._uploading[folder] += 1
        limit = self.max_upload_bytes + _ENVELOPE
        try:
            await self._answer(scope, _Body(receive, scope["headers"], limit), send)
        finally:
            self._uploading[folder] -= 1
            if not self._uploading[folder]:
                del self._uploading[folder]
                # Complete files lie in folders below.
                for part in folder.glob("*") if folder.is_dir() else ():
                    if part.is_file():
                        part.unlink(missing_ok=True)

    async def _answer(self, scope: Message, body: "_Body", send: Send) -> None:
        """Let the application answer, unless the request is too large."""
        from starlette.requests import ClientDisconnect

        started = False

        async def send_unless_too_large(message: Message) -> None:
            nonlocal started
            if body.too_large and not started:
                return  # what the application makes of half a request
            started = True
            await send(message)

        if not body.too_large:
            try:
                await self.app(scope, body.receive, send_unless_too_large)
            except ClientDisconnect:
                return  # nobody is left to answer
            except _TooLargeError:
                if started:
                    raise
        if body.too_large and not started:
            await body.drain()
            text = f"The request exceeds the maximum allowed size of {body.limit:,} bytes."
            await _refuse(send, 413, text)


class _TooLargeError(Exception):
    """A request is longer than its limit."""


class _Body:
    """The body of a request, counted as it is received."""

    def __init__(
        self, receive: Receive, headers: Iterable[tuple[bytes, bytes]], limit: int
    ) -> None:
        said = next((v for k, v in headers if k == b"content-length"), b"0")
        self.limit = limit
        self.too_large = said.isdigit() and int(said[:20]) > limit
        self._receive = receive
        self._received = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > self.limit:
            self.too_large = True
            raise _TooLargeError
        return message

    async def drain(self) -> None:
        """Read what is still sent, within bounds: most clients send all before they read."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drain(), _DRAIN_SECONDS)

    async def _drain(self) -> None:
        most = self._received + _DRAIN
        while self._received < most:
            message = await self._receive()
            self._received += len(message.get("body", b""))
            if not message.get("more_body", False):
                return


def secret_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The cookie's value among the headers of a request, if it is one that this server makes."""
    text = "; ".join(value.decode("latin-1") for name, value in headers if name == b"cookie")
    try:
        found = SimpleCookie(text).get(COOKIE)
    except CookieError:  # another server's, on this host
        return None
    return found.value if found is not None and _SECRET.fullmatch(found.value) else None


def is_address(path: str) -> bool:
    """Whether something that should be a path is an address, which gradio would fetch."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", path.lstrip()) is not None


def _with_headers(send: Send, policy: str, new_secret: str | None) -> Send:
    """`send`, with the headers of every answer, in place of the application's."""
    ours = _HEADERS | {"content-security-policy": policy}

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (k, v)
                for k, v in message.get("headers", [])
                if k.decode("latin-1").lower() not in ours
            ]
            kept += [(k.encode("ascii"), v.encode("ascii")) for k, v in ours.items()]
            if new_secret is not None:
                # Lax: a known user who follows a link from elsewhere must not become a new one.
                cookie = f"{COOKIE}={new_secret}; Path=/; HttpOnly; SameSite=Lax"
                kept.append((b"set-cookie", cookie.encode("ascii")))
            message = {**message, "headers": kept}
        await send(message)

    return send_with_headers


async def _refuse(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode("utf-8")})
