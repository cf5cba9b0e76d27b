"""Write the ONNX of a checkpoint.

The graph takes raw pixels, scales them, runs the network, divides the logits by the calibration
temperature and returns the best class and its probability at each time step. The plate spec,
digests and versions go into its metadata, and a record with the file's digest beside it. Before
the file is put in place, ONNX Runtime must give PyTorch's answers on test pictures.

Examples:
  lprnet export runs/eu/best.pt --out model.onnx
  lprnet export runs/eu/best.pt --out tao.onnx --io tao        # names and input of NVIDIA TAO
  lprnet export runs/eu/best.pt --out model.onnx --temperature 1.2
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
import onnxslim
import torch
from model_metadata import sign
from runtimes import OnnxRuntimeRunner, TorchRunner, disagreement, trial_pictures
from served_form import served_form
from torch import Tensor, nn

from lprnet import contract
from lprnet.errors import LprnetError
from lprnet.model_file import ModelError, ModelFacts, tensors, verify
from lprnet.outputs import refuse_to_overwrite
from lprnet.plate_spec import PlateSpec
from training.shipped import named_weights

OPSET = 18
"""Run by ONNX Runtime 1.15 and later, OpenVINO, TensorRT 8.6 to 11 and TensorRT-RTX."""

IR_VERSION = 9
"""Read by the ONNX Runtime of Triton 23.06 and later."""

PROBABILITY_TOLERANCE = 1e-4
"""Largest difference of a probability to PyTorch that is rounding and not a mistake."""


class Reader(nn.Module):
    """The network as it is served: pixels in, classes and probabilities out.

    Args:
        network: FP32 [N, 3, H, W] in 0..1 -> logits [N, T, classes].
        temperature: above 0; the logits are divided by it before the softmax. It changes
            probabilities only, never a class.
        scaled_input: the input is FP32 0..1 already (TAO), else UINT8 0..255.
    """

    def __init__(self, network: nn.Module, temperature: float, scaled_input: bool) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.scaled_input = scaled_input

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] -> best class INT32 [N, T] and its probability FP32 [N, T]."""
        pixels = image if self.scaled_input else image.to(torch.float32) * (1 / 255)
        logits = self.network(pixels).transpose(1, 2)  # [N, classes, T]: as the head leaves them
        probabilities = torch.softmax(logits / self.temperature, dim=1)
        # The class comes from the logits: temperature and rounding cannot change it.
        return logits.argmax(dim=1).to(torch.int32), probabilities.amax(dim=1)


def export(
    network: nn.Module,
    spec: PlateSpec,
    path: Path,
    *,
    network_name: str,
    io: str = "lprnet",
    temperature: float = 1.0,
    extra: dict[str, str] | None = None,
) -> ModelFacts:
    """Write `path` and its record `path` with suffix .json.

    Args:
        network: in evaluation mode or not; its mode is restored.
        io: "lprnet" or "tao".
        extra: metadata beyond the contract's, e.g. the training run's revision.

    Raises:
        ModelError: when the exported graph does not answer like the network.
        LprnetError: for a temperature that is not above 0 or a file that cannot be written.
    """
    if not 0 < temperature < float("inf"):
        raise LprnetError(f"the temperature must be above 0, not {temperature}")
    training = network.training
    network.eval()
    try:
        reader = Reader(served_form(network), temperature, io == "tao").eval()
        model = _trace(reader, spec, io)
        entries = {contract.META_TEMPERATURE: repr(float(temperature)), **(extra or {})}
        data = sign(model, spec, network=network_name, precision="fp32", extra=entries)
        facts = verify(data, path.name)
        _prove(data, TorchRunner(network, spec, temperature), path.name)
    finally:
        network.train(training)
    write_model(path, data, facts)
    return facts


def require_onnx_name(path: Path) -> None:
    """Raise LprnetError for another name than *.onnx: the record's would not be apart from others'.

    `model.int8` would have the record of `model.onnx`, and `model.json` be its own.
    """
    if path.suffix != ".onnx":
        raise LprnetError(f"--out {path}: name a file that ends in .onnx; its record ends in .json")


