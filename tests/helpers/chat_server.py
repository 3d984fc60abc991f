"""A chat endpoint on this machine that plays a script."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-secret-0123456789"


def completion(content, tokens=100, finish_reason="stop"):
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
    return {"choices": [choice], "usage": {"total_tokens": tokens}}


def answer(label="the city of Washington"):
    return json.dumps({"label": label})


class Server:
    """Plays a script: a step for each request, the last again and again.

    A step is a body (a dict becomes JSON), (status, headers, body), or a function of the handler
    and the request that does as it likes.
    """

    def __init__(self, *script):
        self.script, self.requests, self.headers = list(script), [], []
        self.now, self.most = 0, 0
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    step = server.script[min(len(server.requests), len(server.script) - 1)]
                    server.requests.append(request)
                    server.headers.append({**self.headers, "path": self.path})
                    server.now += 1
                    server.most = max(server.most, server.now)
                try:
                    if callable(step):
                        step = step(self, request)
                    if step is not None:
                        self.reply(step)
                except OSError:
                    pass  # the client has gone
                finally:
                    with lock:
                        server.now -= 1

            do_GET = do_POST

            def reply(self, step):
                status, headers, body = step if isinstance(step, tuple) else (200, {}, step)
                body = json.dumps(body) if isinstance(body, dict) else body
                body = body.encode() if isinstance(body, str) else body
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
