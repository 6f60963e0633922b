"""Tiny models of random weights, saved as transformers saves them: from their configurations, with tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = ("a", "photo", "of", "red", "green", "apple", "milk", "juice", "carton", "bread")
_LAYERS: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
VISION: dict[str, Any] = {**_LAYERS, "hidden_size": 32, "image_size": 56, "patch_size": 8}
TEXT: dict[str, Any] = {**_LAYERS, "hidden_size": 24, "vocab_size": 16, "pad_token_id": 0}


def pictures() -> list[Image.Image]:
    """Five pictures of several shapes, of smooth noise."""
    rng = np.random.default_rng(5)
    sizes = [(60, 90), (120, 70), (56, 56), (200, 80), (40, 40)]
    grains = [rng.integers(0, 256, (5, 5, 3)).astype(np.uint8) for _ in sizes]
    shapes = [(width, height) for height, width in sizes]
    return [Image.fromarray(grain).resize(shape) for grain, shape in zip(grains, shapes, strict=True)]


def words_tokenizer(*, first: bool) -> Any:
    """A word is a token, in lower case; texts end with one token and may begin with one."""
    special = ["<pad>", "<start>", "<end>", "<unknown>"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>" if first else "$A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    names = {"bos_token": "<start>", "eos_token": "<end>", "pad_token": "<pad>", "unk_token": "<unknown>"}
    inputs = ["input_ids", "attention_mask"] if first else ["input_ids"]
    kind: Any = transformers.PreTrainedTokenizerFast
    return kind(tokenizer_object=tokenizer, model_input_names=inputs, **names)


def save_clip(folder: Path) -> Any:
    """CLIP; its processor makes the shorter side 64 px and crops 56."""
    torch.manual_seed(1)
    text = {**TEXT, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 77}
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=20)
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}
    )
    return _saved(folder, transformers.CLIPModel(config), processor, words_tokenizer(first=True))


def save_siglip(folder: Path) -> Any:
    """SigLIP; it distorts to 56 px."""
    torch.manual_seed(2)
    text = {**TEXT, "max_position_embeddings": 64, "projection_size": 32}
    config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
    processor = transformers.SiglipImageProcessorPil(size={"height": 56, "width": 56})
    return _saved(folder, transformers.SiglipModel(config), processor, words_tokenizer(first=False))


def save_siglip2(folder: Path) -> Any:
    """SigLIP 2 of any aspect (NaFlex), at most 64 patches of 8 px."""
    torch.manual_seed(3)
    text = {**TEXT, "max_position_embeddings": 64, "projection_size": 32}
    vision = {**VISION, "num_patches": 64}
    del vision["image_size"]
    config = transformers.Siglip2Config(text_config=text, vision_config=vision)
    processor = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=64)
    return _saved(folder, transformers.Siglip2Model(config), processor, words_tokenizer(first=False), times=2)


def save_dinov2(folder: Path) -> Any:
    """DINOv2: no texts."""
    torch.manual_seed(4)
    config = transformers.Dinov2Config(**{**VISION, "mlp_ratio": 2})
    processor = transformers.BitImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}
    )
    return _saved(folder, transformers.Dinov2Model(config), processor)


def _saved(folder: Path, model: Any, *parts: Any, times: float = 1) -> Any:
    """The model, written with its parts; its matrices multiplied, so that texts and photos differ."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(times if weight.dim() > 1 else 1)
    model.eval().save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)
    return model
