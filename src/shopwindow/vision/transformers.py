"""Any vision model of the library transformers as a backbone: CLIP, SigLIP, SigLIP 2, DINOv2 and their like.

The feature of the whole photo is the library's own: `get_image_features` of CLIP and SigLIP, else the pooled output.
Cells come from the patches of the same pass. CLIP's are layer-normalised, meaned and projected, SigLIP's are pooled by
its own head, so both lie in the space of its texts; those of other models are meaned.

Photos of the usual image processors (resize, crop, normalise) are prepared here, with equal result. Others are
prepared by the library, one by one; where in the photo their patches lie is known of SigLIP 2 alone, so the rest give
the whole photo only.

Source: MaskCLIP (Zhou et al., 2022) for CLIP's patches in the joint space.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from PIL import Image
from torch import Tensor
from torch.nn import functional

from shopwindow.data.regions import Regions
from shopwindow.files import DataError
from shopwindow.vision.backbone import fingerprint_of, probe_of, probe_picture
from shopwindow.vision.pixels import WHOLE, Pixels, cut, seen_regions

_JOINT: Final = ("clip", "siglip", "siglip2")
"""Model types whose photos and texts share one space."""
_USUAL: Final = ("CLIPImageProcessor", "SiglipImageProcessor", "BitImageProcessor", "ViTImageProcessor")
_SETTINGS: Final = (
    *("size", "crop_size", "resample", "do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad"),
    *("rescale_factor", "image_mean", "image_std", "patch_size", "max_num_patches", "crop_pct"),
)
"""Of an image processor: what its input depends on."""
_PHOTOS_AT_ONCE: Final = 16
_TEXTS_AT_ONCE: Final = 64
_HUB_SECONDS: Final = 10
_USUAL_SIDE: Final = 384
"""px, where the processor names none."""
_CELLS: Final = "3x3 overlapping, 1"
"""Changes when the same model gives other cells."""


def open_transformers(name: str) -> PhotoModel:
    """The backbone of a local directory or a hub id; where the model has a text side too, a `PhotoAndTextModel`.

    The hub is asked only for what is not kept here already.

    Raises: DataError where transformers is missing, or cannot open the model without torchvision and foreign code.
    """
    transformers, folder = library(), folder_of(name)
    name = str(folder) if Path(name).expanduser().is_dir() else name
    with quiet():
        processor = opened(transformers.AutoImageProcessor, folder, backend="pil")
        model, missing = open_model(transformers.AutoModel, folder)
        kind = model.config.model_type
        if hasattr(model, "get_text_features") and kind not in _JOINT:
            raise DataError(f"{name}: photos with texts of the type {kind!r}; known are {', '.join(_JOINT)}")
        parts: dict[str, Any] = {"processor": processor, "pooled": not missing}
        if kind not in _JOINT:
            return PhotoModel(name, model, **parts)
        return PhotoAndTextModel(name, model, opened(transformers.AutoTokenizer, folder), **parts)


class PhotoModel:
    """A vision model as a backbone; threads may share it. Each call runs on the one thread that makes it.

    `pooled`: its own pooled output is used, else the first token, or the mean where there is none.

    Raises: DataError where it cannot encode the probe picture.
    """

    def __init__(self, name: str, model: Any, *, processor: Any, pooled: bool = True) -> None:
        self._name = name
        self._model = model
        self._vision = getattr(model, "vision_model", model)
        self._kind: str = model.config.model_type
        self._pooled = pooled
        self._processor = processor
        self._settings = {key: value for key, value in processor.to_dict().items() if key in _SETTINGS}
        self._pixels = usual_pixels(processor.to_dict())
        self.side: int = _USUAL_SIDE if self._pixels is None else self._pixels.side
        try:
            self.values: int = self.encode([probe_picture()]).features.shape[1]
        except Exception as error:  # whatever a network says of a picture that it does not take
            raise DataError(f"{name}: cannot encode a picture: {first_line(error)}") from error

    @functools.cached_property
    def _spec(self) -> dict[str, Any]:
        pixels = self._settings if self._pixels is None else dataclasses.asdict(self._pixels)
        settings = {"kind": self._kind, "pixels": pixels, "pooled": self._pooled, "cells": _CELLS}
        fingerprint = fingerprint_of(settings, weights_digest(self._model))
        return {"name": self._name, "kind": self._kind, "fingerprint": fingerprint, "probe": probe_of(self)}

    def spec(self) -> dict[str, Any]:
        """Name, type, fingerprint and probe."""
        return self._spec

    def encode(self, pictures: Sequence[Image.Image]) -> Regions:
        """The whole of each photo, and up to nine cells."""
        step = _PHOTOS_AT_ONCE if self._pixels else 1
        with one_thread(), torch.inference_mode():
            return Regions.join(
                [self._encode(pictures[start : start + step]) for start in range(0, len(pictures), step)]
            )

    def _encode(self, pictures: Sequence[Image.Image]) -> Regions:
        if self._pixels is None:
            inputs, views = dict(self._processor(images=list(pictures), return_tensors="pt")), WHOLE
        else:
            seen = self._pixels.see(pictures)
            inputs, views = {"pixel_values": torch.from_numpy(seen.pixels)}, seen.views
        out = self._vision(**inputs)
        grid = self._grid(out.last_hidden_state, inputs)
        wholes = self._project(self._whole(out, grid))
        if grid is None:
            return seen_regions(wholes, None, None, views, pictures)
        patches, shares = cut(grid)
        return seen_regions(wholes, self._pool(patches), shares, views, pictures)

    def _grid(
        self, hidden: Float[Tensor, "photos ..."], inputs: Mapping[str, Tensor]
    ) -> Float[Tensor, "photos height width values"] | None:
        """The patches as they lie in the photo; None where that is not known."""
        if "spatial_shapes" in inputs:
            height, width = inputs["spatial_shapes"][0].tolist()
            return hidden[:, : height * width].reshape(1, height, width, -1)
        if self._pixels is None:
            return None
        if hidden.dim() == 4:
            return hidden.permute(0, 2, 3, 1)
        patch = getattr(self._vision.config, "patch_size", None)
        if not isinstance(patch, int):
            return None
        height, width = self._pixels.height // patch, self._pixels.width // patch
        if hidden.shape[1] < height * width:
            return None
        return hidden[:, hidden.shape[1] - height * width :].reshape(len(hidden), height, width, -1)

    def _whole(self, out: Any, grid: Tensor | None) -> Float[Tensor, "photos values"]:
        pooled, hidden = getattr(out, "pooler_output", None), out.last_hidden_state
        if pooled is not None and self._pooled:
            return pooled.flatten(1)  # type: ignore[no-any-return] # the library's outputs have no types
        if hidden.dim() == 4:
            return hidden.mean(dim=(2, 3))  # type: ignore[no-any-return] # as above
        has_first = grid is None or hidden.shape[1] > grid.shape[1] * grid.shape[2]
        return hidden[:, 0] if has_first else hidden.mean(dim=1)  # type: ignore[no-any-return] # as above

    def _project(self, vectors: Float[Tensor, "... values"]) -> Float[Tensor, "... joint"]:
        """Into the joint space, where the way there is a projection."""
        projected: Tensor = getattr(self._model, "visual_projection", torch.nn.Identity())(vectors)
        return projected

    def _pool(
        self, patches: Float[Tensor, "photos cells patches values"]
    ) -> Float[Tensor, "photos cells joint"]:
        if self._kind.startswith("siglip") and self._pooled and hasattr(self._vision, "head"):
            pooled: Tensor = self._vision.head(patches.flatten(0, 1))
            return pooled.reshape(*patches.shape[:2], -1)
        if self._kind.startswith("clip"):
            patches = self._vision.post_layernorm(patches)
        return self._project(patches.mean(dim=2))


class PhotoAndTextModel(PhotoModel):
    """The same, and texts in the same space."""

    def __init__(self, name: str, model: Any, tokenizer: Any, *, processor: Any, pooled: bool = True) -> None:
        super().__init__(name, model, processor=processor, pooled=pooled)
        self._tokenizer = tokenizer
        self._lock = threading.Lock()  # of the tokenizer, whose padding is a state
        # SigLIP learned from texts of one length and reads the last token, so all are padded to that.
        self._padding: bool | str = "max_length" if self._kind.startswith("siglip") else True

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "texts values"]:
        """Unit vectors; a text longer than the model takes is cut."""
        out = np.empty((len(texts), self.values), np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        with one_thread(), torch.inference_mode():
            for start in range(0, len(order), _TEXTS_AT_ONCE):
                rows = order[start : start + _TEXTS_AT_ONCE]
                out[rows] = self.text_module()(**self.tokens([texts[row] for row in rows])).numpy()
        return out

    def tokens(self, texts: list[str]) -> dict[str, Tensor]:
        """What the text tower reads: input_ids [texts, tokens], and of CLIP its attention_mask."""
        with self._lock:
            return dict(
                self._tokenizer(
                    texts,
                    padding=self._padding,
                    truncation=True,
                    max_length=self._longest,
                    return_tensors="pt",
                )
            )

    def text_module(self) -> torch.nn.Module:
        """Tokens to unit vectors [texts, values]."""
        return _TextTower(self._model)

    def text_settings(self) -> dict[str, Any]:
        """How texts become tokens: the longest, what pads and on which side, whether all are padded to the longest."""
        return {
            "longest": self._longest,
            "padding": int(self._tokenizer.pad_token_id or 0),
            "padding_side": self._tokenizer.padding_side,
            "always_longest": self._padding == "max_length",
            "values": self.values,
        }

    def save_tokenizer(self, path: Path) -> None:
        """Writes it as a file of the library tokenizers. Raises: ValueError where it is none of these."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError("the tokenizer of this model is none of the library tokenizers")
        with self._lock:
            backend.save(str(path))

    @property
    def _longest(self) -> int:
        longest: int = self._model.config.text_config.max_position_embeddings
        return longest


