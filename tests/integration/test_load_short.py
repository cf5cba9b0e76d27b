"""Load tests in their short form against a real server. Nothing here judges speed."""

from __future__ import annotations

import ctypes
import json
import socket
from pathlib import Path

import pytest

import lprnet_cli
from load_tests import perf
from load_tests.bursts import MODELS, SIZES
from load_tests.cases import all_cases
from load_tests.locust_run import run_shape
from lprnet import contract
from serving import TritonServer

pytestmark = pytest.mark.integration


def test_locust_reads_plates_and_leaves_its_report(server: TritonServer, tmp_path: Path) -> None:
    result = run_shape(server.grpc_url, "spike", 6, 8, tmp_path)
    assert result.requests > 0
    assert result.failures == 0, result.failure_classes
    assert (tmp_path / "spike.html").stat().st_size > 10_000
    assert (tmp_path / "spike_stats_history.csv").is_file()


def test_locust_counts_each_failure_once_under_its_class(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        result = run_shape(f"127.0.0.1:{unused.getsockname()[1]}", "steady", 3, 2, tmp_path)
    assert result.failures == result.requests > 0
    assert result.failure_classes == {"ServerUnreachable": result.requests}


def has_libb64() -> bool:
    try:
        ctypes.CDLL("libb64.so.0d")
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_libb64(), reason="needs libb64: scripts/debian_packages.sh load")
def test_perf_analyzer_measures_all_three_models(server: TritonServer, tmp_path: Path) -> None:
    parser = perf.argparse.ArgumentParser()
    perf.add_arguments(parser)
    arguments = ["--quick", "--url", server.grpc_url, "--out", str(tmp_path)]
    assert perf.run(parser.parse_args(arguments)) == 0
    rows = (tmp_path / "summary.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == list(perf.MODELS)
    assert all(float(row.split(",")[5]) > 0 for row in rows)
    # pictures stay out of the results
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".md"}


def test_bench_measures_every_case_and_writes_its_report(
    server: TritonServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = str(server.options.repository)
    arguments = ["bench", "--quick", "--no-peer", "--repository", repository]
    assert lprnet_cli.main([*arguments, "--profile", "cpu", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    expected = all_cases(engine=True, peer=False, quick=True)
    assert len(report["cases"]) == len(expected)
    assert all(case["plates_per_s"] > 0 and case["requests"] > 0 for case in report["cases"])
    stages = report["stages"][-1]["models"]
    assert {contract.IMAGE_DECODER_MODEL, contract.ENGINE_MODEL, contract.DECODER_MODEL} <= set(
        stages
    )
    assert [(burst["model"], burst["size"]) for burst in report["bursts"]] == [
        (model, size) for model in MODELS for size in SIZES
    ]
    assert all(burst["requests"] == 5 * burst["size"] for burst in report["bursts"])
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert 'src="http' not in page
    assert "| bare engine |" in (tmp_path / "README_tables.md").read_text()
    assert "bare engine" in capsys.readouterr().out


def test_bench_refuses_nonsense_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert lprnet_cli.main(["bench", "--rounds", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: --seconds must be above 0")
