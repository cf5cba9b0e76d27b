"""The record beside a plan: what serving refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from lprnet.engine_record import (
    EngineRecord,
    EngineRecordError,
    check_record,
    read_record,
    record_path,
)

PLAN = b"a plan"
RECORD = EngineRecord(
    flavour="tensorrt",
    tensorrt_version="10.13.3.9",
    gpu_name="NVIDIA L4",
    compute_capability="8.9",
    precision="fp16",
    onnx_sha256="a" * 64,
    plan_sha256=hashlib.sha256(PLAN).hexdigest(),
    plate_spec_digest="b" * 64,
    min_batch=1,
    opt_batch=16,
    max_batch=256,
    inputs=("image UINT8 [N, 3, 48, 96]",),
    outputs=("char_ids INT32 [N, 48]", "char_probs FP32 [N, 48]"),
    built_at="2026-01-01T00:00:00+00:00",
)
HERE: dict[str, Any] = {
    "tensorrt_version": "10.13.3",
    "gpu_name": "NVIDIA L4",
    "compute_capability": "8.9",
    "onnx_sha256": "a" * 64,
    "plate_spec_digest": "b" * 64,
    "largest_batch": 256,
}


def test_a_record_comes_back(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(PLAN)
    record_path(plan).write_text(RECORD.to_json())
    assert record_path(plan).name == "model.plan.json"
    assert read_record(plan) == RECORD
    check_record(RECORD, **HERE)


@pytest.mark.parametrize(
    ("built", "server", "fits"),
    [
        ("10.13.3.9", "10.13.3", True),
        ("10.13.3.9", "10.13.3.9", True),
        ("10.13.3.9", "10.13.3.10", False),
        ("10.13.3.9", "10.14.1", False),
        ("11.1.0.5", "10.13.3", False),
        ("10.13.3.9", "10", False),
        ("10.13.3.9", "", False),
    ],
)
def test_versions(built: str, server: str, fits: bool) -> None:
    record = dataclasses.replace(RECORD, tensorrt_version=built)
    here = {**HERE, "tensorrt_version": server}
    if fits:
        check_record(record, **here)
    else:
        with pytest.raises(EngineRecordError, match=r"built with TensorRT .* build it again with"):
            check_record(record, **here)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gpu_name": "NVIDIA T4"}, "GPU NVIDIA L4, here it is NVIDIA T4"),
        ({"compute_capability": "7.5"}, "compute capability 8.9, here it is 7.5"),
        ({"onnx_sha256": "c" * 64}, "ONNX digest aaaaaaaaaaaa, here it is cccccccccccc"),
        ({"plate_spec_digest": "c" * 64}, "plate spec digest"),
        ({"largest_batch": 257}, "batches of 1 to 256, .* asks for 1 to 257"),
    ],
)
def test_another_machine_or_model_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineRecordError, match=message) as refusal:
        check_record(RECORD, **{**HERE, **change})
    assert "lprnet engine" in str(refusal.value)


def test_plans_that_only_prove_a_model_are_refused() -> None:
    with pytest.raises(EngineRecordError, match="without a GPU"):
        check_record(dataclasses.replace(RECORD, gpu_name=""), **HERE)
    with pytest.raises(EngineRecordError, match="tensorrt-rtx, which Triton does not load"):
        check_record(dataclasses.replace(RECORD, flavour="tensorrt-rtx"), **HERE)


def test_a_plan_without_single_pictures_is_refused() -> None:
    with pytest.raises(EngineRecordError, match="batches of 2 to 256"):
        check_record(dataclasses.replace(RECORD, min_batch=2), **HERE)


def test_another_plan_or_no_record_is_refused(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(PLAN)
    with pytest.raises(EngineRecordError, match=r"cannot read model\.plan\.json"):
        read_record(plan)
    record_path(plan).write_text(RECORD.to_json())
    plan.write_bytes(PLAN + b"!")
    with pytest.raises(EngineRecordError, match=r"is not the plan of model\.plan\.json"):
        read_record(plan)


@pytest.mark.parametrize(
    "change", [{"max_batch": "256"}, {"inputs": "x"}, {"extra": 1}, {"gpu_name": 3}]
)
def test_malformed_records_are_refused(change: dict[str, Any]) -> None:
    values = json.loads(RECORD.to_json()) | change
    with pytest.raises(EngineRecordError, match="engine record"):
        EngineRecord.from_json(json.dumps(values))
    with pytest.raises(EngineRecordError, match="not JSON"):
        EngineRecord.from_json("{")
