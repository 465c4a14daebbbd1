"""Writes the weights of tiny random 2D networks, as their publishers' code saves them, and what that code says of images.

Run by hand: pip install torch==2.11.0 timm==1.0.31 open_clip_torch==3.3.0 transformers==5.24.0, then python make.py.
Weights are rounded to float16, in which they are stored; networks compute in float32. `../image_encoder.rs` has the same images.
"""

from pathlib import Path

import open_clip.model
import timm.models.vision_transformer as timm_vit
import torch
import torch.nn.functional as F
import transformers
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import QuickGELU, VisionTransformer
from safetensors.torch import save_file

HERE = Path(__file__).parent
BATCH = 2
expected = {}


def images(height, width):
    """B,3,H,W, about as spread out as normalized pixels."""
    b, c, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (BATCH, 3, height, width)), indexing="ij")
    return (2 * torch.sin(0.9 * b + 1.7 * c + 0.23 * y + 0.11 * x + 0.013 * x * y)).float()


def randomize(module, seed):
    """Weights that leave no term idle, rounded to float16."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in list(module.named_parameters()) + list(module.named_buffers()):
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if "running_var" in name:
            noise = 1 + 0.3 * noise.abs()
        elif tensor.ndim > 1 and "pos" not in name and "token" not in name:
            noise = noise * (2 / tensor[0].numel()) ** 0.5
        elif name.endswith("weight") or "gamma" in name or "lambda" in name:
            noise = 1 + 0.3 * noise
        else:
            noise = 0.3 * noise
        tensor.data.copy_(noise.half().float())
    return module.eval()


def save(name, tensors, suffix=".safetensors"):
    tensors = {key: tensor.half().contiguous().clone() for key, tensor in tensors.items()}
    if suffix == ".safetensors":
        save_file(tensors, HERE / f"{name}.safetensors")
    else:
        torch.save({"epoch": 3, **nest(tensors)}, HERE / f"{name}{suffix}")


def nest(tensors):
    """'teacher.a.b' under a dictionary 'teacher', as DINO saves it."""
    nested = {}
    for key, tensor in tensors.items():
        first, rest = key.split(".", 1)
        nested.setdefault(first, {})[rest] = tensor
    return nested


def expect(name, size, features, saliency, layer=None):
    h, w = size
    key = f"{name}/{h}x{w}" + ("" if layer is None else f"/layer{layer}")
    expected[f"{key}/features"] = features.contiguous().clone()
    expected[f"{key}/saliency"] = saliency.contiguous().clone()


def grid(tokens, patch, size):
    """B,h*w,C to B,C,h,w."""
    h, w = size[0] // patch, size[1] // patch
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, h, w)


def map_of(attention, patch, size):
    return attention.reshape(attention.shape[0], size[0] // patch, size[1] // patch)


class OpenAiClip(torch.nn.Module):
    """What an archive by OpenAI holds, without the text encoder."""

    def __init__(self, visual):
        super().__init__()
        self.visual = visual
        for name, value in [("input_resolution", 64), ("context_length", 77), ("vocab_size", 49408)]:
            self.register_buffer(name, torch.tensor(value))

    def forward(self, image):
        return self.visual(image)


def clip_vit():
    """CLIP as open_clip has it, with QuickGELU, saved as a TorchScript archive like those of OpenAI."""
    size, patch = (64, 64), 16
    vit = VisionTransformer(64, patch, 128, 2, 2, 1.0, output_dim=32, act_layer=QuickGELU)
    randomize(vit, 1)
    x = images(*size)
    seen = {}
    last = vit.transformer.resblocks[-1]
    last.register_forward_pre_hook(lambda _, args: seen.update(before=args[0]))
    last.register_forward_hook(lambda _, args, out: seen.update(after=out))
    vit(x)
    normed = last.ln_1(seen["before"])
    _, weights = last.attn(normed, normed, normed, need_weights=True, average_attn_weights=True)
    features = vit.ln_post(seen["after"])[:, 1:] @ vit.proj
    expect("clip_vit", size, grid(features, patch, size), map_of(weights[:, 0, 1:], patch, size))
    last._forward_hooks.clear()
    last._forward_pre_hooks.clear()
    torch.jit.trace(OpenAiClip(vit).half(), x.half(), check_trace=False).save(str(HERE / "clip_vit.pt"))


def timm_attention(vit):
    """Softmax of the last block, B,heads,T,T."""
    seen = {}
    for block in vit.blocks:
        block.attn.fused_attn = False
    vit.blocks[-1].attn.attn_drop.register_forward_hook(lambda _, args, out: seen.update(attention=out))
    return seen


def timm_registers():
    """DINOv2 with registers in timm, at its own and at another size."""
    patch = 14
    vit = timm_vit.VisionTransformer(
        img_size=56, patch_size=patch, embed_dim=128, depth=2, num_heads=2, mlp_ratio=1, num_classes=0, init_values=1.0,
        reg_tokens=4, no_embed_class=True, dynamic_img_size=True,
    )
    randomize(vit, 2)
    seen = timm_attention(vit)
    for size in [(56, 56), (42, 70)]:
        tokens = vit.forward_features(images(*size))
        expect(
            "timm_registers", size, grid(tokens[:, 5:], patch, size),
            map_of(seen["attention"].mean(1)[:, 0, 5:], patch, size),
        )
    save("timm_registers", vit.state_dict())


def dino():
    """DINO in its training checkpoint: the teacher's backbone is the network. Its resizing of positions, at another size."""
    size, patch = (64, 64), 16
    vit = timm_vit.VisionTransformer(
        img_size=64, patch_size=patch, embed_dim=128, depth=2, num_heads=2, mlp_ratio=1, num_classes=0,
    )
    randomize(vit, 3)
    seen = timm_attention(vit)
    middle = {}
    vit.blocks[0].register_forward_hook(lambda _, args, out: middle.update(tokens=out))
    tokens = vit.forward_features(images(*size))
    saliency = map_of(seen["attention"].mean(1)[:, 0, 1:], patch, size)
    expect("dino", size, grid(tokens[:, 1:], patch, size), saliency)
    expect("dino", size, grid(middle["tokens"][:, 1:], patch, size), saliency, layer=0)
    weights = {f"teacher.backbone.{key}": tensor for key, tensor in vit.state_dict().items()}
    signs = ["cls_token", "patch_embed.proj.weight"]
    student = {f"student.module.backbone.{key}": torch.zeros_like(vit.state_dict()[key]) for key in signs}
    head = {"teacher.head.last_layer.weight_v": torch.zeros(4, 8)}
    save("dino", weights | student | head, ".pth")

    size = (80, 48)
    h, w = size[0] // patch, size[1] // patch
    positions = vit.pos_embed[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    # The lines of facebookresearch/dino, vision_transformer.py, interpolate_pos_encoding.
    resized = F.interpolate(positions, scale_factor=((h + 0.1) / 4, (w + 0.1) / 4), mode="bicubic")
    assert resized.shape[-2:] == (h, w)
    resized = resized.permute(0, 2, 3, 1).reshape(1, h * w, -1)
    x = vit.patch_embed.proj(images(*size)).flatten(2).transpose(1, 2)
    x = torch.cat([vit.cls_token.expand(BATCH, -1, -1), x], 1) + torch.cat([vit.pos_embed[:, :1], resized], 1)
    tokens = vit.norm(vit.blocks(x))
    expect(
        "dino", size, grid(tokens[:, 1:], patch, size), map_of(seen["attention"].mean(1)[:, 0, 1:], patch, size)
    )


def transformers_dinov2():
    """DINOv2 with gated feed-forward layers in transformers, at its own and at another size."""
    patch = 14
    config = transformers.Dinov2Config(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=1, image_size=56, patch_size=patch,
        use_swiglu_ffn=True, attn_implementation="eager",
    )
    vit = randomize(transformers.Dinov2Model(config), 4)
    for size in [(56, 56), (42, 70)]:
        out = vit(images(*size), output_attentions=True)
        expect(
            "transformers_dinov2", size, grid(out.last_hidden_state[:, 1:], patch, size),
            map_of(out.attentions[-1].mean(1)[:, 0, 1:], patch, size),
        )
    saved(vit, "transformers_dinov2")


def transformers_clip():
    """CLIP in transformers with GELU, as open_clip's trainings are converted."""
    size, patch = (64, 64), 16
    config = transformers.CLIPVisionConfig(
        hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=64,
        patch_size=patch, projection_dim=32, hidden_act="gelu", attn_implementation="eager",
    )
    vit = randomize(transformers.CLIPVisionModelWithProjection(config), 5)
    out = vit(images(*size), output_attentions=True)
    tokens = dict(vit.named_modules())
    norm = next(module for name, module in tokens.items() if name.endswith("post_layernorm"))
    features = vit.visual_projection(norm(out.last_hidden_state))[:, 1:]
    expect(
        "transformers_clip", size, grid(features, patch, size),
        map_of(out.attentions[-1].mean(1)[:, 0, 1:], patch, size),
    )
    saved(vit, "transformers_clip")


def saved(model, name):
    """The tensors as `save_pretrained` writes them, whose names may differ from those in memory."""
    import tempfile

    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors = load_file(Path(folder) / "model.safetensors")
    print(name, sorted(tensors)[:4], "...")
    save(name, tensors)


def clip_resnet():
    """A ResNet of CLIP: dense features are the pooling's value and output projections of every position."""
    resnet = ModifiedResNet([1, 2, 1, 1], output_dim=32, heads=4, image_size=96, width=8)
    randomize(resnet, 6)
    pool = resnet.attnpool
    size = (96, 96)
    x = resnet.stem(images(*size))
    for layer in [resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4]:
        x = layer(x)
    tokens = x.flatten(2).transpose(1, 2)
    features = pool.c_proj(pool.v_proj(tokens))
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + pool.positional_embedding
    pooled, weights = F.multi_head_attention_forward(
        query=tokens[:, :1].transpose(0, 1), key=tokens.transpose(0, 1), value=tokens.transpose(0, 1),
        embed_dim_to_check=tokens.shape[-1], num_heads=pool.num_heads,
        q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight,
        in_proj_weight=None, in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None, bias_v=None, add_zero_attn=False, dropout_p=0.0, out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias, use_separate_proj_weight=True, training=False, need_weights=True,
    )
    assert torch.allclose(pooled[0], resnet(images(*size)), atol=1e-5)
    expect("clip_resnet", size, grid(features, 32, size), map_of(weights[:, 0, 1:], 32, size))
    save("clip_resnet", {f"visual.{key}": tensor for key, tensor in resnet.state_dict().items() if "tracked" not in key})


with torch.no_grad():
    for case in [clip_vit, timm_registers, dino, transformers_dinov2, transformers_clip, clip_resnet]:
        case()
save_file(expected, HERE / "expected.safetensors")
