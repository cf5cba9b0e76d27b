"""Fine-tuning with quantization: the graph in PyTorch is the runtimes' graph, and it learns."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from sample_readers import exported, pictures

from lprnet.model_file import ModelError

import finetune_int8  # isort: skip - sample_readers says where build/ is
import graph_network  # isort: skip
import quantize  # isort: skip
import recipes  # isort: skip
from quantizers import check_form  # isort: skip


def _graphs() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    return onnx.load(exported(precision="int8")), onnx.load(exported())


def _logits(model: onnx.ModelProto, crops: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    import onnxruntime

    model = copy.deepcopy(model)
    name = graph_network.logits_name(model)
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    )
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_DISABLE_ALL  # as the graph is written
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    answer: np.ndarray = session.run([name], {"image": crops})[0]  # type: ignore[type-arg]
    return answer


def test_it_computes_what_the_runtime_computes_and_goes_back_into_the_same_onnx() -> None:
    int8, origin = _graphs()
    crops = pictures(6, seed=41).crops
    network = graph_network.GraphNetwork(int8, origin)
    with torch.no_grad():
        exact = network(torch.from_numpy(crops), exact=True).numpy()
        quick = network(torch.from_numpy(crops)).numpy()
    wanted = _logits(int8, crops)
    spread = wanted.std()
    # The library rounds some weights to the other neighbour; untrained layers carry that far.
    assert np.abs(exact - wanted).mean() < 0.08 * spread
    assert np.abs(quick - wanted).mean() < 0.1 * spread
    back = network.to_onnx()
    assert check_form(back) == check_form(int8)
    for before, after in zip(int8.graph.initializer, back.graph.initializer, strict=True):
        old, new = onnx.numpy_helper.to_array(before), onnx.numpy_helper.to_array(after)
        assert old.dtype == new.dtype
        assert old.shape == new.shape
        # The library rounds weights in its own way: at most one step off.
        assert np.allclose(old, new, rtol=1e-5, atol=1 if old.dtype == np.int8 else 1e-6)
    assert np.abs(_logits(back, crops) - exact).mean() < 0.02 * spread


def test_it_learns_to_answer_like_the_fp32_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune_int8, "BATCH", 8)
    int8, origin = _graphs()
    coarse = copy.deepcopy(int8)  # far too wide ranges: something to learn
    scales = {n.input[1] for n in coarse.graph.node if n.op_type == "QuantizeLinear"}
    for tensor in coarse.graph.initializer:
        if tensor.name in scales:
            scale = onnx.numpy_helper.to_array(tensor) * np.float32(6)
            tensor.CopyFrom(onnx.numpy_helper.from_array(scale, tensor.name))
    monkeypatch.setattr(finetune_int8, "SCALE_RATE", 0.1)
    tuned = finetune_int8.finetune(coarse, origin, pictures(16, seed=42), 15, threads=1)
    check_form(tuned)
    crops = pictures(16, seed=43).crops
    teacher = finetune_int8.Teacher(origin, 1)(crops)
    before, after = (
        float(finetune_int8.distance(torch.from_numpy(_logits(model, crops)), teacher))
        for model in (coarse, tuned)
    )
    assert after < 0.8 * before


def test_a_worse_result_of_training_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures are given; quantizing, training and signing are real."""
    monkeypatch.setattr(finetune_int8, "BATCH", 4)
    monkeypatch.setattr(quantize, "RECIPES", (recipes.Recipe("one"),))
    data = exported().read_bytes()
    for tuned, taken in ((0.3, "nncf, one"), (0.05, "nncf, one, 1 steps")):
        measured = iter([0.1, 0.1, tuned, tuned])
        monkeypatch.setattr(quantize, "disagreement", lambda *_, m=measured: next(m))
        _, facts = quantize.search(
            data, "m.onnx", pictures(4), [pictures(4, seed=44)], 1, pictures(4, seed=45)
        )
        assert facts.metadata["lprnet.quantizer"] == taken


def test_an_unknown_operator_is_named() -> None:
    int8, origin = _graphs()
    relu = next(node for node in int8.graph.node if node.op_type == "Relu")
    relu.op_type = "Selu"
    with pytest.raises(ModelError, match="does not know Selu"):
        graph_network.GraphNetwork(int8, origin)
    del int8.graph.node[:]
    with pytest.raises(ModelError, match="one ArgMax"):
        graph_network.logits_name(int8)
