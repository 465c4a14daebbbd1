"""Judges exports as PyTorch users meet them: `torch_load.py FILE LAYOUT ENCODER CLOUD`.

ENCODER is the JSON of the backbone's configuration. The modules here have the names of the released code of each backbone, load
the file strictly, and compute its tokens from the publication, without any shortcut. CLOUD is a JSON file with `xyz` (N x 3),
`features` (C x N) and the `tokens` (M x C) that the trainer computes. Prints the SHA-256 of every tensor's bytes, and the largest
difference of a token, as JSON."""

import hashlib
import json
import sys

import torch
from torch import nn
from torch.nn import functional as F

file, layout, config, cloud = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.load(open(sys.argv[4]))

# What points have to do with each other. Rows are points: N,C.


def distances(queries, points):
    return (queries[:, None] - points[None]).square().sum(-1)


def farthest(xyz, num):
    chosen = [0]
    to_chosen = distances(xyz[:1], xyz)[0]
    for _ in range(num - 1):
        chosen.append(int(to_chosen.argmax()))
        to_chosen = torch.minimum(to_chosen, distances(xyz[chosen[-1:]], xyz)[0])
    return torch.tensor(chosen)


def nearest(points, queries, num):
    return distances(queries, points).argsort(dim=1)[:, :num]


def within(points, queries, radius, num, is_by_distance):
    """At most `num` neighbors within the radius, by index or by distance; free places repeat the first."""
    rows = []
    for row in distances(queries, points):
        order = row.argsort() if is_by_distance else torch.arange(len(points))
        found = order[row[order] < radius**2][:num].tolist() or [0]
        rows.append(found + [found[0]] * (num - len(found)))
    return torch.tensor(rows)


def pointwise(conv, rows):
    """A 1x1 convolution with what follows it, over the last axis of rows of any shape."""
    kernel = next(layer for layer in conv.modules() if isinstance(layer, (nn.Conv1d, nn.Conv2d)))
    flat = rows.reshape(-1, rows.shape[-1]).t()[None]
    if isinstance(kernel, nn.Conv2d):
        flat = flat[..., None]
    return conv(flat).flatten(2)[0].t().reshape(*rows.shape[:-1], -1)


# The Transformers.


class Embedding(nn.Module):
    def __init__(self, inputs, widths, out):
        super().__init__()
        first, second = widths
        self.first_conv = nn.Sequential(nn.Conv1d(inputs, first, 1), nn.BatchNorm1d(first), nn.ReLU(), nn.Conv1d(first, second, 1))
        self.second_conv = nn.Sequential(
            nn.Conv1d(2 * second, 2 * second, 1), nn.BatchNorm1d(2 * second), nn.ReLU(), nn.Conv1d(2 * second, out, 1)
        )

    def forward(self, groups):
        local = self.first_conv(groups.transpose(1, 2))
        whole = local.max(dim=2, keepdim=True)[0].expand_as(local)
        return self.second_conv(torch.cat([whole, local], dim=1)).max(dim=2)[0]


class Attention(nn.Module):
    def __init__(self, channels, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x, is_seen):
        num, channels = x.shape
        query, key, value = self.qkv(x).view(num, 3, self.num_heads, -1).permute(1, 2, 0, 3)
        logits = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5
        shares = logits.masked_fill(~is_seen, float("-inf")).softmax(dim=-1)
        return self.proj((shares @ value).transpose(0, 1).reshape(num, channels))


class Mlp(nn.Module):
    def __init__(self, channels, ratio):
        super().__init__()
        self.fc1 = nn.Linear(channels, ratio * channels)
        self.fc2 = nn.Linear(ratio * channels, channels)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, channels, num_heads, ratio):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.mlp, self.attn = Mlp(channels, ratio), Attention(channels, num_heads)

    def forward(self, x, is_seen):
        x = x + self.attn(self.norm1(x), is_seen)
        return x + self.mlp(self.norm2(x))


class Blocks(nn.Module):
    def __init__(self, channels, depth, num_heads, ratio):
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels, num_heads, ratio) for _ in range(depth))

    def forward(self, x, position, is_seen):
        for block in self.blocks:
            x = block(x + position, is_seen)
        return x


def position_embedding(hidden, channels):
    return nn.Sequential(nn.Linear(3, hidden), nn.GELU(), nn.Linear(hidden, channels))


class PointMae(nn.Module):
    """The encoder of Point-MAE, as in pre-training, with nothing masked."""

    def __init__(self, num_groups, num_neighbors, group_widths, channels, num_blocks, num_heads, mlp_ratio, embedding=None, **_):
        super().__init__()
        self.sizes = num_groups, num_neighbors
        self.encoder = Embedding(3, group_widths, embedding or channels)
        self.pos_embed = position_embedding(128, channels)
        self.blocks = Blocks(channels, num_blocks, num_heads, mlp_ratio)
        self.norm = nn.LayerNorm(channels)

    def forward(self, xyz, _features):
        num_groups, num_neighbors = self.sizes
        centers = xyz[farthest(xyz, num_groups)]
        groups = xyz[nearest(xyz, centers, num_neighbors)] - centers[:, None]
        is_seen = torch.ones(num_groups, dtype=torch.bool)
        return self.norm(self.blocks(self.encoder(groups), self.pos_embed(centers), is_seen))


