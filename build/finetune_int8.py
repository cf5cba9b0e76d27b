"""Quantization-aware fine-tuning: an INT8 graph learns to answer like the FP32 model it came from.

The teacher's probabilities at every time step are the target (Hinton et al. 2015), over plain and
augmented pictures; labels play no part. Weights start unrounded, so that the graph starts where
post-training quantization ended.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import cv2
import numpy as np
import onnx
import torch
from graph_network import GraphNetwork, logits_name
from labelled import LabelledCrops
from runtimes import UInt8Array
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from lprnet.model_file import ModelError
from lprnet.openvino_graph import compile_graph, read_graph
from training.augment import DEFAULT_AUGMENTATION, corners, cut_out, photograph, view_transform
from training.memory import keep_freed_memory

BATCH = 64
LEARNING_RATE = 5e-6  # a rounding step of a weight is about 1e-3
SCALE_RATE = 1e-4  # relative: scales are learnt by their logarithm
WARMUP_SHARE = 0.05
TEMPERATURE = 2.0  # of the distillation: runners-up matter too
PLAIN_SHARE = 0.5  # of the pictures that are not augmented


class Teacher:
    """Logits of the FP32 model, on OpenVINO: PyTorch is several times slower in FP32."""

    def __init__(self, model: onnx.ModelProto, threads: int) -> None:
        graph = onnx.ModelProto()
        graph.CopyFrom(model)
        name = logits_name(graph)
        del graph.graph.output[:]
        graph.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
        compiled = compile_graph(read_graph(graph.SerializeToString()), threads)
        self._request = compiled.create_infer_request()

    def __call__(self, crops: UInt8Array) -> Tensor:
        """UINT8 [N, 3, 48, 96] -> FP32 [N, classes, T]."""
        return torch.from_numpy(next(iter(self._request.infer([crops]).values())).copy())


def batches(crops: UInt8Array, steps: int, seed: int) -> Iterator[UInt8Array]:
    """Pictures in random order, all before any comes again, half of them augmented."""
    rng = np.random.default_rng(seed)
    order = np.zeros(0, np.intp)
    for _ in range(steps):
        while len(order) < BATCH:
            order = np.concatenate([order, rng.permutation(len(crops))])
        chosen, order = order[:BATCH], order[BATCH:]
        yield np.stack([_varied(rng, crops[i]) for i in chosen])


def _varied(rng: np.random.Generator, crop: UInt8Array) -> UInt8Array:
    if rng.random() < PLAIN_SHARE:
        return crop
    image = np.ascontiguousarray(crop.transpose(1, 2, 0))
    settings = DEFAULT_AUGMENTATION
    view = view_transform(rng, corners(image), settings, own_margin=True)
    seen = photograph(rng, cut_out(rng, image, view, settings), settings)
    return np.ascontiguousarray(seen.transpose(2, 0, 1))


def distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence a time step, softened. Logits [N, classes, T] both."""
    wanted = (teacher / TEMPERATURE).log_softmax(1)
    found = (student / TEMPERATURE).log_softmax(1)
    total = F.kl_div(found, wanted, reduction="sum", log_target=True)
    return total * TEMPERATURE**2 / (student.shape[0] * student.shape[2])


def finetune(
    int8: onnx.ModelProto,
    origin: onnx.ModelProto,
    data: LabelledCrops,
    steps: int,
    threads: int = 0,
    seed: int = 0,
) -> onnx.ModelProto:
    """Train `int8` for `steps` of `BATCH` pictures each; returns it with new numbers.

    Args:
        origin: the FP32 model that it was made from.
        data: pictures to learn from; texts are not used.
        threads: of the network; 0 = torch's own choice.

    Raises:
        ModelError: when the loss stops being finite.
    """
    keep_freed_memory()
    cv2.setNumThreads(1)
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    teacher = Teacher(origin, torch.get_num_threads())
    student = GraphNetwork(int8, origin)
    layers = [*student.weights.values(), *student.biases.values()]
    groups = [
        {"params": layers, "lr": LEARNING_RATE},
        {"params": list(student.scales.values()), "lr": SCALE_RATE},
    ]
    optimizer = torch.optim.Adam(groups)
    warmup = max(1, round(WARMUP_SHARE * steps))

    def rate(step: int) -> float:
        fall = 0.5 * (1 + np.cos(np.pi * min(1.0, step / steps)))
        return float(min((step + 1) / warmup, fall))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    hidden = not sys.stderr.isatty()
    bar = tqdm(batches(data.crops, steps, seed), total=steps, desc="fine-tuning", disable=hidden)
    for step, crops in enumerate(bar):
        image = torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)
        loss = distance(student(image), teacher(crops))
        if not torch.isfinite(loss):
            raise ModelError(f"fine-tuning: the loss is not finite at step {step}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{float(loss.detach()):.2e}", refresh=False)
        if step == 0 or (step + 1) % max(1, steps // 10) == 0:
            print(f"fine-tuning step {step + 1}: distance {float(loss.detach()):.2e}", flush=True)
    return student.to_onnx()
