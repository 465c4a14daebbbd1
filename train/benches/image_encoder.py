"""Views a second of a frozen 2D network in PyTorch and onnxruntime, to compare with those of `tap-train features --json`.

    python image_encoder.py WEIGHTS.safetensors [MODEL.onnx] [--threads N] [--batch N] [--device cpu|cuda] [--seconds S]

WEIGHTS as scripts/teacher prints them; MODEL.onnx out of the wheel that scripts/teacher.txt names. Features are those behind block 7 and
saliency that of the last block, as `tap-train features --layer 7` takes them. pip install torch==2.11.0 transformers==5.24.0
onnxruntime==1.32.0
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import torch
import transformers

parser = argparse.ArgumentParser()
parser.add_argument("weights", type=Path)
parser.add_argument("onnx", nargs="?")
parser.add_argument("--threads", type=int, default=torch.get_num_threads())
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--device", default="cpu")
parser.add_argument("--seconds", type=float, default=20)
args = parser.parse_args()
torch.set_num_threads(args.threads)
pixels = torch.rand(args.batch, 3, 224, 224, device=args.device)


def rate(name, run):
    run()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < args.seconds:
        run()
        count += args.batch
    print(f"{name}: {count / (time.perf_counter() - start):.1f} views/s")


def dinov2(attention):
    config = transformers.Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14
    )
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        shutil.copy(args.weights, Path(folder) / "model.safetensors")
        model = transformers.Dinov2Model.from_pretrained(folder, attn_implementation=attention)
    return model.eval().to(args.device)


@torch.inference_mode()
def with_attentions():
    out = eager(pixels, output_hidden_states=True, output_attentions=True)
    saliency = out.attentions[-1].mean(1)[:, 0, 1:]
    return out.hidden_states[8].half().cpu(), saliency.half().cpu()


@torch.inference_mode()
def features_alone():
    return fused(pixels, output_hidden_states=True).hidden_states[8].half().cpu()


eager, fused = dinov2("eager"), dinov2("sdpa")
rate("PyTorch, features and saliency", with_attentions)
rate("PyTorch, features alone (fused attention)", features_alone)
if args.onnx:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.onnx, options, providers=["CPUExecutionProvider"])
    given = {"input_image": pixels.cpu().numpy()}
    rate("onnxruntime, with the saliency decoder", lambda: session.run(None, given))
