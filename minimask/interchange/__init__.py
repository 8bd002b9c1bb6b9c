"""A net in other systems' files and as a PyTorch module: safetensors, ONNX (extra ``export``), ``torch.nn``."""

from .layers import IDENTITY, Counterpart, Place, register
from .dense import state_dict
from .readers import Read, ReadError, read
from .writers import OLDEST, OPSET, WRITERS, torch_module, write_onnx, write_safetensors

__all__ = ["IDENTITY", "OLDEST", "OPSET", "WRITERS", "Counterpart", "Place", "Read", "ReadError", "read", "register",
           "state_dict", "torch_module", "write_onnx", "write_safetensors"]
