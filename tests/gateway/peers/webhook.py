"""A receiver of webhooks, as the package that applications use would have it.

Usage: webhook.py SECRET. Prints its port, then a JSON line for every request. Ends with its stdin.

The first part of a request's path says what it answers: /ok 204, /busy 503 to the first two of each
message and 204 after, /never 503, /gone 410, /moved a redirect to /ok.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

webhook = Webhook(sys.argv[1])
seen = {}
lock = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            verified = webhook.verify(body, dict(self.headers)) is not None
        except Exception:
            verified = False
        name = self.headers.get("webhook-id", "")
        kind = self.path.split("?")[0].split("/")[1]
        with lock:
            seen[name] = seen.get(name, 0) + 1
            busy = kind == "busy" and seen[name] <= 2
            line = {
                "verified": verified,
                "id": name,
                "timestamp": self.headers.get("webhook-timestamp"),
                "type": self.headers.get("content-type"),
                "path": self.path,
                "body": json.loads(body),
            }
            print(json.dumps(line), flush=True)
        status = {"gone": 410, "never": 503, "moved": 302}.get(kind, 503 if busy else 204)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/ok/followed")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


server = Server(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
