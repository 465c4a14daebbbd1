"""Writes `tiny.pth`, a checkpoint as training code of this field saves them, and `hostile.pth`, one that runs a command
when PyTorch loads it trustingly. `python make.py`, with any PyTorch since 1.6.

Element k (in row-major order) of tensor i (in the order of sorted names) has the value i + k / 256."""

import argparse
import collections
import os

import torch


def norm(name, channels):
    parts = ["weight", "bias", "running_mean", "running_var"]
    return {f"{name}.{part}": [channels] for part in parts}


def residual(name):
    return {
        f"{name}.net1.0.weight": [4, 8, 1], **norm(f"{name}.net1.1", 4),
        f"{name}.net2.0.weight": [8, 4, 1], **norm(f"{name}.net2.1", 8),
    }


shapes = {
    "embedding.net.0.weight": [4, 4, 1], **norm("embedding.net.1", 4),
    "local_grouper_list.0.affine_alpha": [1, 1, 1, 4],
    "local_grouper_list.0.affine_beta": [1, 1, 1, 4],
    "pre_blocks_list.0.transfer.net.0.weight": [8, 8, 1], **norm("pre_blocks_list.0.transfer.net.1", 8),
    **residual("pre_blocks_list.0.operation.0"),
    **residual("pos_blocks_list.0.operation.0"),
}
model = collections.OrderedDict()
for i, name in enumerate(sorted(shapes)):
    numel = torch.Size(shapes[name]).numel()
    model[f"module.encoder.{name}"] = (i + torch.arange(numel) / 256).reshape(shapes[name])
# Parameters, views of a larger storage and transposed ones have other ways into the file.
key = "module.encoder.pre_blocks_list.0.transfer.net.0.weight"
model[key] = torch.nn.Parameter(model[key][:, :, 0].t().contiguous().t().unsqueeze(2))
key = "module.encoder.embedding.net.1.bias"
model[key] = torch.cat([torch.zeros(3), model[key], torch.zeros(2)])[3:7]
model["module.encoder.embedding.net.1.num_batches_tracked"] = torch.tensor(5)
model["module.generator.pad_memory"] = torch.zeros(6, dtype=torch.half)
moments = {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
checkpoint = {
    "model": model,
    "optimizer": {"state": {0: moments}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
    "epoch": 7,
    "best_val": 0.5,
    "arguments": argparse.Namespace(seed=0),
}
torch.save(checkpoint, "tiny.pth")


class Owned:
    def __reduce__(self):
        return os.system, ("touch owned-by-a-checkpoint",)


checkpoint["arguments"] = Owned()
torch.save(checkpoint, "hostile.pth")
