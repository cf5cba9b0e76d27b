"""Parts of the load tests that need no server."""

from __future__ import annotations

import asyncio
import csv
import time
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from load_tests import cases as names
from load_tests.acceptance import Verdict, judge
from load_tests.cases import MANY, Case, all_cases, in_turn
from load_tests.drive import LEAD_IN_S, drive_tasks, drive_threads
from load_tests.figures import Figures, Spell, summarise
from load_tests.locust_run import read_result
from load_tests.perf import plan, rate_plan
from load_tests.perf_run import Point, Sweep, command, read_point
from load_tests.pictures import find_pictures
from load_tests.requests_raw import tensors, triton_bodies
from load_tests.shapes import users_at
from lprnet import contract
from lprnet.errors import LprnetError


@pytest.mark.parametrize(
    ("shape", "elapsed_s", "users"),
    [
        ("steady", 0.0, 40),
        ("steady", 99.9, 40),
        ("steady", 100.0, None),  # the run is over
        ("ramp", 0.0, 8),  # five equal steps
        ("ramp", 20.0, 16),
        ("ramp", 99.9, 40),
        ("spike", 39.9, 4),
        ("spike", 40.0, 40),
        ("spike", 59.9, 40),
        ("spike", 60.0, 4),
        ("soak", 50.0, 20),
    ],
)
def test_shapes(shape: str, elapsed_s: float, users: int | None) -> None:
    assert users_at(shape, elapsed_s, duration_s=100.0, peak_users=40) == users


def test_a_shape_never_asks_for_no_users() -> None:
    assert users_at("spike", 0.0, duration_s=10.0, peak_users=1) == 1


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="no shape 'square'"):
        users_at("square", 0.0, 1.0, 1)


def spell(latencies_s: list[float], plates: int, wall_s: float, server_cpu_s: float) -> Spell:
    return Spell(tuple(latencies_s), plates, wall_s, 0.0, server_cpu_s, 2**20)


def test_medians_over_spells_and_means_of_cpu_time() -> None:
    figures = summarise(
        [
            spell([0.001] * 10, 10, 1.0, 0.1),
            spell([0.002] * 20, 20, 1.0, 0.1),
            spell([0.009] * 30, 30, 1.0, 0.1),
        ]
    )
    assert figures.plates_per_s == 20
    assert figures.spread == pytest.approx((30 - 10) / 20)
    assert figures.p50_ms == pytest.approx(2.0)
    assert figures.server_cpu_ms == pytest.approx(1e3 * 0.3 / 60)
    assert figures.requests == 60


def test_threads_count_every_request_and_plate() -> None:
    started: list[float] = []
    asked: list[float] = []

    def ask(index: int) -> int:
        asked.append(time.perf_counter())
        time.sleep(0.002)
        return 3

    timed = drive_threads([ask] * 4, 0.05, lambda: started.append(time.perf_counter()))
    assert len(started) == 1
    assert timed.plates == 3 * len(timed.latencies_s)
    lead_in = [when for when in asked if when < started[0]]
    assert len(asked) == len(lead_in) + len(timed.latencies_s)
    assert started[0] - asked[0] > LEAD_IN_S / 2  # the first may be late: it is noted in the call
    assert min(timed.latencies_s) >= 0.002


def test_a_failing_worker_ends_the_spell_with_its_error() -> None:
    def good(index: int) -> int:
        return 1

    def bad(index: int) -> int:
        raise LprnetError("refused")

    with pytest.raises(LprnetError, match="refused"):
        drive_threads([good, bad, good], 0.05, lambda: None)


def test_tasks_count_every_request() -> None:
    async def ask(index: int) -> int:
        await asyncio.sleep(0.002)
        return 1

    timed = asyncio.run(drive_tasks(ask, 8, 0.03, lambda: None))
    assert timed.plates == len(timed.latencies_s) > 8


def test_samples_are_the_pictures_where_there_are_no_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LPRNET_DATA", str(tmp_path))
    found = find_pictures(5)
    assert found.source == "the samples"
    assert len(found.pictures) == 5
    assert all(picture.label for picture in found.pictures)
    assert found.pictures == find_pictures(5).pictures  # the same in every run
    assert found.crops().shape == (5, 3, 48, 96)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LprnetError, match="no pictures in"):
        find_pictures(5, tmp_path)


