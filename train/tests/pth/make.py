"""Writes `tiny.pth`, a checkpoint as training code of this field saves them, and `hostile.pth`, one that runs a command
when PyTorch loads it trustingly. Then the same encoder in other ways: `module.pth`, a whole module, `script.pt`, a
TorchScript archive, and `momentum.pth`, a tuple with a trained encoder and its slow copy. `python make.py`, with PyTorch 2
or newer (before, a parameter is saved without the attributes that it was given).

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


class Part(torch.nn.Module):
    """A module with the encoder's tensors under their names."""

    def forward(self, x):
        return x


encoder = Part()
for i, name in enumerate(sorted(shapes)):
    numel = torch.Size(shapes[name]).numel()
    tensor = (i + torch.arange(numel) / 256).reshape(shapes[name])
    *path, last = name.split(".")
    part = encoder
    for step in path:
        if not hasattr(part, step):
            part.add_module(step, Part())
        part = getattr(part, step)
    if last.startswith("running"):
        part.register_buffer(last, tensor)
    else:
        part.register_parameter(last, torch.nn.Parameter(tensor))
torch.save({"model": encoder, "epoch": 7, "arguments": Owned()}, "module.pth")
torch.jit.save(torch.jit.script(encoder), "script.pt")

both = collections.OrderedDict()
for name, tensor in encoder.state_dict().items():
    both[f"module.encoder_k.{name}"] = tensor + 1
    parameter = torch.nn.Parameter(tensor)
    parameter.no_weight_decay = True
    both[f"module.encoder_q.{name}"] = parameter
torch.save((both, {"scale": torch.ones(1).expand(64)}), "momentum.pth")
