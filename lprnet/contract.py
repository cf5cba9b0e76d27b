"""Names of models and tensors that engines, Triton models, clients and tests agree on."""

from __future__ import annotations

from typing import Final

# Triton models
ENGINE_MODEL: Final = "lprnet"
DECODER_MODEL: Final = "ctc_decoder"
IMAGE_DECODER_MODEL: Final = "image_decoder"
CROP_ENSEMBLE: Final = "lpr"
IMAGE_ENSEMBLE: Final = "lpr_image"

# Tensors; N is the batch, T the plate spec's time_steps
IMAGE: Final = "image"  # UINT8 [N, 3, 48, 96], RGB, CHW, 0..255
CHAR_IDS: Final = "char_ids"  # INT32 [N, T], best class per time step
CHAR_PROBS: Final = "char_probs"  # FP32 [N, T], its probability
ENCODED: Final = "encoded"  # BYTES [N, 1], a JPEG/PNG/WebP/BMP file
PLATE: Final = "plate"  # BYTES [N, 1], UTF-8
CONFIDENCE: Final = "confidence"  # FP32 [N, 1]
CHAR_CONFIDENCES: Final = "char_confidences"  # FP32 [N, MAX_CHARACTERS], 0-padded
PLATE_IDS: Final = "plate_ids"  # INT32 [N, MAX_CHARACTERS], -1-padded

MAX_CHARACTERS: Final = 16
"""Slots of the per-character outputs. Longer texts keep all characters in `plate`."""

MAX_BATCH_CPU: Final = 64
MAX_BATCH_GPU: Final = 256

# TAO / DeepStream names of the `--io tao` export
TAO_IMAGE: Final = "image_input"  # FP32 [N, 3, 48, 96], RGB, 0..1
TAO_CHAR_IDS: Final = "tf_op_layer_ArgMax"  # INT32 [N, T]
TAO_CHAR_PROBS: Final = "tf_op_layer_Max"  # FP32 [N, T]

# ONNX metadata keys
META_SPEC: Final = "lprnet.plate_spec"  # PlateSpec.to_json()
META_SPEC_DIGEST: Final = "lprnet.plate_spec_digest"  # PlateSpec.digest
META_WEIGHTS_DIGEST: Final = "lprnet.weights_digest"  # sha256 of the serialised graph
META_VERSION: Final = "lprnet.version"  # package version that exported it
META_NETWORK: Final = "lprnet.network"  # e.g. "small"
META_PRECISION: Final = "lprnet.precision"  # "fp32", "fp16" or "int8"
META_TEMPERATURE: Final = "lprnet.temperature"  # the logits are divided by it inside the graph
META_REVISION: Final = "lprnet.revision"  # of the training run
META_SOURCE: Final = "lprnet.quantized_from"  # INT8 only: weights digest of the FP32 model
META_QUANTIZER: Final = "lprnet.quantizer"  # INT8 only: what rounded it, and how
META_SEAL: Final = "lprnet.seal"  # SHA-256 over all other metadata and the file's versions

SPEC_FILE: Final = "plate_spec.json"
"""Name of the plate spec that stands beside every model that needs it."""

MODEL_FILE: Final = "model.onnx"
"""The FP32 model of the repository."""

INT8_MODEL_FILE: Final = "model_int8.onnx"
"""Its INT8 form, where there is one."""

CLIENT_REGION_PREFIX: Final = "lprnet_client_"
"""Names of clients' shared memory regions start with it; `PID_` and hexadecimal digits follow. The
watchdog frees those whose client was killed."""

PROBE_TOLERANCE: Final = 0.05
"""Most that the confidence in the probe picture may differ between forms of the same weights:
FP16 and INT8 engines differ a little from the one that recorded the answer."""

MODEL_RECORD_FILE: Final = "model.json"
"""Name of the record beside `model.onnx`: file digest, spec, version, parity figures. Any other
ONNX has its own, its name with this suffix."""
