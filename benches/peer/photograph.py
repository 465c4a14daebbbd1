"""The photograph module and the 2D generator of TAP in plain PyTorch."""

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, channels, heads, width, dropout):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, heads * width, bias=False) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(heads * width, channels), nn.Dropout(dropout))

    def forward(self, x, memory, bias=None):
        query, key, value = (
            rows.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for rows in (self.to_q(x), self.to_k(memory), self.to_v(memory))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, channels, dropout):
        super().__init__()
        self.proj, self.out = nn.Linear(channels, 8 * channels), nn.Linear(4 * channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x, gate = self.proj(x).chunk(2, -1)
        return self.out(self.dropout(x * F.gelu(gate)))


class Block(nn.Module):
    def __init__(self, channels, heads, width, dropout, ray_bias):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.attn1 = Attention(channels, heads, width, dropout)
        self.attn2 = Attention(channels, heads, width, dropout)
        self.ff = FeedForward(channels, dropout)
        self.distance = nn.Parameter(torch.tensor([3.0, 10.0, 30.0, 0.0])) if ray_bias else None
        self.depth = nn.Parameter(torch.tensor([0.0, 2.0, 2.0, 0.0])) if ray_bias else None

    def forward(self, x, memory, geometry):
        bias = None
        if geometry is not None:
            distance, depth, offset = geometry
            head = lambda weight: weight.view(1, -1, 1, 1)
            bias = offset - head(self.distance) * distance - head(self.depth) * depth
        normed = self.norms[0](x)
        x = x + self.attn1(normed, normed)
        # The views of an object ask the same memory: where it is not repeated, they ask together.
        together = self.norms[1](x).reshape(len(memory), -1, x.shape[2])
        x = x + self.attn2(together, memory, bias).view_as(x)
        return x + self.ff(self.norms[2](x))


class Photograph(nn.Module):
    """Tokens B,C,M at B,M,3 and lines B,V,Q to features B*V,channels,grid,grid.

    As published, the memory is repeated for each view; with `is_shared` it is not, which gives the same numbers.
    """

    def __init__(self, tokens, grid, channels, blocks, heads, width, hidden, dropout, ray_bias, is_shared):
        super().__init__()
        self.grid, self.is_shared = grid, is_shared
        self.pad = nn.Parameter(torch.zeros(1, 1, channels)) if ray_bias else None
        self.memory = nn.Sequential(nn.Linear(tokens + 3, tokens + 3), nn.GELU(), nn.Linear(tokens + 3, channels))
        self.query = nn.Sequential(nn.Linear(8, hidden), nn.GELU(), nn.Linear(hidden, channels))
        self.blocks = nn.ModuleList(Block(channels, heads, width, dropout, ray_bias) for _ in range(blocks))

    def ray_geometry(self, centers, origin, direction):
        """Squared distance to and position along each line, B*V,1,Q,M+1; the last place is the pad token's."""
        toward = centers[:, None, None] - origin.unsqueeze(3)
        depth = (toward * direction.unsqueeze(3)).sum(-1)
        distance = (toward.square().sum(-1) - depth.square()).clamp_min(0)
        together = (1, 2) if self.is_shared else (0, 1)
        padded = lambda x: F.pad(x, (0, 1)).flatten(*together).unsqueeze(1)
        offset = F.pad(torch.zeros(centers.shape[1]), (0, 1), value=-2.0)
        return padded(distance), padded(depth), offset

    def forward(self, tokens, centers, origin, direction, position):
        views = origin.shape[1]
        memory = self.memory(torch.cat([tokens.transpose(1, 2), centers], 2))
        geometry = None
        if self.pad is not None:
            memory = torch.cat([memory, self.pad.expand(len(memory), -1, -1)], 1)
            with torch.no_grad():
                geometry = self.ray_geometry(centers, origin, direction)
        if not self.is_shared:
            memory = memory.repeat_interleave(views, 0)
        x = self.query(torch.cat([origin, direction, position], -1)).flatten(0, 1)
        for block in self.blocks:
            x = block(x, memory, geometry)
        return x.transpose(1, 2).unflatten(2, (self.grid, self.grid))


def decoder(channels, layers):
    """Transposed convolutions; `layers` is (channels, stride)."""
    modules = []
    for width, stride in layers:
        modules += [nn.ConvTranspose2d(channels, width, stride + 1, stride, 1, 1), nn.ReLU()]
        channels = width
    modules[-1] = nn.Sigmoid()
    return nn.Sequential(*modules)
