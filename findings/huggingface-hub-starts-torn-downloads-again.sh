#!/usr/bin/env bash
# huggingface_hub leaves nothing of a download that an ended connection has interrupted: the next one starts from the beginning.
# This project: core/mlxft/hub/checked_file.py keeps the partial file and continues it with a Range request.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check huggingface_hub==2.4.0
cd "$folder"
cat >server.py <<'EOF'
import hashlib
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WEIGHTS = b"weights" * 1_000_000


class Hub(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()
        print(self.headers.get("Range", "from the start"), flush=True)
        self.wfile.write(WEIGHTS[: len(WEIGHTS) * 3 // 4])
        self.close_connection = True

    def answer(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(WEIGHTS)))
        self.send_header("ETag", '"' + hashlib.sha256(WEIGHTS).hexdigest() + '"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.end_headers()


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
print(server.server_address[1], file=sys.stderr, flush=True)
server.serve_forever()
EOF
venv/bin/python server.py 2>port >requests &
server=$!
trap 'kill $server; rm -rf "$folder"' EXIT
until [ -s port ]; do sleep 0.1; done
export HF_ENDPOINT="http://127.0.0.1:$(cat port)" HF_HOME="$folder/home" HF_HUB_DISABLE_XET=1 HF_HUB_DISABLE_PROGRESS_BARS=1
venv/bin/python - <<'EOF'
import sys
from pathlib import Path

from huggingface_hub import hf_hub_download, logging

logging.set_verbosity(logging.CRITICAL)
try:
    hf_hub_download("org/model", "model.safetensors")
except Exception as error:
    print(f"a connection that ends early: {type(error).__name__}")
left = list(Path("home/hub/models--org--model/blobs").glob("*.incomplete"))
print("huggingface_hub 2.4.0, partial files left for the next download")
print("expected: 1")
print(f"seen:     {len(left)}")
sys.exit(0 if not left else 1)
EOF
