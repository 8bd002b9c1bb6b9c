#!/usr/bin/env bash
# A text field of an ONNX model that is no UTF-8 is read as bytes, in a field that otherwise always gives str.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 protobuf==7.36.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import google.protobuf
import onnx

written = onnx.TensorProto(name="abc").SerializeToString()
names = []
for content in (written, written.replace(b"abc", b"\xffbc")):
    tensor = onnx.TensorProto()
    tensor.ParseFromString(content)
    names.append(tensor.name)
print(f"onnx {onnx.__version__}, protobuf {google.protobuf.__version__}: the name of an array as it was read")
for name in names:
    print(f"    {name!r}, a {type(name).__name__}")
try:
    onnx.TensorProto(name=names[1])
    refused = False
except UnicodeDecodeError as error:
    print(f"giving the second to a new array: {error}")
    refused = True
sys.exit(0 if list(map(type, names)) == [str, bytes] and refused else "this is no longer so")
PYTHON
