"""A stand-in for the service behind a gateway: it answers as DashVector does over HTTP and tells what it was sent.

`python -m tests.support.upstream`: prints its port. `GET /seen` answers the headers of each call before it.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWERS: dict[str, dict[str, object]] = {"/service_version": {"version": "1.0"}, "/v1/collections": {"output": []}}
seen: list[dict[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/seen":
            self.answer(200, seen)
            return
        seen.append({name.lower(): value for name, value in self.headers.items()})
        if self.path in ANSWERS:
            self.answer(200, {"request_id": str(len(seen)), "code": 0, "message": "", **ANSWERS[self.path]})
        else:
            self.answer(404, {"request_id": str(len(seen)), "code": 404, "message": "There is no such page."})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def answer(self, status: int, said: object) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: standard output is the port's."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