class PointBert(PointMae):
    """The Transformer of Point-BERT and TAP."""

    def __init__(self, group_channels, channels, radius, neighbors, unit, **sizes):
        super().__init__(channels=channels, embedding=group_channels, **sizes)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.cls_pos = nn.Parameter(torch.zeros(1, 1, channels))
        self.reduce_dim = nn.Linear(group_channels, channels)
        self.radius, self.is_by_distance, self.unit = radius, neighbors == "nearest_in_ball", unit

    def forward(self, xyz, _features):
        num_groups, num_neighbors = self.sizes
        centers = xyz[farthest(xyz, num_groups)]
        index = within(xyz, centers, self.radius, num_neighbors, self.is_by_distance)
        tokens = self.reduce_dim(self.encoder((xyz[index] - centers[:, None]) / self.unit))
        x = torch.cat([self.cls_token[0], tokens])
        position = torch.cat([self.cls_pos[0], self.pos_embed(centers)])
        is_seen = torch.ones(num_groups + 1, dtype=torch.bool)
        return self.norm(self.blocks(x, position, is_seen))[1:]


class PointM2ae(nn.Module):
    """The hierarchical encoder of Point-M2AE and I2P-MAE, as in pre-training, with nothing masked."""

    def __init__(self, levels, group_widths, num_heads, mlp_ratio, **_):
        super().__init__()
        self.levels = levels
        self.token_embed, self.encoder_pos_embeds = nn.ModuleList(), nn.ModuleList()
        self.encoder_blocks, self.encoder_norms = nn.ModuleList(), nn.ModuleList()
        inputs = 3
        for level in levels:
            channels = level["channels"]
            self.token_embed.append(Embedding(inputs, group_widths if inputs == 3 else [inputs, inputs], channels))
            self.encoder_pos_embeds.append(position_embedding(channels, channels))
            self.encoder_blocks.append(Blocks(channels, level["num_blocks"], num_heads, mlp_ratio))
            self.encoder_norms.append(nn.LayerNorm(channels))
            inputs = channels

    def forward(self, xyz, _features):
        centers, members = [xyz], []
        for level in self.levels:
            finer = centers[-1]
            centers.append(finer[farthest(finer, level["num_groups"])])
            members.append(nearest(finer, centers[-1], level["num_neighbors"]))
        # A token is seen if it is a member of a group that is seen.
        seen = [torch.ones(len(centers[-1]), dtype=torch.bool)]
        for index in reversed(members[1:]):
            flags = torch.zeros(int(index.max()) + 1, dtype=torch.bool)
            flags[index[seen[0]].flatten()] = True
            num = len(centers[len(centers) - 1 - len(seen)])
            seen.insert(0, F.pad(flags, (0, num - len(flags))))
        tokens = None
        for i, index in enumerate(members):
            groups = xyz[index] - centers[1][:, None] if i == 0 else tokens[index]
            tokens = self.token_embed[i](groups)
            tokens = self.encoder_blocks[i](tokens, self.encoder_pos_embeds[i](centers[i + 1]), seen[i])
        return self.encoder_norms[-1](tokens)


# The convolutional ones.


def convs2d(inputs, widths):
    layers = nn.Sequential()
    for out in widths:
        layers.append(nn.Sequential(nn.Conv2d(inputs, out, 1, bias=False), nn.BatchNorm2d(out)))
        inputs = out
    return layers


class PointNet2(nn.Module):
    """PointNet++ of OpenPoints: shared layers of each stage, which also see x, y and z."""

    def __init__(self, input, stages, last, neighbors, num_points=None):
        super().__init__()
        self.is_height, self.num_points, self.is_by_distance = input == "height", num_points, neighbors == "nearest_in_ball"
        self.stages = stages + ([last] if last["kind"] == "grouped" else [])
        self.SA_modules = nn.ModuleList()
        inputs = 1 if self.is_height else 4
        for widths in [stage["widths"] for stage in stages + [last]]:
            operator = nn.Module()
            operator.SA_CONFIG_operator = nn.Module()
            operator.SA_CONFIG_operator.convs = convs2d(inputs + 3, widths)
            module = nn.Module()
            module.local_aggregations = nn.ModuleList([operator])
            self.SA_modules.append(module)
            inputs = widths[-1]

    def mlp(self, place, rows):
        for conv in self.SA_modules[place].local_aggregations[0].SA_CONFIG_operator.convs:
            rows = pointwise(conv, rows).relu()
        return rows

    def forward(self, xyz, features):
        x = features[3:4].t() if self.is_height else features[:4].t()
        if self.num_points:
            index = farthest(xyz, self.num_points)
            xyz, x = xyz[index], x[index]
        for place, stage in enumerate(self.stages):
            # Of points in farthest-point order, the first are the farthest.
            centers = xyz[: stage["num_centers"]] if self.num_points else xyz[farthest(xyz, stage["num_centers"])]
            index = within(xyz, centers, stage["radius"], stage["num_neighbors"], self.is_by_distance)
            groups = torch.cat([xyz[index] - centers[:, None], x[index]], dim=-1)
            xyz, x = centers, self.mlp(place, groups).max(dim=1)[0]
        return x if len(self.stages) == len(self.SA_modules) else self.mlp(len(self.stages), torch.cat([xyz, x], dim=-1))


