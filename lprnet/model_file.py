"""Tell a signed ONNX from any other file.

The metadata of every model that we write holds the plate spec, the network's name, the precision,
a digest of the graph with its weights, and a seal over everything else, that digest included. So
a file that was changed afterwards, by hand or by a tool, is refused, and weights cannot be paired
with another charset. The seal guards against accidents and mix-ups; no key goes into it.

Builder, repository and server check through this one module; it needs no onnx package.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lprnet import contract
from lprnet.errors import LprnetError, SpecError
from lprnet.onnx_outline import OnnxOutline, TensorInfo, WireError, read_outline
from lprnet.plate_spec import PlateSpec

PRECISIONS: Final = ("fp32", "fp16", "int8")
_REQUIRED: Final = (
    contract.META_SPEC,
    contract.META_SPEC_DIGEST,
    contract.META_WEIGHTS_DIGEST,
    contract.META_VERSION,
    contract.META_NETWORK,
    contract.META_PRECISION,
    contract.META_SEAL,
)


class ModelError(LprnetError):
    """A model file that is not ours, damaged, edited, or does not fit its plate spec."""


@dataclass(frozen=True)
class ModelFacts:
    """What a verified model file is.

    Attributes:
        spec: charset, blank and time steps of its output.
        network: e.g. "small".
        precision: one of `PRECISIONS`.
        version: package version that exported it.
        io: "lprnet" (UINT8 input) or "tao" (FP32 0..1 input, TAO's names).
        weights_digest: of the graph with its weights, hexadecimal SHA-256.
        file_digest: SHA-256 of the whole file, hexadecimal.
        inputs, outputs: its tensors.
        metadata: all of its metadata.
    """

    spec: PlateSpec
    network: str
    precision: str
    version: str
    io: str
    weights_digest: str
    file_digest: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metadata: dict[str, str]

    @property
    def description(self) -> str:
        """Network, precision and version in a few words, for logs."""
        return f"{self.network} {self.precision} {self.version}"

    @property
    def temperature(self) -> float:
        """What the logits are divided by before the softmax."""
        return float(self.metadata.get(contract.META_TEMPERATURE, "1.0"))


def tensors(spec: PlateSpec, io: str) -> tuple[TensorInfo, TensorInfo, TensorInfo]:
    """(image, ids, probabilities) that a model of `spec` must have; the dynamic batch is "N"."""
    if io == "tao":
        names = contract.TAO_IMAGE, contract.TAO_CHAR_IDS, contract.TAO_CHAR_PROBS
    else:
        names = contract.IMAGE, contract.CHAR_IDS, contract.CHAR_PROBS
    return (
        TensorInfo(names[0], "FP32" if io == "tao" else "UINT8", ("N", *spec.image_shape)),
        TensorInfo(names[1], "INT32", ("N", spec.time_steps)),
        TensorInfo(names[2], "FP32", ("N", spec.time_steps)),
    )


def verify(data: bytes, name: str) -> ModelFacts:
    """Check a model file's bytes.

    Args:
        name: how messages call it, e.g. its file name.

    Raises:
        ModelError: not an ONNX file, truncated, not exported by us, edited after signing, an
            invalid plate spec, or inputs and outputs that the spec does not call for.
    """
    try:
        outline = read_outline(data)
    except WireError as error:
        raise ModelError(f"{name}: {error}; copy or export it again") from error
    missing = [key for key in _REQUIRED if not outline.metadata.get(key)]
    if missing:
        raise ModelError(
            f"{name} was not written by `lprnet export`: its metadata lacks {', '.join(missing)}"
        )
    if outline.external_data:
        raise ModelError(f"{name} keeps weights in other files: export it again as one file")
    graph_digest = hashlib.sha256(outline.graph).hexdigest()
    if graph_digest != outline.metadata[contract.META_WEIGHTS_DIGEST]:
        raise ModelError(
            f"{name}: its graph or weights were changed after it was signed: export it again"
        )
    if seal(outline.rest, outline.metadata) != outline.metadata[contract.META_SEAL]:
        raise ModelError(f"{name}: its metadata was changed after it was signed: export it again")
    return _facts(outline, data, name)


def verify_file(path: Path) -> ModelFacts:
    """`verify` on a file. Raises ModelError, also when it cannot be read."""
    return verify(read_model_file(path), path.name)


def read_model_file(path: Path) -> bytes:
    """Bytes of a model file. Raises ModelError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}") from error


def require_spec(facts: ModelFacts, spec: PlateSpec, name: str) -> None:
    """Refuse a model of another spec than the one that is asked for.

    Raises:
        ModelError: naming what differs.
    """
    if facts.spec.digest == spec.digest:
        return
    ours, theirs = spec.to_dict(), facts.spec.to_dict()
    differ = ", ".join(key for key in ours if ours[key] != theirs[key])
    raise ModelError(f"{name} was exported for another plate spec: {differ} differ")


def seal(rest: bytes, metadata: dict[str, str]) -> str:
    """SHA-256 over `OnnxOutline.rest` and all metadata but the seal itself, hexadecimal."""
    digest = hashlib.sha256(rest)
    for key in sorted(metadata):
        if key != contract.META_SEAL:
            value = metadata[key]
            digest.update(f"{len(key)}:{key}{len(value)}:{value}".encode())
    return digest.hexdigest()


def _facts(outline: OnnxOutline, data: bytes, name: str) -> ModelFacts:
    metadata = outline.metadata
    try:
        spec = PlateSpec.from_json(metadata[contract.META_SPEC])
    except SpecError as error:
        raise ModelError(f"{name}: {error}") from error
    if spec.digest != metadata[contract.META_SPEC_DIGEST]:
        raise ModelError(f"{name}: its plate spec does not have the digest that it names")
    if metadata[contract.META_PRECISION] not in PRECISIONS:
        raise ModelError(f"{name}: unknown precision {metadata[contract.META_PRECISION]!r}")
    is_tao = any(tensor.name == contract.TAO_IMAGE for tensor in outline.inputs)
    io = "tao" if is_tao else "lprnet"
    image, ids, probs = tensors(spec, io)
    if outline.inputs != (image,) or set(outline.outputs) != {ids, probs}:
        found = "; ".join(map(str, (*outline.inputs, *outline.outputs)))
        raise ModelError(
            f"{name} does not fit its plate spec: it has {found}; "
            f"needed are {image}; {ids}; {probs}"
        )
    return ModelFacts(
        spec=spec,
        network=metadata[contract.META_NETWORK],
        precision=metadata[contract.META_PRECISION],
        version=metadata[contract.META_VERSION],
        io=io,
        weights_digest=metadata[contract.META_WEIGHTS_DIGEST],
        file_digest=hashlib.sha256(data).hexdigest(),
        inputs=outline.inputs,
        outputs=outline.outputs,
        metadata=metadata,
    )
