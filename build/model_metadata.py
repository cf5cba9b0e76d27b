"""Sign an exported ONNX: write what `lprnet.model_file` verifies into its metadata."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from lprnet import __version__, contract
from lprnet.model_file import PRECISIONS, ModelError, seal
from lprnet.onnx_outline import read_outline
from lprnet.plate_spec import PlateSpec

if TYPE_CHECKING:
    import onnx


def sign(
    model: onnx.ModelProto,
    spec: PlateSpec,
    *,
    network: str,
    precision: str,
    extra: dict[str, str] | None = None,
) -> bytes:
    """Write the metadata into `model` (what it had is replaced) and return the signed file.

    Args:
        precision: one of `PRECISIONS`.
        extra: further entries, e.g. the temperature; sealed like the others.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    del model.metadata_props[:]
    outline = read_outline(model.SerializeToString(deterministic=True))
    values = {
        **(extra or {}),
        contract.META_SPEC: spec.to_json(),
        contract.META_SPEC_DIGEST: spec.digest,
        contract.META_VERSION: __version__,
        contract.META_NETWORK: network,
        contract.META_PRECISION: precision,
        contract.META_WEIGHTS_DIGEST: hashlib.sha256(outline.graph).hexdigest(),
    }
    values[contract.META_SEAL] = seal(outline.rest, values)
    for key in sorted(values):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, values[key]
    data: bytes = model.SerializeToString(deterministic=True)
    return data
