#!/usr/bin/env bash
# onnxslim keeps a model's metadata_props and drops every doc_string; onnx's own Extractor does the opposite.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxslim==0.1.98 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import onnx
import onnxslim
from onnx import helper
from onnx.utils import Extractor

ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4], "NCHW, divided by 255") for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:], doc_string="of the graph")
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8, doc_string="of the model")
helper.set_model_props(model, {"input": "NCHW, divided by 255"})
onnx.checker.check_model(model, full_check=True)


def kept(model):
    places = {"input": model.graph.input[0].doc_string, "graph": model.graph.doc_string, "model": model.doc_string,
              "metadata_props": model.metadata_props}
    return [place for place, text in places.items() if text]


found = {"as written": kept(model), f"onnxslim {onnxslim.__version__}, slim()": kept(onnxslim.slim(model)),
         f"onnx {onnx.__version__}, Extractor": kept(Extractor(model).extract_model(["x"], ["y"]))}
for name, places in found.items():
    print(f"{name:26} texts at: {', '.join(places)}")
expected = [["input", "graph", "model", "metadata_props"], ["metadata_props"], ["input"]]
sys.exit(0 if list(found.values()) == expected else "this is no longer so")
PYTHON
