"""How does the text tower of CLIP or SigLIP become an ONNX graph? By torch's own exporter, which knows any model.

`model/exported_tower.py` reads what is written here. Knows no shop and no bundle.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from shopwindow.model.exported_tower import TOWER, TOWER_FORMAT, TOWER_GRAPH, TOWER_TOKENIZER
from shopwindow.vision.transformers import PhotoAndTextModel

_OPSET = 20
_SAMPLE = ["red bag", "a photo of a long green bag"]


def export_tower(backbone: PhotoAndTextModel, folder: Path) -> None:
    """Writes the text tower of a backbone into a directory that is there.

    Raises: ImportError without the extra `onnx`, ValueError for a model that the exporter, or a tokenizer that the
    library tokenizers, does not take.
    """
    try:
        import onnxscript  # noqa: F401 - what torch's exporter needs
    except ImportError as error:
        raise ImportError("ONNX needs the extra `onnx`: pip install 'shopwindow[onnx]'") from error
    card = backbone.text_settings()
    backbone.save_tokenizer(folder / TOWER_TOKENIZER)
    sample = backbone.tokens(_SAMPLE)
    texts = torch.export.Dim("texts")
    axes = {0: texts}
    if not card["always_longest"]:
        axes[1] = torch.export.Dim("tokens", max=card["longest"])
    try:
        with _quietly():
            program = torch.onnx.export(
                backbone.text_module(),
                kwargs=sample,
                dynamo=True,
                opset_version=_OPSET,
                dynamic_shapes=dict.fromkeys(sample, axes),
                verbose=False,
            )
        assert program is not None
        program.save(str(folder / TOWER_GRAPH))
    except Exception as error:  # the exporter has an error class for every step
        raise ValueError(
            f"torch cannot export the text tower: {' '.join(str(error).split())[:200]}"
        ) from error
    card = {"format": TOWER_FORMAT, **card}
    (folder / TOWER).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The exporter warns of operators of libraries that are not there, and of names that it gives itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