class Dgcnn(nn.Module):
    """DGCNN of OpenPoints: a graph on positions, then one on the features of each layer."""

    def __init__(self, num_neighbors, widths, channels, num_points=None):
        super().__init__()
        self.num_neighbors, self.num_points = num_neighbors, num_points

        def edge_conv(inputs, out):
            conv = nn.Module()
            conv.gconv = nn.Module()
            conv.gconv.nn = nn.Sequential(nn.Conv2d(2 * inputs, out, 1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(0.2))
            return conv

        self.head = edge_conv(4, widths[0])
        self.backbone = nn.ModuleList(edge_conv(*pair) for pair in zip(widths, widths[1:]))
        self.fusion_block = nn.Sequential(
            nn.Conv1d(sum(widths), channels, 1, bias=False), nn.BatchNorm1d(channels), nn.LeakyReLU(0.2)
        )

    def forward(self, xyz, features):
        x = features[:4].t()
        if self.num_points:
            index = farthest(xyz, self.num_points)
            xyz, x = xyz[index], x[index]
        outputs, graph_of = [], xyz
        for conv in [self.head, *self.backbone]:
            index = nearest(graph_of, graph_of, self.num_neighbors)
            center = x[:, None].expand(-1, self.num_neighbors, -1)
            x = pointwise(conv.gconv.nn, torch.cat([center, x[index] - center], dim=-1)).max(dim=1)[0]
            outputs.append(x)
            graph_of = x
        return pointwise(self.fusion_block, torch.cat(outputs, dim=-1))


class ConvBnRelu(nn.Module):
    def __init__(self, inputs, out):
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(inputs, out, 1, bias=False), nn.BatchNorm1d(out), nn.ReLU())

    def forward(self, rows):
        return pointwise(self.net, rows)


