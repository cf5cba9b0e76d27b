#!/bin/sh
# Read the plate of one picture over HTTP/REST, with nothing but curl (7.76 or newer):
#   clients/read_with_curl.sh plate.jpg [http://127.0.0.1:8000]
# The body is Triton's binary form: a JSON header, the picture's length as 4 bytes (little endian),
# the picture. The answer is JSON, an error's too; the exit code is then curl's: 22 where the server
# answers with an error, another one where it does not answer.
set -eu
picture=${1:?usage: read_with_curl.sh PICTURE [URL]}
url=${2:-http://127.0.0.1:8000}
size=$(wc -c < "$picture")
json='{"inputs": [{"name": "encoded", "shape": [1, 1], "datatype": "BYTES",
  "parameters": {"binary_data_size": '$((size + 4))'}}],
 "outputs": [{"name": "plate"}, {"name": "confidence"}, {"name": "char_confidences"}]}'
byte() { printf "\\$(printf %03o $((size >> $1 & 255)))"; }
code=0
exec 3>&1  # stdout, while $(...) takes what curl says
said=$({ printf %s "$json"; byte 0; byte 8; byte 16; byte 24; cat; } < "$picture" |
    curl -sS --fail-with-body --data-binary @- -H "Inference-Header-Content-Length: ${#json}" \
        "${url%/}/v2/models/lpr_image/infer" 2>&1 >&3) || code=$?
# The server's own words say more than curl's of an answer that is an error.
[ -z "$said" ] || [ "$code" = 22 ] || echo "$said" >&2
exit "$code"
