"""The real supervisor over a stand-in for vLLM, for faults that a real one shows only after half a minute.

`python supervised.py` is engine.supervisor with another command to start. `python supervised.py serve PORT` is that
command: two processes as vLLM has (the second stays when the first is killed), /health, /metrics, one-token replies.
FAKE_ENGINE tells it what to do wrong: `exit` (with a message, at once), `hang` (never ready), `crash` (once ready).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(b"vllm:num_requests_running 0.0\n" if self.path == "/metrics" else b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        token = {"choices": [{"logprobs": {"content": [{"token": "Hi", "logprob": -0.5}]}}]}
        self._answer(json.dumps(token).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def serve(port: int) -> None:
    fault = os.environ.get("FAKE_ENGINE", "")
    if fault == "exit":
        print("error: unrecognized arguments: --no-such-flag", flush=True)
        sys.exit(2)
    if fault == "hang":
        time.sleep(600)
    core = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "vllm-core"])
    threading.Thread(target=lambda: os._exit(core.wait() * 0), daemon=True).start()  # as vLLM: exit code 0
    if fault == "crash":
        threading.Timer(0.3, os._exit, [0]).start()
    ThreadingHTTPServer(("127.0.0.1", port), Server).serve_forever()


def supervise() -> int:
    from engine import models, supervisor, vllm

    def launch(settings, folder, served_name, hardware, *, port, api_key, lora, adapters):  # type: ignore[no-untyped-def]
        command = [sys.executable, __file__, "serve", str(port)]
        return vllm.Launch(command, dict(os.environ), settings.max_model_len, lora)

    supervisor.vllm.launch = launch  # type: ignore[attr-defined]
    models.ensure = lambda choice, folder, report: Path(folder)
    return supervisor.main()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    else:
        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
        sys.exit(supervise())
