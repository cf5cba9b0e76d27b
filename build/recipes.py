"""Which settings of the INT8 quantizer suit a model: try a few, measure each on held-out crops.

Rounding changes the answer of a few doubtful plates in a hundred, and which ones is partly luck.
The settings differ in the ranges of activations, and in which small layers stay in float: the
first convolution sees raw pixels, and the ones in front of a softmax decide between characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from labelled import LabelledCrops, run_batches
from runtimes import Runner

from lprnet.ctc import decode


@dataclass(frozen=True)
class Recipe:
    """Settings of one attempt.

    Attributes:
        name: for the record and the printed table.
        widen: factor on the ranges of activations, see `quantizers.quantize_nncf`.
        float_first: keep the first convolution in float.
        float_last: keep the convolutions in front of a softmax in float.
    """

    name: str
    widen: float = 1.2
    float_first: bool = False
    float_last: bool = False


RECIPES = (
    Recipe("float head", float_last=True),
    Recipe("float ends", float_first=True, float_last=True),
    Recipe("float ends, wide", widen=1.35, float_first=True, float_last=True),
)
"""In order of speed."""


def float_nodes(model: onnx.ModelProto, recipe: Recipe) -> list[str]:
    """Names of the convolutions that a recipe keeps in float; attention's own always are."""
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    names = [convolutions[0].name] if recipe.float_first else []
    names += attention_nodes(model)
    if recipe.float_last:
        names += [node.name for node in convolutions if _decides(model, node)]
    return names


def attention_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions that take a softmax or a mean: exact and next to free."""
    makers = {output: node for node in model.graph.node for output in node.output}
    names = []
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        maker = makers.get(node.input[0])
        while maker is not None and maker.op_type in ("Unsqueeze", "Reshape"):
            maker = makers.get(maker.input[0])
        if maker is not None and maker.op_type in ("Softmax", "ReduceMean"):
            names.append(node.name)
    return names


def _decides(model: onnx.ModelProto, convolution: onnx.NodeProto) -> bool:
    """Whether its output reaches a softmax without passing another convolution."""
    reached = set(convolution.output)
    for node in model.graph.node:  # in topological order
        if node is convolution or not reached & set(node.input):
            continue
        if node.op_type == "Softmax":
            return True
        if node.op_type != "Conv":
            reached.update(node.output)
    return False


Answers = tuple[tuple[str, ...], npt.NDArray[np.float32]]
"""Plates and their confidences."""


def answers(runner: Runner, sets: Sequence[LabelledCrops]) -> Answers:
    """What a runner reads in all pictures of some sets."""
    crops = np.concatenate([labelled.crops for labelled in sets])
    batch = decode(*run_batches(runner, crops), runner.spec)
    return batch.plates, batch.confidence


def disagreement(reference: Answers, other: Answers) -> float:
    """Mean over plates: 1 where the text differs, else the difference of the confidences.

    The confidences make it fine enough to tell attempts apart that change few texts.
    """
    same = np.array([a == b for a, b in zip(reference[0], other[0], strict=True)])
    return float(np.where(same, np.abs(reference[1] - other[1]), 1.0).mean())
