"""Whatever open_clip builds: CLIP, SigLIP, CoCa, EVA, MobileCLIP, MetaCLIP, PE and towers of transformers."""

from pathlib import Path
from typing import Any

from cocoop.backbones.family import FAMILIES, About, Parts, Skeleton
from cocoop.backbones.hub import EXTRA, HUB
from cocoop.errors import CocoopError

MULTILINGUAL = (
    "xlm",
    "mt5",
    "nllb",
    "i18n",
    "siglip2",
    "worldwide",
    "multilingual",
)  # in names of tokenizers


class OpenClip:
    """open_clip's architectures, tags, folders, files of weights and models on the Hub."""

    about = About(
        name="open_clip",
        spelled="ARCHITECTURE/TAG, ARCHITECTURE@FILE, hf-hub:OWNER/NAME or a folder that open_clip wrote",
        text="token tree where the text tower is CLIP's, else padded",
        languages="English; many of SigLIP 2, i18n, XLM-R, mT5, NLLB and worldwide",
        example="ViT-B-16/openai",
        multilingual="xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k",
        paper="Radford et al. 2021, Cherti et al. 2023",
    )

    def takes(self, name: str) -> bool:
        """Whether a name is one of these: all that no other library's mark stands before."""
        from cocoop.backbones.names import CONFIG, model_config

        if name.startswith(HUB) or (Path(name).is_dir() and not (Path(name) / CONFIG).is_file()):
            return False
        if config := model_config(name):
            _check(name, config)
        return True

    def load(self, name: str) -> Parts:
        """Load a model of open_clip."""
        from cocoop.backbones.names import create_model, described, model_config, quiet

        described(name)  # a model of the Hub is looked at before its weights are fetched
        config = model_config(name) or {}
        if config:
            _check(name, config)
        model = create_model(name)
        with quiet():
            return parts(model, config.get("text_cfg", {}), Path(name))

    def skeleton(self, name: str) -> Skeleton | None:
        """Build a model of open_clip without values."""
        import open_clip
        import torch

        from cocoop.backbones.names import TOY, model_config, quiet
        from cocoop.backbones.open_clip_text import text_model

        if (config := model_config(name)) is None:
            return None
        with quiet(), torch.device("meta"):
            if name == TOY:
                model: Any = open_clip.CLIP(**config)
            else:
                model = _build(config)
        size = model.visual.image_size
        height, width = size if isinstance(size, (tuple, list)) else (size, size)
        return Skeleton(model, text_model(model, _context(config["text_cfg"])), (height, width))

    def cached(self, name: str) -> bool | None:
        """Whether the weights are on this machine."""
        from cocoop.backbones.names import cached

        return cached(name)


FAMILIES.register("open_clip")(OpenClip())


def parts(model: Any, text_config: dict[str, Any] | None = None, folder: Path | None = None) -> Parts:
    """Return any model of open_clip by its parts.

    Args:
        model: a `CLIP`, `CustomTextCLIP` or `CoCa`.
        text_config: what its description says of the text tower; CLIP's tokenizer where it says nothing.
        folder: where its tokenizer may lie.

    Raises:
        CocoopError: its tokenizer is missing or needs the extra `hf`.
    """
    from cocoop.backbones.image_models import FirstOutput
    from cocoop.backbones.open_clip_text import text_model
    from cocoop.backbones.open_clip_vision import vision_parts

    text_config = text_config or {}
    bias = getattr(model, "logit_bias", None)
    text = text_model(model, _context(text_config))
    return Parts(
        model=model,
        image=FirstOutput(model.visual),
        text=text,
        vocabulary=_vocabulary(text_config, text.context_length, folder),
        preprocess=_preprocess(model),
        logit_scale=lambda: float(model.logit_scale.detach().exp()),
        logit_bias=None if bias is None else lambda: float(bias.detach()),
        languages=_languages(text_config),
        vision=lambda: vision_parts(model.visual),
    )


def _build(config: dict[str, Any]) -> Any:
    """Build the towers that a description has, as open_clip chooses their class."""
    import open_clip

    config = dict(config)
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    return (kind if custom else open_clip.CLIP)(**{**config, "vision_cfg": vision, "text_cfg": text})


def _context(text_config: dict[str, Any]) -> int:
    from cocoop.backbones.open_clip_text import CONTEXT

    return int(text_config.get("context_length", CONTEXT))


def _check(name: str, config: dict[str, Any]) -> None:
    """Refuse what cannot be used, before anything is fetched. Raises CocoopError."""
    text = config["text_cfg"]
    if text.get("tokenizer_kwargs", {}).get("tokenizer_mode"):
        raise CocoopError(f"{name} cuts its texts with a tokenizer mode of its own, which is not supported")
    if not _tokenizer_name(text):
        from open_clip import SimpleTokenizer

        if (rows := text.get("vocab_size", len(SimpleTokenizer().encoder))) < len(SimpleTokenizer().encoder):
            raise CocoopError(f"{name} has {rows:,} tokens and does not say of which tokenizer")
        return
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise CocoopError(
            f"{name} has a tokenizer or text tower of transformers: pip install 'cocoop[{EXTRA}]'"
        ) from None


def _tokenizer_name(text_config: dict[str, Any]) -> str:
    return str(text_config.get("hf_tokenizer_name") or text_config.get("hf_model_name") or "")


def _vocabulary(text_config: dict[str, Any], context_length: int, folder: Path | None) -> Any:
    import open_clip

    from cocoop.backbones.hub import tokenizer_of
    from cocoop.backbones.tokenizer import ClipVocabulary, HubVocabulary

    name = _tokenizer_name(text_config)
    if not name:
        return ClipVocabulary(open_clip.SimpleTokenizer(context_length=context_length))
    settings = text_config.get("tokenizer_kwargs", {})
    clean = open_clip.tokenizer.get_clean_fn(settings.get("clean", "whitespace"))
    beside = folder if folder and any(folder.glob("tokenizer*.json")) else None
    return HubVocabulary(tokenizer_of(str(beside or name)), clean, bool(settings.get("strip_sep_token")))


def _languages(text_config: dict[str, Any]) -> str:
    name = _tokenizer_name(text_config).lower()
    return "multilingual" if any(word in name for word in MULTILINGUAL) else "English"


def _preprocess(model: Any) -> Any:
    import open_clip
    from open_clip.model import get_model_preprocess_cfg

    from cocoop.data.transforms import Preprocess

    config = get_model_preprocess_cfg(model)
    size = config["size"]
    if isinstance(size, (tuple, list)):
        size = int(size[0]) if size[0] == size[1] else (int(size[0]), int(size[1]))
    return Preprocess(
        size,
        tuple(config.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        tuple(config.get("std") or open_clip.OPENAI_DATASET_STD),
        config.get("interpolation") or "bicubic",
        config.get("resize_mode") or "shortest",
    )
