"""Every config.pbtxt in git, parsed through Triton's protobuf, against contract and plate spec."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from lprnet import contract
from lprnet.image import DEFAULT_LIMITS
from lprnet.plate_spec import DEFAULT_SPEC

REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"
CONFIGS = sorted(
    path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob("*/**/*.pbtxt")
)
CPU_CONFIGS = ("cpu", "onnxruntime", "openvino")

STEPS = [DEFAULT_SPEC.time_steps]
SLOTS = [contract.MAX_CHARACTERS]
TENSORS = {
    contract.IMAGE: (pb.TYPE_UINT8, list(DEFAULT_SPEC.image_shape)),
    contract.CHAR_IDS: (pb.TYPE_INT32, STEPS),
    contract.CHAR_PROBS: (pb.TYPE_FP32, STEPS),
    contract.ENCODED: (pb.TYPE_STRING, [1]),
    contract.PLATE: (pb.TYPE_STRING, [1]),
    contract.CONFIDENCE: (pb.TYPE_FP32, [1]),
    contract.CHAR_CONFIDENCES: (pb.TYPE_FP32, SLOTS),
    contract.PLATE_IDS: (pb.TYPE_INT32, SLOTS),
}
ENGINE_OUTPUT = {contract.CHAR_IDS, contract.CHAR_PROBS}
TEXT_OUTPUT = {
    contract.PLATE,
    contract.CONFIDENCE,
    contract.CHAR_CONFIDENCES,
    contract.PLATE_IDS,
}
MODELS = {  # inputs, outputs
    contract.ENGINE_MODEL: ({contract.IMAGE}, ENGINE_OUTPUT),
    contract.DECODER_MODEL: (ENGINE_OUTPUT, TEXT_OUTPUT),
    contract.IMAGE_DECODER_MODEL: ({contract.ENCODED}, {contract.IMAGE}),
    contract.CROP_ENSEMBLE: ({contract.IMAGE}, TEXT_OUTPUT),
    contract.IMAGE_ENSEMBLE: ({contract.ENCODED}, TEXT_OUTPUT),
}


def parse(name: str) -> pb.ModelConfig:
    return text_format.Parse((REPOSITORY / name).read_text(), pb.ModelConfig())


def effective(model: str, profile: str) -> pb.ModelConfig:
    """What tritonserver takes with --model-config-name=profile."""
    named = REPOSITORY / model / "configs" / f"{profile}.pbtxt"
    return parse(f"{model}/configs/{profile}.pbtxt" if named.exists() else f"{model}/config.pbtxt")


def test_the_models_are_those_of_the_contract() -> None:
    assert {path.parent.name for path in REPOSITORY.glob("*/config.pbtxt")} == set(MODELS)


@pytest.mark.parametrize("name", CONFIGS)
def test_names_types_and_shapes(name: str) -> None:
    config = parse(name)
    assert config.name == name.split("/")[0]
    inputs, outputs = MODELS[config.name]
    for tensors, expected in ((config.input, inputs), (config.output, outputs)):
        assert {tensor.name for tensor in tensors} == expected
        for tensor in tensors:
            assert (tensor.data_type, list(tensor.dims)) == TENSORS[tensor.name], tensor.name


@pytest.mark.parametrize("name", CONFIGS)
def test_every_model_batches(name: str) -> None:
    config = parse(name)
    assert config.max_batch_size in (contract.MAX_BATCH_CPU, contract.MAX_BATCH_GPU)
    if config.platform == "ensemble":
        return
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    # Where a queue has a policy, Triton's batcher sleeps for half a second beside fewer.
    counts = {contract.IMAGE_DECODER_MODEL: 4, contract.DECODER_MODEL: 1}
    python_engine = config.name == contract.ENGINE_MODEL and config.backend == "python"
    count = counts.get(config.name, 3 if python_engine else 2)
    assert sum(group.count for group in config.instance_group) == count
    if config.backend == "python" and count > 1:  # who comes first takes all that comes alone
        priorities = [group.rate_limiter.priority for group in config.instance_group]
        assert priorities == [1000**place for place in range(count)]
    if config.name == contract.DECODER_MODEL:
        # As it does beside a quick model whose queue has a policy or priorities.
        assert not config.dynamic_batching.HasField("default_queue_policy")
        assert config.dynamic_batching.priority_levels == 0
    else:  # what asks for no priority must not go before what asks for the first
        assert config.dynamic_batching.priority_levels == 2
        assert config.dynamic_batching.default_priority_level == 2


@pytest.mark.parametrize("profile", [*CPU_CONFIGS, "tensorrt"])
def test_an_ensemble_sends_no_larger_batches_than_its_steps_take(profile: str) -> None:
    gpu = profile == "tensorrt"
    for name in (contract.CROP_ENSEMBLE, contract.IMAGE_ENSEMBLE):
        ensemble = effective(name, profile)
        steps = [effective(step.model_name, profile) for step in ensemble.ensemble_scheduling.step]
        assert ensemble.max_batch_size == min(step.max_batch_size for step in steps)
    crops = effective(contract.CROP_ENSEMBLE, profile).max_batch_size
    assert crops == (contract.MAX_BATCH_GPU if gpu else contract.MAX_BATCH_CPU)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("lpr/")])
def test_ensembles_connect_their_steps_by_equal_names(name: str) -> None:
    check_ensemble(parse(name), [contract.ENGINE_MODEL, contract.DECODER_MODEL])


def test_the_image_ensemble_decodes_first() -> None:
    check_ensemble(
        parse("lpr_image/config.pbtxt"),
        [contract.IMAGE_DECODER_MODEL, contract.ENGINE_MODEL, contract.DECODER_MODEL],
    )


def check_ensemble(config: pb.ModelConfig, models: list[str]) -> None:
    steps = config.ensemble_scheduling.step
    assert [step.model_name for step in steps] == models
    for step in steps:
        inputs, outputs = MODELS[step.model_name]
        assert dict(step.input_map) == {name: name for name in inputs}
        assert dict(step.output_map) == {name: name for name in outputs}


def test_the_default_engine_is_a_tensorrt_plan_with_cuda_graphs() -> None:
    config = parse("lprnet/config.pbtxt")
    assert (config.platform, config.default_model_filename) == ("tensorrt_plan", "model.plan")
    assert config.max_batch_size == contract.MAX_BATCH_GPU
    cuda = config.optimization.cuda
    assert cuda.graphs
    assert cuda.busy_wait_events
    assert cuda.output_copy_stream
    # Graphs are captured for these sizes only.
    assert config.max_batch_size in config.dynamic_batching.preferred_batch_size


@pytest.mark.parametrize("profile", CPU_CONFIGS)
def test_cpu_engines(profile: str) -> None:
    config = parse(f"lprnet/configs/{profile}.pbtxt")
    assert config.backend == {"cpu": "python"}.get(profile, profile)
    assert config.max_batch_size == contract.MAX_BATCH_CPU
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU
    folder = REPOSITORY / contract.ENGINE_MODEL / "1"
    int8 = (folder / contract.INT8_MODEL_FILE).is_file()
    if profile == "cpu":
        assert config.parameters["model_file"].string_value == "auto"
    elif profile == "openvino" and int8:
        assert config.default_model_filename == contract.INT8_MODEL_FILE
    else:
        assert config.default_model_filename == contract.MODEL_FILE


def test_limits_of_pictures_are_parameters_with_the_core_s_values() -> None:
    parameters = parse("image_decoder/config.pbtxt").parameters
    for name, value in asdict(DEFAULT_LIMITS).items():
        assert float(parameters[name].string_value) == value
