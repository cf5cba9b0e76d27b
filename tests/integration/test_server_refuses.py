"""What refuses to start: with a reason, and nothing is left."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import options_for

from lprnet import contract
from lprnet.charset import TAO_US_CHARSET
from lprnet.plate_spec import PlateSpec
from serving import PreflightError, StartError, TritonServer

pytestmark = pytest.mark.integration


def spec_file(repository: Path, model: str) -> Path:
    return repository / model / "1" / contract.SPEC_FILE


OTHER_SPEC = PlateSpec(charset=TAO_US_CHARSET).to_json()


def decoder_of_another_charset(repository: Path) -> None:
    spec_file(repository, contract.DECODER_MODEL).write_text(OTHER_SPEC)


def engine_spec_of_another_charset(repository: Path) -> None:
    spec_file(repository, contract.ENGINE_MODEL).write_text(OTHER_SPEC)
    spec_file(repository, contract.DECODER_MODEL).write_text(OTHER_SPEC)


def edited_onnx(repository: Path) -> None:
    path = repository / contract.ENGINE_MODEL / "1" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def another_answer(repository: Path) -> None:
    path = repository / contract.ENGINE_MODEL / "1" / contract.MODEL_RECORD_FILE
    record = json.loads(path.read_text())
    record["probe"]["plate"] = "WRONG"
    path.write_text(json.dumps(record))


@pytest.mark.usefixtures("no_trace")
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (decoder_of_another_charset, r"ctc_decoder: the plate spec of ctc_decoder is not that of"),
        (engine_spec_of_another_charset, r"lprnet: plate_spec\.json is not the plate spec of"),
        (edited_onnx, r"lprnet: model\.onnx is not the file that model\.json names"),
        (another_answer, r"not fit to serve: lpr reads '.*' on the probe plate, expected 'WRONG'"),
    ],
)
def test_parts_that_do_not_fit_refuse_to_serve(
    repository: Path, damage: Callable[[Path], None], reason: str
) -> None:
    damage(repository)
    with pytest.raises(StartError, match=reason) as caught:
        TritonServer(options_for(repository)).start()
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_trace")
def test_a_taken_port_is_told_before_anything_starts(repository: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PreflightError, match=rf"HTTP port {port} on 127\.0\.0\.1 is taken"):
            TritonServer(options_for(repository, http_port=port)).start()


@pytest.mark.usefixtures("no_trace")
def test_a_server_that_is_not_ready_in_time_is_ended(repository: Path) -> None:
    with pytest.raises(StartError, match=r"not ready after 0\.01 s"):
        TritonServer(options_for(repository, ready_timeout_s=0.01)).start()


def test_the_models_run_the_package_that_lies_beside_them(repository: Path) -> None:
    """The environment of the tests has the package installed, as a user's may another release.

    Seen to fail while the models found the installed one first.
    """
    module = repository / contract.DECODER_MODEL / "1" / "lprnet" / "ctc.py"
    text = module.read_text()
    marked = text.replace('plates.append("".join(', 'plates.append("ITS OWN" + "".join(')
    assert marked != text
    module.write_text(marked)
    with pytest.raises(StartError, match=r"reads 'ITS OWN.*on the probe plate"):
        TritonServer(options_for(repository)).start()
