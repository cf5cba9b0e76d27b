"""The engine gate: TensorRT-RTX builds our models on a machine without a GPU, and no others."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from sample_readers import exported

from lprnet import contract
from lprnet.engine_record import EngineRecordError, check_record, read_record
from lprnet.model_file import ModelError, verify_file
from lprnet.plate_spec import PlateSpec

pytest.importorskip("tensorrt_rtx", reason="the engine gate needs tensorrt-rtx-cu13")

import build_engine  # isort: skip - sample_readers says where build/ is
from half import to_half  # isort: skip
from model_metadata import sign  # isort: skip
from runtimes import load_runner, trial_pictures  # isort: skip
from tensorrt_network import EngineError, PlanBuilder, Profile, find_tensorrt  # isort: skip

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "model_repository").glob("*/1/*.onnx"))
RTX = "tensorrt-rtx"


def _build(data: bytes, **options: object) -> build_engine.Plan:
    return build_engine.build_plan(data, "model.onnx", flavour=RTX, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_models_build(path: Path) -> None:
    _check_plan(_build(path.read_bytes()), path)


@pytest.mark.parametrize(
    ("io", "precision", "build_as"),
    [
        ("lprnet", "fp32", "fp32"),
        ("lprnet", "fp32", "fp16"),
        ("lprnet", "int8", "int8"),
        ("tao", "fp32", "fp16"),
    ],
)
def test_every_precision_builds(io: str, precision: str, build_as: str) -> None:
    path = exported(io=io, precision=precision)
    plan = _build(path.read_bytes(), precision=build_as, profile=Profile(1, 4, 32))
    _check_plan(plan, path)
    assert plan.record.precision == build_as
    assert plan.record.max_batch == 32
    assert "[N, 48]" in plan.record.outputs[0]


def _check_plan(plan: build_engine.Plan, path: Path) -> None:
    assert len(plan.data) > 100_000
    record = plan.record
    assert record.onnx_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record.plan_sha256 == hashlib.sha256(plan.data).hexdigest()
    assert record.plate_spec_digest == verify_file(path).spec.digest
    assert record.flavour == RTX


def test_network_and_profile_are_what_was_asked_for() -> None:
    builder = PlanBuilder(find_tensorrt(RTX)[0], "model.onnx")
    builder.parse(exported().read_bytes())
    builder.check_tensors(PlateSpec(), "lprnet")
    builder.add_profile(Profile(1, 8, 64))
    image = builder.network.get_input(0)
    assert (image.name, image.dtype.name, tuple(image.shape)) == (
        contract.IMAGE,
        "UINT8",
        (-1, 3, 48, 96),
    )
    assert builder.config.num_optimization_profiles == 1


def test_half_precision_reads_the_same() -> None:
    """What the FP16 plan is built from, run by ONNX Runtime, against the FP32 model."""
    reference = load_runner(exported(), "onnxruntime")
    half = to_half(onnx.load(exported()))
    weights = {t.name: t.data_type for t in half.graph.initializer}
    convolutions = [node for node in half.graph.node if node.op_type == "Conv"]
    assert {weights[node.input[1]] for node in convolutions} == {TensorProto.FLOAT16}
    session = onnxruntime.InferenceSession(
        half.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    crops = trial_pictures(PlateSpec(), 16, seed=8)
    ids, probs = session.run([contract.CHAR_IDS, contract.CHAR_PROBS], {contract.IMAGE: crops})
    wanted, wanted_probs = reference(crops)
    assert (ids != wanted).mean() < 0.02
    assert np.abs(probs - wanted_probs).max() < 0.05
    assert ids.dtype == np.int32
    assert probs.dtype == np.float32


def _signed(model: onnx.ModelProto) -> bytes:
    return sign(model, PlateSpec(), network="small", precision="fp32")


def test_wrong_operator_fails_the_gate() -> None:
    model = onnx.load(exported())
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "MelWeightMatrix"
    with pytest.raises(EngineError, match=r"ONNX parser refuses it \(node 'Relu_\d+'\)"):
        _build(_signed(model))


def test_foreign_operator_fails_the_gate() -> None:
    model = onnx.load(exported())
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain = "OurOwnRelu", "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(EngineError, match="ONNX parser refuses it"):
        _build(_signed(model))


def test_wrong_type_fails_the_gate() -> None:
    """The file says INT32, the graph computes INT64: verifying by the file alone passes it."""
    model = onnx.load(exported())
    cast = next(node for node in model.graph.node if contract.CHAR_IDS in node.output)
    cast.attribute[0].i = TensorProto.INT64
    with pytest.raises(EngineError, match="char_ids INT64"):
        _build(_signed(model))


def test_wrong_shape_fails_the_gate() -> None:
    """The graph computes over another axis than the file says."""
    model = onnx.load(exported())
    arg_max = next(node for node in model.graph.node if node.op_type == "ArgMax")
    next(a for a in arg_max.attribute if a.name == "axis").i = 2
    with pytest.raises(EngineError, match=r"char_ids INT32 \[N, 37\]"):
        _build(_signed(model))


def test_unsigned_quantization_fails_the_gate() -> None:
    """TensorRT reads UINT8 as INT8, clips, and only warns: answers would be silently wrong."""
    model = onnx.load(exported(precision="int8"))
    zeros = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for tensor in model.graph.initializer:
        if tensor.name in zeros:
            tensor.data_type = TensorProto.UINT8
    with pytest.raises(EngineError, match="the plan would be wrong"):
        _build(sign(model, PlateSpec(), network="small", precision="int8"))


@pytest.mark.parametrize("text", ["8:1:64", "0:1:2", "1:2", "1:x:3", "-1:2:3", ""])
def test_wrong_profile_is_refused(text: str) -> None:
    with pytest.raises(EngineError, match="give MIN:OPT:MAX"):
        Profile.parse(text)


def test_profile_that_the_network_cannot_take_fails_the_gate() -> None:
    """A network with a fixed batch cannot serve other batch sizes."""
    model = onnx.load(exported())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(ModelError, match=r"image UINT8 \[2, 3, 48, 96\]"):
        _build(_signed(model))
    builder = PlanBuilder(find_tensorrt(RTX)[0], "fixed.onnx")
    builder.parse(model.SerializeToString())
    with pytest.raises(
        EngineError, match="cannot have the profile 1:8:64: its batch is fixed at 2"
    ):
        builder.add_profile(Profile(1, 8, 64))


def test_precision_that_the_model_does_not_have() -> None:
    with pytest.raises(ModelError, match="make the INT8 ONNX with `lprnet quantize`"):
        _build(exported().read_bytes(), precision="int8")
    with pytest.raises(ModelError, match="give the FP32 export"):
        _build(exported(precision="int8").read_bytes(), precision="fp16")


def test_verb_writes_plan_and_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    build_engine.add_arguments(parser)
    plan = tmp_path / "model.plan"
    arguments = [str(exported()), "--out", str(plan), "--profile", "1:2:4", "--flavour", RTX]
    assert build_engine.run(parser.parse_args(arguments)) == 0
    assert "batch 1:2:4" in capsys.readouterr().out
    record = read_record(plan)
    with pytest.raises(EngineRecordError, match=r"tensorrt-rtx|without a GPU"):
        check_record(
            record,
            tensorrt_version=record.tensorrt_version,
            gpu_name=record.gpu_name,
            compute_capability=record.compute_capability,
            onnx_sha256=record.onnx_sha256,
            plate_spec_digest=record.plate_spec_digest,
            largest_batch=4,
        )