def test_requests_hold_the_pictures_in_order() -> None:
    files = [b"a", b"bb", b"ccc"]
    crops = np.arange(3 * 3 * 48 * 96, dtype=np.uint32).astype(np.uint8).reshape(3, 3, 48, 96)
    name, datatype, shape, content = tensors(contract.IMAGE_ENSEMBLE, files, crops, 2)[1]
    assert (name, datatype, shape) == (contract.ENCODED, "BYTES", [2, 1])
    assert content == b"\x03\0\0\0ccc\x01\0\0\0a"
    made = tensors(contract.CROP_ENSEMBLE, files, crops, 3)
    assert made[0][2] == [3, 3, 48, 96]
    assert made[0][3] == crops.tobytes()


def test_http_bodies_tell_where_the_header_ends() -> None:
    crops = np.zeros((1, 3, 48, 96), np.uint8)
    body, headers = triton_bodies("lpr", tensors("lpr", [b"x"], crops, 1))[0]
    head = int(headers["Inference-Header-Content-Length"])
    assert body[:head].endswith(b"}")
    assert body[head:] == crops.tobytes()


def figures(rate: float, p50_ms: float = 1.0, p99_ms: float = 2.0) -> Figures:
    return Figures(1, 1, rate, 0.0, p50_ms, p99_ms, p99_ms, 0.0, 0.0, 1.0)


def demands(rate: float) -> dict[str, Verdict]:
    image = contract.IMAGE_ENSEMBLE
    measured = {
        Case(names.ENGINE, names.IN_PROCESS, 1, 1): figures(500, p50_ms=2.0),
        Case(names.ENGINE, names.IN_PROCESS, MANY, 1): figures(1000),
        Case("lpr", names.SHARED_MEMORY, MANY, 2): figures(rate),
        Case("lpr", names.LIBRARY, 1, 1): figures(300, p50_ms=2.5),
        Case(image, names.LIBRARY, 1, 1): figures(200, p50_ms=4.5),
        Case("lpr", names.RAW_GRPC, 1, MANY): figures(300),
        Case("lpr", names.BATCHING, 1, MANY): figures(620),
        Case(image, names.RAW_GRPC, 1, MANY): figures(700, p99_ms=30.0),
        Case(image, names.BATCHING, 1, MANY): figures(800, p99_ms=20.0),  # the better of both
        Case(names.PEER_SERVER, names.HTTP, 1, 8): figures(220, p99_ms=50.0),
        Case(names.PEER_SERVER, names.HTTP, 1, MANY): figures(200, p99_ms=100.0),
    }
    verdicts = judge(measured, {image: (95, 100), names.PEER: (96, 100)})
    return {verdict.what: verdict for verdict in verdicts}


@pytest.mark.parametrize(
    ("rate", "word"),
    [(849, "misses the floor"), (850, "floor reached"), (900, "goal reached")],
)
def test_demands_are_judged_against_floor_and_goal(rate: float, word: str) -> None:
    first = next(iter(demands(rate).values()))
    assert first.value == pytest.approx(rate / 10)
    assert first.word == word


def test_each_demand_is_computed_from_its_own_cases() -> None:
    values = [verdict.value for verdict in demands(900).values()]
    words = [verdict.word for verdict in demands(900).values()]
    approx = pytest.approx
    assert values == [
        approx(90),
        None,
        approx(0.5),
        approx(2.5),
        approx(62),
        approx(800 / 220),
        5,
        -1,
    ]
    assert words[2] == "goal reached"
    assert words[3] == "misses the floor"  # 2.5 ms above, at most 2 are allowed
    assert words[1] == "not measured"
    assert words[4] == "goal reached"  # by the better of two ways
    assert words[5] == "misses the floor"
    assert words[7] == "misses the floor"  # one point less accurate


def test_cases_are_different_from_one_another() -> None:
    cases = all_cases(engine=True, peer=True, quick=False)
    assert len(set(cases)) == len(cases)
    without = all_cases(engine=False, peer=False, quick=False)
    assert not {names.ENGINE, names.SERVED_ENGINE, names.PEER, names.PEER_SERVER} & {
        case.target for case in without
    }


