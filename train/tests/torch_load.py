"""Loads exports as PyTorch users do: `torch_load.py FILE LAYOUT SIZES`, where SIZES is the JSON of the backbone's sizes.

The modules have the names of the released code of each backbone, and are loaded strictly. Prints the SHA-256 of every tensor's
bytes as JSON."""

import hashlib
import json
import sys

import torch
from torch import nn

file, layout, sizes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


class Embedding(nn.Module):
    def __init__(self, widths, out):
        super().__init__()
        first, second = widths
        self.first_conv = nn.Sequential(nn.Conv1d(3, first, 1), nn.BatchNorm1d(first), nn.ReLU(), nn.Conv1d(first, second, 1))
        self.second_conv = nn.Sequential(
            nn.Conv1d(2 * second, 2 * second, 1), nn.BatchNorm1d(2 * second), nn.ReLU(), nn.Conv1d(2 * second, out, 1)
        )


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)


class Mlp(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.mlp, self.attn = Mlp(channels), Attention(channels)


class Blocks(nn.Module):
    def __init__(self, channels, depth):
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels) for _ in range(depth))


class PointMae(nn.Module):
    """The encoder of Point-MAE, as in pre-training."""

    def __init__(self, group_widths, channels, num_blocks, embedding=None):
        super().__init__()
        self.encoder = Embedding(group_widths, embedding or channels)
        self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, channels))
        self.blocks = Blocks(channels, num_blocks)
        self.norm = nn.LayerNorm(channels)


class PointBert(PointMae):
    """The Transformer of Point-BERT and TAP."""

    def __init__(self, group_widths, group_channels, channels, num_blocks):
        super().__init__(group_widths, channels, num_blocks, group_channels)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.cls_pos = nn.Parameter(torch.zeros(1, 1, channels))
        self.reduce_dim = nn.Linear(group_channels, channels)


class PointNet2(nn.Module):
    """PointNet++ of OpenPoints: shared layers of each stage, which also see x, y and z."""

    def __init__(self, inputs, widths):
        super().__init__()
        self.SA_modules = nn.ModuleList()
        for stage in widths:
            convs = nn.Sequential()
            inputs += 3
            for out in stage:
                convs.append(nn.Sequential(nn.Conv2d(inputs, out, 1, bias=False), nn.BatchNorm2d(out)))
                inputs = out
            operator = nn.Module()
            operator.SA_CONFIG_operator = nn.Module()
            operator.SA_CONFIG_operator.convs = convs
            module = nn.Module()
            module.local_aggregations = nn.ModuleList([operator])
            self.SA_modules.append(module)


module = {"point_mae": PointMae, "transformer": PointBert, "point_net2": PointNet2}[sizes.pop("kind")](**sizes)
saved = torch.load(file, map_location="cpu", weights_only=True)
entry, prefix = {
    "tap": ("model", ""),
    "point-bert": ("base_model", "transformer_q."),
    "point-mae": ("base_model", "MAE_encoder."),
    "state-dict": ("state_dict", ""),
}[layout]
state = saved[entry]
assert all(name.startswith(prefix) for name in state), list(state)[:3]
state = {name[len(prefix):]: tensor for name, tensor in state.items()}
module.load_state_dict(state, strict=True)
assert saved["metadata"]["format"] == "pt", saved["metadata"]
loaded = module.state_dict()
assert set(loaded) == set(state)
print(json.dumps({name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in loaded.items()}))
