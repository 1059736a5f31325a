"""An HTTP server in a thread that speaks OpenAI's and Anthropic's protocols, and misbehaves."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD = [
    "Texture of rough grey stone wall, irregular blocks with dark joints, on the left side",
    "Texture of short green grass, fine dense blades with soft shade, on the right side",
    "Texture of pale blue sky, smooth and even with thin streaks, at the very top",
]


def answer_of(count, texts=GOOD):
    return json.dumps({f"texture_{'abcdefgh'[i]}": texts[i] for i in range(count)})


class Endpoint:
    """What the server does: each request takes the next behaviour; the last one stays.

    A behaviour is called with the endpoint and the request's body and gives (status, headers,
    body); a text is what the model writes.
    """

    def __init__(self, *behaviours):
        self.behaviours = list(behaviours)
        self.bodies, self.headers, self.paths, self.times = [], [], [], []
        self.now = self.most_at_once = 0
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.tokens = (100, 20)

    def take(self, path, headers, body):
        with self.lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.paths.append(path)
            self.headers.append(headers)
            self.times.append(time.monotonic())
            self.now += 1
            self.most_at_once = max(self.most_at_once, self.now)
            behaviour = self.behaviours[min(number, len(self.behaviours) - 1)]
        try:
            found = behaviour(self, body) if callable(behaviour) else behaviour
            return self.said(path, found) if isinstance(found, str) else found
        finally:
            with self.lock:
                self.now -= 1

    def said(self, path, text, stop=None):
        read, written = self.tokens
        if path.endswith("/messages"):
            content = {
                "id": "m1",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": [{"type": "text", "text": text}],
                "stop_reason": stop or "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": read, "output_tokens": written},
            }
        else:
            message = {"role": "assistant", "content": text}
            content = {
                "id": "c1",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": stop or "stop"}],
                "usage": {
                    "prompt_tokens": read,
                    "completion_tokens": written,
                    "total_tokens": read + written,
                },
            }
        return 200, {}, json.dumps(content)


def fails(status, text="it is broken", **headers):
    """A behaviour: an HTTP error, in a form that both protocols know."""
    named = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    body = json.dumps({"type": "error", "error": {"type": "error", "message": text}})
    return lambda endpoint, request: (status, named, body)


def stalls(endpoint, request):
    """A behaviour: no answer until the server ends."""
    endpoint.released.wait(20)
    return 500, {}, "{}"


def cut_off(endpoint, request):
    """A behaviour: the answer has as many tokens as are allowed."""
    anthropic = "system" in request
    path = "/messages" if anthropic else "/chat/completions"
    stop = "max_tokens" if anthropic else "length"
    return endpoint.said(path, answer_of(2)[:30], stop)


@contextmanager
def serving(endpoint):
    """Its address, while it runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["content-length"])
            body = json.loads(self.rfile.read(length))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, more, content = endpoint.take(self.path, headers, body)
            try:
                self.send_response(status)
                for name, value in {"content-type": "application/json", **more}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content.encode())))
                self.end_headers()
                self.wfile.write(content.encode())
            except OSError:
                pass  # whoever asked has gone

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        endpoint.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
