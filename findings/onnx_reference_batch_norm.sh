#!/usr/bin/env bash
# onnx's ReferenceEvaluator mixes the batch's statistics into BatchNormalization of opset 9 to 13, in inference too.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

x = np.array([[1.0], [2.0], [6.0]], np.float32)  # mean 3, while the running mean is 0
arrays = {"scale": [1.0], "shift": [0.0], "mean": [0.0], "variance": [1.0]}
print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")
print("one output, so inference by the operator's text: (x - running mean) / sqrt(running variance + epsilon) = x here")
right = {}
for opset in (9, 13, 14, 15):
    node = helper.make_node("BatchNormalization", ["x", *arrays], ["y"], epsilon=0.0)
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1]) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [
        numpy_helper.from_array(np.array(values, np.float32), name) for name, values in arrays.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)
    (runtime,) = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": x})
    (reference,) = ReferenceEvaluator(model).run(None, {"x": x})
    right[opset] = bool(np.allclose(reference, x, atol=1e-5)), bool(np.allclose(runtime, x, atol=1e-5))
    print(f"opset {opset:2}: x {x.ravel()}, onnxruntime {runtime.ravel()}, ReferenceEvaluator {reference.ravel()}")
expected = {9: (False, True), 13: (False, True), 14: (True, True), 15: (True, True)}
sys.exit(0 if right == expected else "this is no longer so")
PYTHON