class _TextTower(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    def forward(
        self,
        input_ids: Int64[Tensor, "texts tokens"],
        attention_mask: Int64[Tensor, "texts tokens"] | None = None,
    ) -> Float[Tensor, "texts values"]:
        mask = {} if attention_mask is None else {"attention_mask": attention_mask}
        found = self._model.get_text_features(input_ids=input_ids, **mask)
        # transformers 5 gives a record, 4 the vectors themselves.
        return functional.normalize(getattr(found, "pooler_output", found), dim=1)


def usual_pixels(settings: Mapping[str, Any]) -> Pixels | None:
    """What a usual image processor does to a photo; None for any other processor.

    The two agree to float32 rounding."""
    kind = settings["image_processor_type"].removesuffix("Fast").removesuffix("Pil")
    steps = ("do_resize", "do_rescale", "do_normalize")
    if kind not in _USUAL or settings.get("do_pad") or not all(settings.get(step) for step in steps):
        return None
    size, crop = settings["size"], settings.get("crop_size") if settings.get("do_center_crop") else None
    shown: dict[str, Any] = {
        # The library divides by 255 before it normalises, unless told otherwise.
        "mean": tuple(value / (255 * settings["rescale_factor"]) for value in settings["image_mean"]),
        "std": tuple(value / (255 * settings["rescale_factor"]) for value in settings["image_std"]),
        "filter": int(settings["resample"]),
    }
    if crop is None and set(size) == {"height", "width"}:
        return Pixels(size["height"], size["width"], **shown)
    if crop and set(size) == {"shortest_edge"} and max(crop.values()) <= size["shortest_edge"]:
        return Pixels(crop["height"], crop["width"], resize="crop", shorter=size["shortest_edge"], **shown)
    return None


def library() -> Any:
    """The library transformers.

    Raises: DataError where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise DataError("transformers is not installed: pip install 'shopwindow[transformers]'") from error
    return transformers


def open_model(auto: Any, folder: Path) -> tuple[Any, list[str]]:
    """A model in float32, ready to be asked, and the names of its pooler's weights where the file has none.

    Raises: DataError as `opened`, or where other weights are missing: they would be random.
    """
    model, loading = opened(auto, folder, dtype=torch.float32, output_loading_info=True)
    missing = sorted(loading["missing_keys"])
    wanted = [key for key in missing if "pooler" not in key]
    if wanted:
        raise DataError(f"{len(wanted)} of its weights are not there, {wanted[0]} first", path=folder)
    return model.eval(), missing


def opened(auto: Any, folder: Path, **options: Any) -> Any:
    """What a class of transformers opens of a directory, without the network and foreign code.

    Raises: DataError with what the library said, in one line."""
    try:
        return auto.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # every kind of broken file has an error class of its own
        problem = f"transformers cannot open it: {first_line(error)}"
        if "torchvision" in str(error).lower():
            problem = (
                "its image processor needs torchvision, which shopwindow does without (so do all of DINOv3); "
                "export the model to ONNX and describe that file in YAML"
            )
        raise DataError(problem, path=folder) from error


def folder_of(name: str) -> Path:
    """The directory that is named, or that of a hub id, which is downloaded where it is not kept here already.

    Raises: DataError where there is neither, or the hub cannot be reached."""
    path = Path(name)
    with contextlib.suppress(RuntimeError):  # a home of nobody
        path = path.expanduser()
    if path.is_dir():
        return path.resolve()
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise DataError("is no directory; a model's directory or a hub id was wanted", path=name)
    library()
    import huggingface_hub as hub

    with contextlib.suppress(OSError, ValueError):  # not kept here, or no possible id: the hub says which
        return Path(hub.snapshot_download(name, local_files_only=True))
    try:
        files = [str(one.rfilename) for one in hub.model_info(name, timeout=_HUB_SECONDS).siblings or []]
        weights = "*.safetensors" if any(file.endswith(".safetensors") for file in files) else "*.bin"
        wanted = ["*.json", "*.txt", "*.model", weights]
        return Path(hub.snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*/*"]))
    except Exception as error:  # of the network, of the hub, of the id
        problem = f"is no backbone, no directory, and not to be had from the hub: {first_line(error)}"
        raise DataError(f"{name} {problem}") from error


def weights_digest(model: Any) -> bytes:
    """SHA-256 over the weights of a model; their names and order do not count."""
    tensors = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    digests = sorted(hashlib.sha256(tensor.contiguous().numpy().data).digest() for tensor in tensors)
    return hashlib.sha256(b"".join(digests)).digest()


def first_line(error: Exception) -> str:
    """What an error says first."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """torch runs on the calling thread alone inside: photos beside each other, not inside each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and notes of the library inside; what matters is raised."""
    logging = library().utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
