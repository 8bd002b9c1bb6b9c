#!/usr/bin/env bash
# onnxruntime's 4-bit weight quantiser takes MatMul and leaves a Gemm that computes the same as it is, without an error.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 onnx-ir==1.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

weight = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)
print(f"onnxruntime {onnxruntime.__version__}, x (n, 256) times a constant (256, 64)")
found = {}
for kind in ("MatMul", "Gemm"):
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", size]) for name, size in (("x", 256),
                                                                                                        ("y", 64))]
    graph = helper.make_graph([helper.make_node(kind, ["x", "w"], ["y"])], "g", ends[:1], ends[1:],
                              [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    before = len(model.SerializeToString())
    quantizer = MatMulNBitsQuantizer(model, bits=4, block_size=32, is_symmetric=True)
    quantizer.process()
    after = quantizer.model.model
    found[kind] = [node.op_type for node in after.graph.node]
    print(f"{kind:6} -> {found[kind]}, {before:,} bytes before, {len(after.SerializeToString()):,} after")
sys.exit(0 if found == {"MatMul": ["MatMulNBits"], "Gemm": ["Gemm"]} else "this is no longer so")
PYTHON
