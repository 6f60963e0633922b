"""Files of the original code give models; broken ones are refused with the names that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from shopwindow.files import DataError
from shopwindow.model.checkpoint import write_tower
from shopwindow.model.cross import Kind
from shopwindow.model.cross_checkpoint import load_original, own_name, start_from_bert
from shopwindow.model.cross_heads import CrossModel
from shopwindow.model.tokens import train_tokenizer
from shopwindow.model.towers import EncoderSize, TextTower
from tests.model.cross_golden import golden

FILES: dict[Kind, str] = {"uniter": "weights_2048.safetensors", "oscar": "weights_2054.safetensors"}


def tensors(kind: Kind) -> dict[str, Tensor]:
    return dict(load_file(golden(kind, FILES[kind])))


@pytest.mark.parametrize("kind", ["uniter", "oscar"])
def test_a_pickle_of_tensors_is_the_model_of_its_safetensors(kind: Kind, tmp_path: Path) -> None:
    torch.save(tensors(kind), tmp_path / "original.pt")
    read, wanted = (
        load_original(path, kind, attention_heads=2)
        for path in (tmp_path / "original.pt", golden(kind, FILES[kind]))
    )
    assert (wanted.feature_size, wanted.body.size.layers) == (2048, 1)
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor)


@pytest.mark.parametrize("kind", ["uniter", "oscar"])
def test_every_original_tensor_has_a_place(kind: Kind) -> None:
    model = load_original(golden(kind, FILES[kind]), kind, attention_heads=2)
    assert {own_name(name, kind) for name in tensors(kind)} == set(model.state_dict())


def test_old_names_of_a_layer_norm_are_read(tmp_path: Path) -> None:
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): own
        for name, own in tensors("oscar").items()
    }
    save_file(old, tmp_path / "old.safetensors")
    model = load_original(tmp_path / "old.safetensors", "oscar", attention_heads=2)
    assert torch.equal(model.body.embeddings.LayerNorm.weight, old["bert.embeddings.LayerNorm.gamma"])


@pytest.mark.parametrize(
    ("kind", "lost", "says"),
    [
        ("uniter", "uniter.encoder.layer.0.output.dense.bias", "body.encoder.layer.0.output.dense.bias"),
        ("uniter", "rank_output.bias", "heads.rank.bias"),
        ("uniter", "uniter.embeddings.word_embeddings.weight", "body.embeddings.word_embeddings.weight"),
        ("oscar", "bert.LayerNorm.bias", "body.regions.LayerNorm.bias"),
        ("oscar", "bert.img_embedding.weight", "body.regions.features.weight"),
    ],
)
def test_a_file_that_lacks_a_tensor_is_refused_with_its_name(
    kind: Kind, lost: str, says: str, tmp_path: Path
) -> None:
    kept = {name: own for name, own in tensors(kind).items() if name != lost}
    save_file(kept, tmp_path / "lacking.safetensors")
    with pytest.raises(DataError, match="missing") as refused:
        load_original(tmp_path / "lacking.safetensors", kind, attention_heads=2)
    assert says in str(refused.value)
    assert "lacking.safetensors" in str(refused.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        load_original(golden("oscar", FILES["oscar"]), "uniter")
    torch.save({"weights": [1, 2]}, tmp_path / "list.pt")
    with pytest.raises(DataError, match="no dictionary of tensors"):
        load_original(tmp_path / "list.pt", "uniter")
    torch.save(Path("anything"), tmp_path / "code.pt")
    with pytest.raises(DataError, match="more than tensors"):
        load_original(tmp_path / "code.pt", "uniter")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DataError, match="broken"):
        load_original(tmp_path / "broken.safetensors", "uniter")
    with pytest.raises(DataError, match="must divide"):
        load_original(golden("uniter", FILES["uniter"]), "uniter", attention_heads=3)


def test_a_pretrained_uniter_ranks_by_its_match_head(tmp_path: Path) -> None:
    kept = {name: own for name, own in tensors("uniter").items() if not name.startswith("rank_output.")}
    save_file(kept, tmp_path / "pretrained.safetensors")
    model = load_original(tmp_path / "pretrained.safetensors", "uniter", attention_heads=2)
    assert torch.equal(model.state_dict()["heads.rank.weight"], kept["itm_output.weight"][1:])


@pytest.mark.parametrize("kind", ["uniter", "oscar"])
def test_a_bert_gives_words_layers_and_pooler(kind: Kind, tmp_path: Path) -> None:
    size = EncoderSize(hidden=24, layers=2, heads=3, inner=40)
    tokenizer = train_tokenizer(["red shoe", "blue bag"], vocabulary=40)
    tower = TextTower(size, vocabulary=len(tokenizer.get_vocab()), longest=16)
    write_tower(tower, tokenizer, tmp_path / "bert")
    model = CrossModel(kind, size, feature_size=5, vocabulary=tower.vocabulary, longest=16)
    left = start_from_bert(model, tmp_path / "bert")
    assert left
    assert all(name.startswith("regions.") for name in left)
    for name, tensor in tower.state_dict().items():
        assert torch.equal(model.body.state_dict()[name], tensor)
    other = CrossModel(kind, size, feature_size=5, vocabulary=tower.vocabulary + 1, longest=16)
    with pytest.raises(DataError, match="word_embeddings"):
        start_from_bert(other, tmp_path / "bert")