def write_model(path: Path, data: bytes, facts: ModelFacts, **record: Any) -> None:
    """Put a signed model in place, and its record beside it.

    Raises:
        LprnetError: when the folder cannot be written.
    """
    values = {
        "onnx_sha256": facts.file_digest,
        "plate_spec_digest": facts.spec.digest,
        "weights_digest": facts.weights_digest,
        "version": facts.version,
        "network": facts.network,
        "precision": facts.precision,
        "temperature": facts.temperature,
        **record,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.with_suffix(".json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise LprnetError(f"cannot write {path}: {error.strerror}") from error


def _trace(reader: Reader, spec: PlateSpec, io: str) -> onnx.ModelProto:
    """Graph of the reader: simplified, nothing in it but what is computed."""
    image, ids, probs = tensors(spec, io)
    dtype = torch.float32 if io == "tao" else torch.uint8
    # Two pictures: a batch of one would be taken for a constant.
    example = torch.zeros(2, *spec.image_shape, dtype=dtype)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision; we do not
    with warnings.catch_warnings():
        # Of the exporter about its own code, and about the LSTM's cached list of weights.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "The tensor attributes .*flat_weights", UserWarning)
        program = torch.onnx.export(
            reader,
            (example,),
            input_names=[image.name],
            output_names=[ids.name, probs.name],
            dynamic_shapes={"image": {0: torch.export.Dim("N", min=1)}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ModelError("torch.onnx.export returned no program")
    model: onnx.ModelProto = onnxslim.slim(program.model_proto)
    return tidy(model, spec, io)


def tidy(model: onnx.ModelProto, spec: PlateSpec, io: str) -> onnx.ModelProto:
    """Drop what the exporter notes about the source code, name nodes, write full shapes."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "lprnet", "", ""
    graph = model.graph
    graph.name, graph.doc_string = "lprnet", ""
    del model.functions[:], graph.metadata_props[:], graph.value_info[:]
    for index, node in enumerate(graph.node):
        node.name, node.doc_string = f"{node.op_type}_{index}", ""
        del node.metadata_props[:]
    wanted = tensors(spec, io)
    for value, info in zip((*graph.input, *graph.output), wanted, strict=True):
        del value.metadata_props[:]
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for axis in info.shape:
            if isinstance(axis, int):
                shape.dim.add().dim_value = axis
            else:
                shape.dim.add().dim_param = axis
    for weights in graph.initializer:
        del weights.metadata_props[:]
        weights.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    return model


def _prove(data: bytes, network: TorchRunner, name: str) -> None:
    """Compare with PyTorch on test pictures, at several batch sizes."""
    session = OnnxRuntimeRunner(data, name)
    for batch in (1, 2, 7):
        difference = disagreement(network, session, trial_pictures(network.spec, batch))
        if difference > PROBABILITY_TOLERANCE:
            raise ModelError(
                f"{name}: ONNX Runtime differs from PyTorch by {difference:.2g} in a probability "
                f"at batch {batch}, more than {PROBABILITY_TOLERANCE}: the graph is wrong"
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `lprnet export`."""
    parser.add_argument(
        "checkpoint",
        type=named_weights,
        metavar="CKPT",
        help="checkpoint that training wrote; 'shipped' for our own",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="ONNX to write")
    parser.add_argument(
        "--io",
        choices=("lprnet", "tao"),
        default="lprnet",
        help="lprnet: UINT8 pixels (default); tao: FP32 0..1 and the names that DeepStream knows",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        help="divide the logits by it (default: the calibration in the checkpoint)",
    )


def deepstream_caveat(spec: PlateSpec) -> str | None:
    """What DeepStream's stock parser leaves unread of this network's answer; None: nothing.

    Source: nvinfer_custom_lpr_parser.cpp of NVIDIA's deepstream_lpr_app, which takes the input's
    width / 4 for the number of steps whatever the output's shape.
    """
    read = spec.width_px // 4
    if spec.time_steps <= read:
        return None
    return (
        f"DeepStream's stock parser reads {read} of these {spec.time_steps} steps: one-line plates "
        "whole, of two-line plates the upper line only. For those set its seq_len to "
        f"{spec.time_steps}, or export a baseline network, which has {read}"
    )


def run(args: argparse.Namespace) -> int:
    """`lprnet export`."""
    from training.checkpoint import load_checkpoint  # only the verb needs it

    refuse_to_overwrite(args.out, args.checkpoint)
    require_onnx_name(args.out)
    checkpoint = load_checkpoint(args.checkpoint)
    temperature = checkpoint.temperature if args.temperature is None else args.temperature
    facts = export(
        checkpoint.network,
        checkpoint.spec,
        args.out,
        network_name=checkpoint.network_name,
        io=args.io,
        temperature=temperature,
        extra={contract.META_REVISION: checkpoint.revision},
    )
    image, *outputs = facts.inputs + facts.outputs
    print(f"{args.out}: {facts.network}, {image} -> {', '.join(map(str, outputs))}")
    if args.io == "tao" and (caveat := deepstream_caveat(checkpoint.spec)):
        print(f"note: {caveat}")
    print(f"temperature {temperature:g}, weights {facts.weights_digest[:12]}, opset {OPSET}")
    return 0
