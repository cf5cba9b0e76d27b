"""Programs as the shell runs them: standard streams that are closed, signals, exit codes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fake_triton import FakeTriton, picture, serve, text_of

import lprnet_cli

ROOT = Path(__file__).resolve().parents[2]
CURL = ROOT / "clients" / "read_with_curl.sh"


def shell(arguments, redirections=""):
    """Run `lprnet ARGUMENTS` with what only a shell can do to its streams."""
    words = [sys.executable, str(ROOT / "lprnet_cli.py"), *map(str, arguments)]
    return subprocess.run(
        f"{shlex.join(words)} {redirections}",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def fake():
    with serve(FakeTriton()) as fake:
        yield fake


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "plates"
    folder.mkdir()
    for i in range(3):
        (folder / f"car{i}.jpg").write_bytes(picture(i))
    return folder


def test_closed_stdin_is_told_in_one_line(fake):
    result = shell(["read", "-", "--url", fake.url], "<&-")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: stdin is closed: there is nothing to read from it\n"


@pytest.mark.parametrize("kind", ["table", "tsv", "json", "jsonl"])
def test_closed_stdout_loses_no_rows_silently(fake, folder, kind):
    result = shell(["read", folder, "-f", kind, "--url", fake.url], ">&-")
    assert result.returncode == 2
    assert result.stderr == "error: stdout is closed: send it to a file, or to /dev/null\n"


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_that_is_not_needed_is_none(fake, folder, tmp_path, closed):
    output = tmp_path / "a.csv"
    result = shell(["read", folder, "-o", output, "--url", fake.url], closed)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    plates = [line.split(",")[1] for line in output.read_text().splitlines()[1:]]
    assert plates == [text_of(picture(i)) for i in range(3)]


def test_errors_keep_their_code_without_stderr(folder):
    command = ["read", folder, "--url", "127.0.0.1:9"]
    for closed in ("2>&-", "<&- 2>&-", "<&- >&- 2>&-"):
        assert shell(command, closed).returncode == 2
    assert shell(["nonsense"], "2>&-").returncode == 2


def test_a_verb_that_only_tells_how_it_goes_needs_no_stdout():
    result = shell(["health", "--watchdog", "http://127.0.0.1:9"], ">&-")
    assert (result.returncode, result.stderr) == (1, "")
    result = shell(["--help"], ">&-")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)


def test_descriptors_of_closed_streams_are_filled(tmp_path):
    """Else a file that is opened gets number 2, and libraries write their messages into it."""
    code = (
        "import os, lprnet_cli; lprnet_cli.stand_in_for_closed_streams(); "
        f"file = open({str(tmp_path / 'rows')!r}, 'w'); os.write(2, b'message'); "
        "raise SystemExit(file.fileno())"
    )
    result = subprocess.run(
        f"{shlex.join([sys.executable, '-c', code])} <&- >&- 2>&-",
        shell=True,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode > 2
    assert (tmp_path / "rows").read_text() == ""


DEFAULT_SIGNALS = ("env", "--default-signal=HUP")  # the tests themselves may run under nohup


def end_in_the_middle(fake, number, *arguments, before=DEFAULT_SIGNALS):
    """Send a signal to `lprnet read` when some of its batches have been answered."""
    fake.delay_s = 0.3
    process = subprocess.Popen(
        [*before, sys.executable, str(ROOT / "lprnet_cli.py"), "read", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    # With two under way, the rows of the first were due 0.3 s before the fifth comes.
    while len(fake.requests) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(fake.requests) >= 5
    process.send_signal(number)
    rows, errors = process.communicate(timeout=20)
    return process, rows, errors


@pytest.fixture
def many(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    data = picture(1)
    for i in range(1000):
        (folder / f"{i}.jpg").write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_ends_the_document(fake, many, number, code):
    options = ["-f", "json", "--in-flight", "1", "--url", fake.url]
    process, rows, errors = end_in_the_middle(fake, number, many, *options)
    said = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert (process.returncode, errors) == (code, f"{said}\n")
    assert 0 < len(json.loads(rows)) < 1000


def test_a_signal_leaves_no_shared_memory(fake, many, tmp_path):
    output = tmp_path / "rows.json"
    options = ["-o", output, "--in-flight", "2", "--shared-memory", "--url", fake.url]
    process, _, errors = end_in_the_middle(fake, signal.SIGTERM, many, *options)
    assert (process.returncode, errors) == (143, "ended by SIGTERM\n")
    assert json.loads(output.read_text())
    assert not list(Path("/dev/shm").glob(f"lprnet_client_{process.pid}_*"))
    assert fake.regions == []


def test_nohup_goes_on(fake, many, tmp_path):
    """SIGHUP was told to be ignored: it is."""
    for path in list(many.iterdir())[300:]:
        path.unlink()
    output = tmp_path / "rows.jsonl"
    options = ["-o", output, "--in-flight", "1", "--url", fake.url]
    ignoring = ["env", "--ignore-signal=HUP"]
    process, _, errors = end_in_the_middle(fake, signal.SIGHUP, many, *options, before=ignoring)
    assert (process.returncode, errors) == (0, "")
    assert len(output.read_text().splitlines()) == 300


def test_handlers_are_put_back(capsys):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    assert lprnet_cli.main(["read", "none.jpg", "--url", "127.0.0.1:9", "--in-flight", "1"]) == 2
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before
    # A thread that is not the main one cannot have handlers, and needs none.
    codes = []
    arguments = ["read", "none.jpg", "--url", "127.0.0.1:9"]
    thread = threading.Thread(target=lambda: codes.append(lprnet_cli.main(arguments)))
    thread.start()
    thread.join()
    assert codes == [2]
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture
def triton_http():
    """An HTTP port that keeps what it is asked and answers with `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            size = int(self.headers["Content-Length"])
            self.server.asked.append((self.path, self.headers, self.rfile.read(size)))
            self.send_response(self.server.status)
            self.end_headers()
            self.wfile.write(b'{"error":"told to fail"}' if self.server.status != 200 else b"{}")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.status = [], 200
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def curl(folder, *arguments):
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    return subprocess.run(
        [CURL, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_curl_sends_a_picture_whose_name_looks_like_an_option(triton_http, tmp_path):
    (tmp_path / "-x.jpg").write_bytes(picture(1))
    result = curl(tmp_path, "-x.jpg", triton_http.url + "/")
    assert (result.returncode, result.stdout, result.stderr) == (0, "{}", "")
    ((path, headers, body),) = triton_http.asked
    assert path == "/v2/models/lpr_image/infer"
    length = int(headers["Inference-Header-Content-Length"])
    outputs = [output["name"] for output in json.loads(body[:length])["outputs"]]
    assert outputs == ["plate", "confidence", "char_confidences"]
    assert body[length:] == len(picture(1)).to_bytes(4, "little") + picture(1)


def test_curl_fails_with_the_servers_words(triton_http, tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture(1))
    triton_http.status = 400
    result = curl(tmp_path, "a.jpg", triton_http.url)
    assert (result.returncode, result.stdout) == (22, '{"error":"told to fail"}')
    assert result.stderr == ""


def test_curl_tells_that_nobody_answers(tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture(1))
    result = curl(tmp_path, "a.jpg", "http://127.0.0.1:9")
    assert (result.returncode, result.stdout) == (7, "")
    assert result.stderr.startswith("curl: (7) ")
    assert curl(tmp_path, "none.jpg", "http://127.0.0.1:9").returncode != 0


def test_ctrl_c_while_modules_are_imported_is_one_line(tmp_path):
    """Seen to fail: NumPy, interrupted in its import, left 50 lines and exit code 1."""
    (tmp_path / "slow.py").write_text(
        "import os, signal, time\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "time.sleep(0.1)\n"
        "print('imported')\n"
    )
    program = (
        "import sys, lprnet_cli\n"
        "lprnet_cli.VERBS['read'] = lprnet_cli.Verb('slow', '', 'clients', prints=True)\n"
        "sys.exit(lprnet_cli.main(['read']))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (130, "imported\n", "interrupted\n")


def test_tls_where_there_is_none_is_told_in_one_line(fake, tmp_path):
    """Seen to fail: seven lines of gRPC's own log before it."""
    (tmp_path / "a.jpg").write_bytes(picture(1))
    result = shell(["read", tmp_path, "--url", fake.url, "--tls"])
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "handshake failed" in result.stderr