class Residual(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.net1 = nn.Sequential(nn.Conv1d(channels, hidden, 1, bias=False), nn.BatchNorm1d(hidden), nn.ReLU())
        self.net2 = nn.Sequential(nn.Conv1d(hidden, channels, 1, bias=False), nn.BatchNorm1d(channels))

    def forward(self, rows):
        return (pointwise(self.net2, pointwise(self.net1, rows)) + rows).relu()


class PointMlp(nn.Module):
    """PointMLP, and its elite variant."""

    def __init__(self, channels, bottleneck, stages):
        super().__init__()
        self.stages = stages
        self.embedding = ConvBnRelu(4, channels)
        self.local_grouper_list, self.pre_blocks_list, self.pos_blocks_list = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stage in stages:
            out = channels * stage["expansion"]

            def residuals(num):
                return nn.Sequential(*[Residual(out, int(out * bottleneck)) for _ in range(num)])

            grouper, pre, pos = nn.Module(), nn.Module(), nn.Module()
            grouper.affine_alpha = nn.Parameter(torch.ones(1, 1, 1, channels))
            grouper.affine_beta = nn.Parameter(torch.zeros(1, 1, 1, channels))
            pre.transfer, pre.operation = ConvBnRelu(2 * channels, out), residuals(stage["num_pre_blocks"])
            pos.operation = residuals(stage["num_pos_blocks"])
            for modules, module in [(self.local_grouper_list, grouper), (self.pre_blocks_list, pre), (self.pos_blocks_list, pos)]:
                modules.append(module)
            channels = out

    def forward(self, xyz, features):
        x = self.embedding(features[:4].t())
        for stage, grouper, pre, pos in zip(self.stages, self.local_grouper_list, self.pre_blocks_list, self.pos_blocks_list):
            index = farthest(xyz, len(xyz) // stage["reduction"])
            neighbors = nearest(xyz, xyz[index], stage["num_neighbors"])
            anchor = x[index][:, None].expand(-1, stage["num_neighbors"], -1)
            difference = x[neighbors] - anchor
            scaled = difference / (difference.std() + 1e-5)
            groups = grouper.affine_alpha[0] * scaled + grouper.affine_beta[0]
            rows = pre.operation(pre.transfer(torch.cat([groups, anchor], dim=-1)))
            xyz, x = xyz[index], pos.operation(rows.max(dim=1)[0])
        return x


class PointNext(nn.Module):
    """The encoder of PointNeXt of OpenPoints."""

    def __init__(
        self, width, blocks, num_abstraction_layers, abstraction_residual, radius, radius_scaling, num_neighbors, expansion
    ):
        super().__init__()
        self.radius, self.radius_scaling, self.num_neighbors = radius, radius_scaling, num_neighbors
        stem = nn.Module()
        stem.convs = nn.Sequential(nn.Sequential(nn.Conv1d(4, width, 1)))
        stages = [nn.Sequential(stem)]
        for num_blocks in blocks:
            abstraction = nn.Module()
            abstraction.convs = convs2d(3 + width, [width] * (num_abstraction_layers - 1) + [2 * width])
            if abstraction_residual:
                abstraction.skipconv = nn.Sequential(nn.Conv1d(width, 2 * width, 1))
            width *= 2
            stage = nn.Sequential(abstraction)
            for _ in range(num_blocks - 1):
                block = nn.Module()
                block.convs = nn.Module()
                block.convs.convs = convs2d(3 + width, [width])

                def pointwise_conv(inputs, out):
                    return nn.Sequential(nn.Conv1d(inputs, out, 1, bias=False), nn.BatchNorm1d(out))

                block.pwconv = nn.Sequential(
                    pointwise_conv(width, expansion * width), pointwise_conv(expansion * width, width)
                )
                stage.append(block)
            stages.append(stage)
        last = nn.Module()
        last.convs = convs2d(3 + width, [width] * num_abstraction_layers)
        self.encoder = nn.Sequential(*stages, nn.Sequential(last))

    def groups(self, xyz, centers, x, radius):
        index = within(xyz, centers, radius, self.num_neighbors, is_by_distance=False)
        return torch.cat([(xyz[index] - centers[:, None]) / radius, x[index]], dim=-1)

    def forward(self, xyz, features):
        stem, *stages, last = self.encoder
        x = pointwise(stem[0].convs[0], features[:4].t())
        radius = self.radius
        for abstraction, *blocks in stages:
            index = farthest(xyz, len(xyz) // 2)
            centers, skipped = xyz[index], x[index]
            rows = self.groups(xyz, centers, x, radius)
            for i, conv in enumerate(abstraction.convs):
                rows = pointwise(conv, rows)
                if i + 1 < len(abstraction.convs) or not hasattr(abstraction, "skipconv"):
                    rows = rows.relu()
            x = rows.max(dim=1)[0]
            if hasattr(abstraction, "skipconv"):
                x = (x + pointwise(abstraction.skipconv, skipped)).relu()
            xyz = centers
            radius *= self.radius_scaling
            for block in blocks:
                rows = pointwise(block.convs.convs[0], self.groups(xyz, xyz, x, radius)).relu().max(dim=1)[0]
                x = (pointwise(block.pwconv[1], pointwise(block.pwconv[0], rows).relu()) + x).relu()
        rows = torch.cat([xyz, x], dim=-1)
        for conv in last[0].convs:
            rows = pointwise(conv, rows).relu()
        return rows


kinds = {
    "point_mae": PointMae,
    "transformer": PointBert,
    "point_m2ae": PointM2ae,
    "point_net2": PointNet2,
    "dgcnn": Dgcnn,
    "point_mlp": PointMlp,
    "point_next": PointNext,
}
module = kinds[config.pop("kind")](**config)
saved = torch.load(file, map_location="cpu", weights_only=True)
entry, prefix = {
    "tap": ("model", ""),
    "point-bert": ("base_model", "transformer_q."),
    "point-mae": ("base_model", "MAE_encoder."),
    "point-m2ae": ("base_model", "h_encoder."),
    "i2p-mae": ("base_model", "h_encoder."),
    "state-dict": ("state_dict", ""),
}[layout]
state = saved[entry]
assert all(name.startswith(prefix) for name in state), list(state)[:3]
state = {name[len(prefix):]: tensor for name, tensor in state.items()}
module.load_state_dict(state, strict=True)
assert saved["metadata"]["format"] == "pt", saved["metadata"]
loaded = module.state_dict()
assert set(loaded) == set(state)
hashes = {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in loaded.items()}

module.eval()
with torch.no_grad():
    tokens = module(torch.tensor(cloud["xyz"]), torch.tensor(cloud["features"]))
expected = torch.tensor(cloud["tokens"])
assert tokens.shape == expected.shape, (tokens.shape, expected.shape)
print(json.dumps({"hashes": hashes, "largest_difference": float((tokens - expected).abs().max())}))
