"""Tiny untrained models of every family, with tokenizers built here, as their libraries save them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

from cocoop.utils.seeding import seeded

WORDS = ["a", "photo", "of", "x", "red", "apple", "car", "dog", "house", "the", "blue", "circle", "square"]
NAMES = ["red apple", "red car", "dog", "dog house", "a", "apples"]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz.,!", "\u82f9", "\u679c"]
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}


def pieces(folder: Path, prefix: str = "") -> Any:
    """A SentencePiece tokenizer, which ends prompts in </s>."""
    special = ["<pad>", "</s>", "<unk>", "<s>"]
    words = [(f"\u2581{word}", -4.0) for word in WORDS]
    letters = [(letter, -9.0) for letter in ["\u2581", *LETTERS[:29], *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]]
    model = Tokenizer(models.Unigram([(piece, 0.0) for piece in special] + words + letters, unk_id=2))
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    ends = [("</s>", 1), *([(prefix, special.index(prefix))] if prefix else [])]
    model.post_processor = processors.TemplateProcessing(f"{prefix} $A </s>".strip(), special_tokens=ends)
    return _saved(model, folder, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>")


def byte_pairs(folder: Path) -> Any:
    """SigLIP 2's tokenizer, which pads on the left where its files do not say otherwise."""
    from transformers import Siglip2Tokenizer

    letters = ["\u2581", *LETTERS]
    vocabulary, merges = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *letters], []
    for word in WORDS:
        piece = "\u2581"
        for letter in word:
            merges.append((piece, letter))
            piece += letter
            vocabulary.append(piece)
    tokens = {piece: at for at, piece in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = Siglip2Tokenizer(vocab=tokens, merges=list(dict.fromkeys(merges)))
    ends = [("<eos>", 1)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "$A <eos>", special_tokens=ends
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def word_pieces(folder: Path) -> Any:
    """A WordPiece tokenizer in small letters, which parts Chinese characters."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = [*special, *WORDS, *LETTERS[1:], *(f"##{letter}" for letter in LETTERS)]
    model = Tokenizer(
        models.WordPiece({piece: at for at, piece in enumerate(dict.fromkeys(vocabulary))}, unk_token="[UNK]")
    )
    model.normalizer = normalizers.BertNormalizer()
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return _saved(model, folder, **tokens)


def clip_bytes(folder: Path) -> Any:
    """CLIP's own tokenizer, as transformers has it, of open_clip's vocabulary."""
    from transformers import CLIPTokenizer

    own = open_clip.SimpleTokenizer()
    merges = [pair for pair, _ in sorted(own.bpe_ranks.items(), key=lambda each: each[1])]
    vocabulary = dict(own.encoder)
    for old, new in (("<start_of_text>", "<|startoftext|>"), ("<end_of_text>", "<|endoftext|>")):
        vocabulary[new] = vocabulary.pop(old)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _saved(model: Tokenizer, folder: Path, **tokens: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, **tokens)
    tokenizer.save_pretrained(folder)
    return tokenizer


def sharpen(model: nn.Module) -> nn.Module:
    """Draw weights that tell inputs apart: the usual ones leave attention nearly uniform."""
    with seeded(7):
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval()


TOWER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
EYE = TOWER | {"image_size": 32, "patch_size": 16}


def _clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    clip_bytes(folder)
    text = TOWER | {"vocab_size": 49408, "max_position_embeddings": 24, "eos_token_id": 2}
    _save(CLIPModel(CLIPConfig(text_config=text, vision_config=EYE, projection_dim=12)), folder)


def _siglip(folder: Path) -> None:
    from transformers import SiglipConfig, SiglipModel

    size = len(pieces(folder))
    text = TOWER | {"vocab_size": size, "max_position_embeddings": 16, "projection_size": 16}
    _save(SiglipModel(SiglipConfig(text_config=text, vision_config=EYE)), folder)


def _siglip2(folder: Path) -> None:
    from transformers import Siglip2Config, Siglip2Model

    size = len(byte_pairs(folder))
    text = TOWER | {"vocab_size": size, "max_position_embeddings": 16, "projection_size": 16}
    eye = TOWER | {"patch_size": 16, "num_patches": 4}
    _save(Siglip2Model(Siglip2Config(text_config=text, vision_config=eye)), folder)


def _align(folder: Path) -> None:
    from transformers import AlignConfig, AlignModel

    text = TOWER | {"vocab_size": len(word_pieces(folder)), "max_position_embeddings": 48}
    eye = {
        "image_size": 32, "hidden_dim": 96, "width_coefficient": 0.1, "depth_coefficient": 0.1,
        "in_channels": [32], "out_channels": [80], "kernel_sizes": [3], "strides": [2],
        "num_block_repeats": [1], "expand_ratios": [1], "depthwise_padding": [],
    }  # fmt: skip
    config = AlignConfig(text_config=text, vision_config=eye, projection_dim=8, temperature_init_value=0.02)
    _save(AlignModel(config), folder)


def _altclip(folder: Path) -> None:
    from transformers import AltCLIPConfig, AltCLIPModel

    size = len(pieces(folder, prefix="<s>"))
    text = TOWER | {"vocab_size": size, "max_position_embeddings": 24, "project_dim": 12, "pad_token_id": 0}
    _save(AltCLIPModel(AltCLIPConfig(text_config=text, vision_config=EYE, projection_dim=12)), folder)


def _chinese_clip(folder: Path) -> None:
    from transformers import ChineseCLIPConfig, ChineseCLIPModel

    text = TOWER | {"vocab_size": len(word_pieces(folder)), "max_position_embeddings": 24}
    _save(ChineseCLIPModel(ChineseCLIPConfig(text_config=text, vision_config=EYE, projection_dim=12)), folder)


def _save(model: Any, folder: Path) -> None:
    sharpen(model).save_pretrained(folder)


OWN = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}


def _open_clip(
    text: dict[str, Any], tokenizer: Callable[[Path], Any] | None, **more: Any
) -> Callable[[Path], None]:
    """A folder as open_clip writes it; a tower of transformers has its description in a folder inside."""

    def save(folder: Path) -> None:
        described = dict(text)
        if tokenizer:
            described["hf_tokenizer_name"] = str(folder)
            size = len(tokenizer(folder))
            if "hf" in described:
                (folder / "tower").mkdir()
                config = described.pop("hf") | {"vocab_size": size}
                (folder / "tower" / "config.json").write_text(json.dumps(config))
                described["hf_model_name"] = str(folder / "tower")
                described["hf_model_pretrained"] = False
            else:
                described["vocab_size"] = size
        config = {"embed_dim": 12, "vision_cfg": VISION, "text_cfg": described, **more}
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
        save_file(dict(sharpen(model).state_dict()), folder / "open_clip_model.safetensors")

    return save


ROBERTA = {"model_type": "xlm-roberta", **TOWER, "max_position_embeddings": 40, "pad_token_id": 0}
T5 = {
    "model_type": "mt5", "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2,
    "is_encoder_decoder": True, "pad_token_id": 0, "decoder_start_token_id": 0,
}  # fmt: skip
NLLB = {
    "model_type": "m2m_100", "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24,
    "is_encoder_decoder": True, "pad_token_id": 0, "scale_embedding": True, "max_position_embeddings": 40,
}  # fmt: skip
SIGLIP = {**OWN, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
COCA = {
    "width": 16,
    "context_length": 16,
    "vocab_size": 49408,
    "heads": 2,
    "layers": 1,
    "attn_pooler_heads": 2,
}

TREES = {
    "open_clip CLIP": _open_clip(OWN, None),
    "open_clip worldwide": _open_clip({**OWN, "pool_type": "eos", "eos_id": 1}, pieces),
    "CLIPModel": _clip,
}
PADDED = {
    "open_clip SigLIP": _open_clip(
        {**SIGLIP, "tokenizer_kwargs": {"clean": "canonicalize"}},
        pieces,
        custom_text=True,
        init_logit_bias=-10,
    ),
    "open_clip CLIPA": _open_clip(
        {**OWN, "no_causal_mask": True, "pool_type": "last", "tokenizer_kwargs": {"strip_sep_token": True}},
        word_pieces,
    ),
    "open_clip MobileCLIP": _open_clip({**OWN, "no_causal_mask": True}, None, custom_text=True),
    "open_clip CoCa": _open_clip(
        {**OWN, "embed_cls": True, "output_tokens": True}, None, custom_text=True, multimodal_cfg=COCA
    ),
    "open_clip XLM-R": _open_clip(
        {"hf": ROBERTA, "hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"}, pieces
    ),
    "open_clip mT5": _open_clip({"hf": T5, "hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"}, pieces),
    "open_clip NLLB": _open_clip(
        {"hf": NLLB, "hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}, pieces
    ),
    "SiglipModel": _siglip,
    "Siglip2Model": _siglip2,
    "AlignModel": _align,
    "AltCLIPModel": _altclip,
    "ChineseCLIPModel": _chinese_clip,
}
FAMILIES = TREES | PADDED


def saved(name: str, folder: Path) -> str:
    """Save the model called `name` in a folder; return how `load_backbone` is to be called."""
    folder.mkdir(parents=True)
    with seeded(3):
        FAMILIES[name](folder)
    return str(folder)


def own_text_features(folder: str, model: Any, texts: list[str]) -> torch.Tensor:
    """The text features that a library's own functions give, its own tokenizer and padding included."""
    place = Path(folder)
    if (place / "open_clip_config.json").is_file():
        tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
        features = model.encode_text(tokens, normalize=False)
        return features
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if "siglip" in model.config.model_type:
        tokens = tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt")
        return model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    return model.get_text_features(
        input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
    ).pooler_output