def test_one_picture_at_a_time_comes_before_any_flood_in_every_round() -> None:
    cases = all_cases(engine=True, peer=True, quick=False)
    there, back = in_turn(cases, 0), in_turn(cases, 1)
    assert set(there) == set(back) == set(cases)
    first = [case for case in there if (case.batch, case.concurrency) == (1, 1)]
    assert there[: len(first)] == first
    assert there[0].target == names.ENGINE
    assert back[: len(first)] == first[::-1]
    assert back[len(first) :] == there[len(first) :][::-1]


CSV = """Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,\
Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,\
p90 latency,p95 latency,p99 latency
2,1571.5,6,1000,2,48,3472,616,3,4892,11605,12002,15138
"""


def test_perf_analyzers_csv_is_read_in_milliseconds(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text(CSV)
    point = read_point(file, Sweep("lpr", "system", 8, (2,)), 2)
    assert point.plates_per_s == 1571.5
    assert (point.p50_ms, point.p95_ms, point.p99_ms) == (4.892, 12.002, 15.138)
    assert point.server_ms == pytest.approx(4.138)
    assert point.network_ms == pytest.approx(1.009)


def test_request_rates_are_parts_of_the_best_rate_of_single_pictures() -> None:
    points = [
        Point("lpr", "none", 1, 1, False, plates_per_s=100.0),
        Point("lpr", "none", 1, 2, False, plates_per_s=200.0),
        Point("lpr", "none", 32, 2, False, plates_per_s=900.0),
        Point("lpr", "system", 1, 2, False, plates_per_s=500.0),
    ]
    assert rate_plan(points) == [Sweep("lpr", "none", 1, (50, 100, 150), by_rate=True)]


def test_sweeps_cover_models_memories_and_batches() -> None:
    sweeps = plan(["lpr", "lpr_image"], [1, 8], quick=False)
    assert {(s.model, s.memory, s.batch) for s in sweeps} == {
        (model, memory, batch)
        for model in ("lpr", "lpr_image")
        for memory in ("none", "system")
        for batch in (1, 8)
    }
    arguments = command(Path("p"), "h:1", sweeps[1], 2, Path("i"), 500, Path("o"))
    assert arguments[arguments.index("--shared-memory") + 1] == "system"
    assert arguments[arguments.index("--concurrency-range") + 1] == "2"


def write_locust(prefix: Path, requests: int, failures: dict[str, int]) -> None:
    columns = ["Type", "Name", "Request Count", "Failure Count", "Requests/s", "50%", "95%", "99%"]
    with Path(f"{prefix}_stats.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerow(["grpc", "lpr_image", requests, 1, 1, 1, 1, 1])
        writer.writerow(["", "Aggregated", requests, sum(failures.values()), 12.5, 3, 8, 9])
    with Path(f"{prefix}_failures.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Method", "Name", "Error", "Occurrences"])
        writer.writerows(["grpc", "lpr_image", name, n] for name, n in failures.items())


def test_locusts_totals_and_classes_of_failures(tmp_path: Path) -> None:
    write_locust(tmp_path / "s", 100, {"ServerUnavailable": 2, "InvalidPicture: corrupt": 1})
    result = read_result("steady", tmp_path / "s")
    assert (result.requests, result.failures, result.rate, result.p99_ms) == (100, 3, 12.5, 9)
    assert result.failure_classes == {"ServerUnavailable": 2, "InvalidPicture: corrupt": 1}


def test_a_run_without_requests_is_an_error(tmp_path: Path) -> None:
    write_locust(tmp_path / "s", 0, {})
    with pytest.raises(LprnetError, match="no request was made"):
        read_result("steady", tmp_path / "s")


def test_answers_of_triton_are_checked() -> None:
    answer = service_pb2.ModelInferResponse()
    answer.outputs.add(name="plate", shape=[1, 1])
    from load_tests.requests_raw import _check

    _check(answer.outputs[0].shape[0], 1)
    with pytest.raises(LprnetError, match="1 plates for 2"):
        _check(answer.outputs[0].shape[0], 2)
