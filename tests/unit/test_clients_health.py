"""`lprnet health` against what is no watchdog, and no repository."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

import pytest
from fake_triton import FakeTriton, serve

import lprnet_cli
from lprnet import contract
from serving.watchdog_http import HealthEndpoint, json_answer


@contextmanager
def answering(answer):
    """A port that answers every connection with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_once():
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def test_a_grpc_port_is_no_watchdog(capsys):
    with serve(FakeTriton()) as fake:
        assert lprnet_cli.main(["health", "--watchdog", f"http://{fake.url}"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"not healthy: what answers at http://{fake.url}/readyz is no watchdog")
    assert (out.count("\n"), err) == (1, "")


@pytest.mark.parametrize(
    "answer",
    [
        b"\0\0\x18\x04\0\0\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe",
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b"HTTP/1.1 404 Not Found\r\n\r\n<html>\n<body>\xff\n",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nshort",
    ],
)
def test_other_answers_are_no_watchdog(capsys, answer):
    with answering(answer) as url:
        assert lprnet_cli.main(["health", "--watchdog", url]) == 1
    assert capsys.readouterr().out == (
        f"not healthy: what answers at {url}/readyz is no watchdog of `lprnet serve`\n"
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:abc",
        "http://127.0.0.1 :9103",
        "http://127.0.0.1:9",
        "http://127.0.0.1:99999",
        "127.0.0.1:9103",
        "nonsense",
    ],
)
def test_an_address_where_nobody_can_be(capsys, url):
    assert lprnet_cli.main(["health", "--watchdog", url]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("not healthy: no watchdog answers at ")
    assert (out.count("\n"), err) == (1, "")


def test_a_repository_that_is_not_there(capsys, tmp_path):
    missing = tmp_path / "none"
    assert lprnet_cli.main(["health", "--repository", str(missing)]) == 2
    assert capsys.readouterr().err == f"error: there is no model repository at {missing}\n"


@pytest.mark.parametrize("ready", [True, False])
def test_a_watchdog_is_believed(capsys, ready):
    routes = {"/readyz": lambda: json_answer(ready, {"ready": ready, "why": "told so"})}
    endpoint = HealthEndpoint("127.0.0.1", 0, routes)
    port = endpoint._server.server_address[1]
    try:
        code = lprnet_cli.main(["health", "--watchdog", f"http://127.0.0.1:{port}/"])
    finally:
        endpoint.close()
    assert code == (0 if ready else 1)
    word = "healthy" if ready else "not healthy"
    said = f'{{"ready": {str(ready).lower()}, "why": "told so"}}'
    assert capsys.readouterr().out == f"{word}: {said}\n"


@pytest.mark.parametrize(
    "record", ["[]", "3", "null", '{"probe": null}', '{"probe": []}', '{"probe": {}}', "{", ""]
)
def test_a_record_that_is_none(capsys, tmp_path, record):
    folder = tmp_path / contract.ENGINE_MODEL / "1"
    folder.mkdir(parents=True)
    (folder / contract.MODEL_RECORD_FILE).write_text(record)
    assert lprnet_cli.main(["health", "--repository", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "error: model.json has no answer to this release's probe picture: run `lprnet repository`\n"
    )
