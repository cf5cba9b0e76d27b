#!/usr/bin/env bash
# Build the TensorRT plan with the TensorRT that will load it: run inside NVIDIA's tritonserver
# container, from the root of this repository (see `make engine`).
#
#   scripts/engine_in_container.sh [options of `lprnet engine`]
set -euo pipefail

library="$(ldconfig -p | awk '/libnvinfer\.so\.[0-9]+ / { print $NF; exit }')"
if [ -z "$library" ]; then
    echo "no libnvinfer here: run this inside nvcr.io/nvidia/tritonserver" >&2
    exit 1
fi
version="$(basename "$(readlink -f "$library")")" # libnvinfer.so.10.13.3
version="${version#libnvinfer.so.}"
cuda="${CUDA_VERSION%%.*}"
site="$(mktemp -d)"
trap 'rm -rf "$site"' EXIT
# The container carries TensorRT's libraries; what lacks is the Python side of the same version.
python3 -m pip install --quiet --target "$site" "tensorrt-cu${cuda}-bindings==$version.*" \
    --constraint requirements.lock onnx onnxslim onnxruntime tqdm numpy opencv-python-headless \
    simplejpeg
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
python3 lprnet_cli.py engine model_repository/lprnet/1/model.onnx \
    --out model_repository/lprnet/1/model.plan --flavour tensorrt "$@"
