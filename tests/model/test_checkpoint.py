"""BERT checkpoints initialise towers, towers become BERT checkpoints, and broken ones are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from shopwindow.cli import main
from shopwindow.data.dataset import Dataset
from shopwindow.data.regions import Regions
from shopwindow.files import DataError
from shopwindow.model import given, towers
from shopwindow.model.bundle import Bundle
from shopwindow.model.checkpoint import BertCheckpoint, write_tower
from shopwindow.model.given import check_given, of_field
from shopwindow.model.initial import initial_model
from shopwindow.model.recipe import load_recipe
from shopwindow.model.tokens import tokenize, train_tokenizer
from shopwindow.model.towers import EncoderSize, PhotoTower, TextTower
from shopwindow.ranking.answers import read_answers
from shopwindow.ranking.measures import Measure, evaluate
from shopwindow.ranking.runs import read_run
from tests.model.conftest import TinyShop
from tests.model.parts import WORDS, linear, part, transformer, typed

SIZE = EncoderSize(hidden=24, layers=2, heads=3, inner=40, dropout=0.1)
TEXTS = ["red shoe", "blue bag", "green lamp shoe"]


@pytest.fixture
def text_tower() -> TextTower:
    tokenizer = train_tokenizer(TEXTS, vocabulary=60)
    return TextTower(SIZE, vocabulary=len(tokenizer.get_vocab()), longest=16).eval()


def test_written_text_tower_is_opened_by_transformers(tmp_path: Path, text_tower: TextTower) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = train_tokenizer(TEXTS, vocabulary=60)
    write_tower(text_tower, tokenizer, tmp_path / "bert")
    theirs = transformers.BertModel.from_pretrained(tmp_path / "bert").eval()
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "bert")
    tokens, lengths = tokenize(tokenizer, TEXTS, longest=16)
    with torch.no_grad():
        batch = words(TEXTS, padding=True, return_tensors="pt")
        wanted = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).pooler_output
        torch.testing.assert_close(text_tower(tokens, lengths), wanted, atol=1e-5, rtol=0)


def test_written_photo_tower_is_opened_by_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tower = PhotoTower(SIZE, feature_size=10).eval()
    write_tower(tower, train_tokenizer(TEXTS, vocabulary=60), tmp_path / "photo")
    theirs = transformers.BertModel.from_pretrained(tmp_path / "photo").eval()
    projection = load_file(tmp_path / "photo" / "projection.safetensors")
    regions = torch.rand(5, 10)
    embedded = regions @ projection["projection.weight"].T + projection["projection.bias"]
    with torch.no_grad():
        wanted = theirs(inputs_embeds=embedded[None]).pooler_output
        torch.testing.assert_close(tower(Regions(regions, torch.tensor([5]))), wanted, atol=1e-5, rtol=0)


def test_written_tower_initialises_another(tmp_path: Path, text_tower: TextTower) -> None:
    write_tower(text_tower, train_tokenizer(TEXTS, vocabulary=60), tmp_path / "bert")
    checkpoint = BertCheckpoint(tmp_path / "bert")
    assert checkpoint.size == SIZE
    other = TextTower(SIZE, vocabulary=checkpoint.vocabulary, longest=checkpoint.longest)
    assert checkpoint.load_into(other) == []
    for name, value in text_tower.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    photo = PhotoTower(SIZE, feature_size=7)
    assert checkpoint.load_into(photo) == ["projection.weight", "projection.bias"]
    name = "encoder.layer.1.output.dense.weight"
    assert torch.equal(photo.state_dict()[name], text_tower.state_dict()[name])


def test_old_names_and_prefixes_are_understood(tmp_path: Path, text_tower: TextTower) -> None:
    write_tower(text_tower, train_tokenizer(TEXTS, vocabulary=60), tmp_path / "bert")
    path = tmp_path / "bert" / "model.safetensors"
    old = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for name, value in load_file(path).items()
    }
    save_file({**old, "cls.predictions.bias": torch.zeros(3)}, path)
    other = TextTower(SIZE, vocabulary=text_tower.vocabulary, longest=16)
    assert BertCheckpoint(tmp_path / "bert").load_into(other) == []
    assert torch.equal(other.embeddings.LayerNorm.weight, text_tower.embeddings.LayerNorm.weight)


def test_recipe_starts_from_checkpoints(tmp_path: Path, text_tower: TextTower, tiny_shop: TinyShop) -> None:
    write_tower(text_tower, train_tokenizer(TEXTS, vocabulary=60), tmp_path / "bert")
    recipe = load_recipe("small", from_checkpoint(tmp_path / "bert", width=SIZE.hidden))
    tokenizer, model = initial_model(tiny_shop.train, recipe)
    assert tokenizer.encode("red shoe").tokens == ["[CLS]", "red", "shoe", "[SEP]"]
    for tower in (*model.text_towers, *model.photo_towers):
        assert isinstance(tower, TextTower | PhotoTower)
        assert torch.equal(tower.pooler.dense.weight, text_tower.pooler.dense.weight)
    assert model.dimensions == SIZE.hidden


def from_checkpoint(
    folder: Path, *, width: int, sides: tuple[str, ...] = ("text", "photo")
) -> dict[str, Any]:
    """Changes that let these sides begin with a checkpoint, the other with a small transformer."""
    given: dict[str, Any] = {"transformer": {"checkpoint": str(folder)}}
    own = {side: given if side in sides else transformer() for side in ("text", "photo")}
    return {"parts": [part(own["text"], own["photo"], width)]}


def break_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hidden_act": "relu"}, "hidden_act: 'relu', only 'gelu'"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"hidden_size": "24"}, "hidden_size: '24', wanted an integer"),
        ({"num_attention_heads": 7}, "must divide"),
        ({"num_hidden_layers": 3}, "encoder.layer.2"),
        ({"vocab_size": 7}, "word_embeddings"),
    ],
)
def test_checkpoints_that_cannot_be_honoured_are_named(
    tmp_path: Path, text_tower: TextTower, changes: dict[str, object], says: str
) -> None:
    write_tower(text_tower, train_tokenizer(TEXTS, vocabulary=60), tmp_path / "bert")
    break_config(tmp_path / "bert", **changes)
    with pytest.raises((DataError, ValueError), match=says):
        open_as_text_tower(tmp_path / "bert")


def open_as_text_tower(path: Path) -> None:
    checkpoint = BertCheckpoint(path)
    tower = TextTower(checkpoint.size, vocabulary=checkpoint.vocabulary, longest=checkpoint.longest)
    checkpoint.load_into(tower)


def test_pickles_are_never_loaded(tmp_path: Path, text_tower: TextTower) -> None:
    write_tower(text_tower, train_tokenizer(TEXTS, vocabulary=60), tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").rename(tmp_path / "bert" / "pytorch_model.bin")
    with pytest.raises(DataError, match="a pickle, which is never loaded"):
        BertCheckpoint(tmp_path / "bert")


@pytest.mark.parametrize("cut", [0, 5, 200])
def test_truncated_weights_are_named(tmp_path: Path, text_tower: TextTower, cut: int) -> None:
    write_tower(text_tower, train_tokenizer(TEXTS, vocabulary=60), tmp_path / "bert")
    path = tmp_path / "bert" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"model\.safetensors"):
        BertCheckpoint(tmp_path / "bert")


def test_same_seed_same_weights_other_seed_others(tiny_shop: TinyShop) -> None:
    def weights(dataset: Dataset, seed: int) -> Tensor:
        _, model = initial_model(dataset, load_recipe("small", {"optimiser.seed": seed}))
        return model.text_towers[0].pooler.dense.weight.detach()

    torch.manual_seed(1)
    first = weights(tiny_shop.train, 0)
    torch.manual_seed(2)
    assert torch.equal(first, weights(tiny_shop.train, 0))
    assert not torch.equal(first, weights(tiny_shop.train, 1))


def pretrained(folder: Path, texts: list[str]) -> Path:
    """A small BERT as transformers makes, and saves, one: another's sizes, spelling in lower case."""
    transformers = pytest.importorskip("transformers")
    words = sorted({word for text in texts for word in text.lower().split()})
    (folder / "words.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    sizes = {"hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 50}
    torch.manual_seed(3)
    config = transformers.BertConfig(vocab_size=40, max_position_embeddings=20, **sizes)
    transformers.BertModel(config).save_pretrained(folder / "bert")
    transformers.BertTokenizer(vocab=str(folder / "words.txt")).save_pretrained(folder / "bert")
    return folder / "bert"


@pytest.mark.parametrize("beside", [False, True])
def test_a_pretrained_bert_trains_ranks_and_is_kept(
    tmp_path: Path, tiny_shop: TinyShop, beside: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    texts = sorted(set(tiny_shop.train.query_texts))
    bert = pretrained(tmp_path, texts)
    text: dict[str, Any] = {"transformer": {"checkpoint": str(bert)}}
    photo = transformer()
    parts = [part(WORDS | text, linear() | photo, 36) if beside else part(text, photo, 36)]
    changes: dict[str, Any] = {"parts": parts, "batches.size": 30}
    changes |= {"optimiser.epochs": 10, "optimiser.learning_rate": 0.005}
    tokenizer, model = initial_model(tiny_shop.train, load_recipe("small", changes))
    theirs = transformers.BertModel.from_pretrained(bert).eval()
    words = transformers.AutoTokenizer.from_pretrained(bert)([text.upper() for text in texts], padding=True)
    tokens, lengths = tokenize(tokenizer, [text.upper() for text in texts], longest=model.longest)
    (tower,) = model.text_towers
    with torch.no_grad():
        wanted = theirs(**{name: torch.tensor(rows) for name, rows in words.items()}).pooler_output
        torch.testing.assert_close(tower.eval()(tokens, lengths), wanted, atol=1e-5, rtol=0)

    folder = tiny_shop.answers.parent
    pools = ["--valid", str(folder / "valid"), "--answers", str(tiny_shop.answers)]
    out = ["--out", str(tmp_path / "bundle"), "--recipe", "small", "--set", *typed(changes)]
    main(["train", str(folder / "train"), *pools, *out])
    main(["rank", str(tmp_path / "bundle"), str(folder / "valid"), "--out", str(tmp_path / "run.txt")])
    opened = Bundle.load(tmp_path / "bundle")
    scores = evaluate(read_run(tmp_path / "run.txt"), read_answers(tiny_shop.answers))
    assert scores.mean(Measure.parse("nDCG@5")) == pytest.approx(opened.scores["nDCG@5"], abs=1e-4)
    assert opened.scores["nDCG@5"] > 0.5  # in any order 0.2
    assert (opened.model.dimensions, opened.model.longest) == (36, 20)
    main(["export", "bert", str(tmp_path / "bundle"), "--out", str(tmp_path / "again")])
    kept = BertCheckpoint(tmp_path / "again")
    assert kept.size == BertCheckpoint(bert).size


def spoilt(folder: Path, what: str) -> None:
    if what == "no weights":
        (folder / "model.safetensors").unlink()
    if what == "broken weights":
        (folder / "model.safetensors").write_bytes(b"{}")
    if what == "no configuration":
        (folder / "config.json").unlink()
    if what == "no tokenizer":
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").unlink()
    if what == "broken tokenizer":
        (folder / "tokenizer.json").write_text("{")
    if what == "half a tokenizer":
        content = (folder / "tokenizer.json").read_bytes()
        (folder / "tokenizer.json").write_bytes(content[: len(content) // 2])
    if what == "no frame":
        content = json.loads((folder / "tokenizer.json").read_text())
        (folder / "tokenizer.json").write_text(json.dumps({**content, "post_processor": None}))
    if what == "broken vocabulary":
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text("red\nblue\n")
    if what == "many pieces":
        break_config(folder, vocab_size=7)
    if what == "few layers":
        break_config(folder, num_hidden_layers=3)
    if what == "empty directory":
        shutil.rmtree(folder)
        folder.mkdir()
    if what == "no directory":
        shutil.rmtree(folder)


OF_TEXTS = (
    "no tokenizer",
    "broken tokenizer",
    "half a tokenizer",
    "no frame",
    "broken vocabulary",
    "many pieces",
)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("no weights", "parts.0.text.transformer.checkpoint: {}/model.safetensors: missing"),
        ("broken weights", "parts.0.text.transformer.checkpoint: {}/model.safetensors: broken weights"),
        ("no configuration", "parts.0.text.transformer.checkpoint: {}/config.json: no such file"),
        ("no tokenizer", "text.tokenizer: {}: holds neither tokenizer.json nor vocab.txt"),
        ("broken tokenizer", "text.tokenizer: {}/tokenizer.json: no tokenizer file: "),
        ("half a tokenizer", "text.tokenizer: {}/tokenizer.json: no tokenizer file: "),
        ("no frame", "text.tokenizer: {}/tokenizer.json: an empty text is [], wanted [CLS] and [SEP]"),
        ("broken vocabulary", "text.tokenizer: {}/vocab.txt: the vocabulary has no [UNK]"),
        ("many pieces", "text.tokenizer: {}: the tokenizer has "),
        (
            "few layers",
            "parts.0.text.transformer.checkpoint: {}/model.safetensors, encoder.layer.2: the checkpoint lacks it",
        ),
        ("empty directory", "parts.0.text.transformer.checkpoint: {}/config.json: no such file"),
        ("no directory", "parts.0.text.transformer.checkpoint: {}: no such checkpoint directory"),
    ],
)
def test_what_a_recipe_names_is_looked_at_before_any_data(
    tmp_path: Path, text_tower: TextTower, what: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bert = tmp_path / "bert"
    write_tower(text_tower, train_tokenizer(TEXTS, vocabulary=60), bert)
    spoilt(bert, what)
    for side in ("text", "photo"):
        if side == "photo" and what in OF_TEXTS:
            continue
        recipe = load_recipe("small", from_checkpoint(bert, width=SIZE.hidden, sides=(side,)))
        with pytest.raises(DataError) as caught:
            check_given(recipe.text, recipe.parts)
        assert str(caught.value).startswith(says.format(bert).replace("0.text", f"0.{side}"))
    nowhere = ["--valid", "no-valid", "--answers", "no-answers", "--out", str(tmp_path / "bundle")]
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "train",
                "no-data",
                *nowhere,
                "--recipe",
                "small",
                "--set",
                *typed(from_checkpoint(bert, width=24, sides=("text",))),
            ]
        )
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"shopwindow: {says.format(bert)}")


def test_another_width_and_a_missing_tokenizer_are_named(tmp_path: Path, text_tower: TextTower) -> None:
    bert = tmp_path / "bert"
    write_tower(text_tower, train_tokenizer(TEXTS, vocabulary=60), bert)

    def check(changes: dict[str, Any]) -> None:
        recipe = load_recipe("small", changes)
        check_given(recipe.text, recipe.parts)

    says = r"parts\.0\.photo\.transformer\.checkpoint: .*hidden_size: 24, the part's width is 256"
    with pytest.raises(DataError, match=says):
        check(from_checkpoint(bert, width=256, sides=("photo",)))
    check(from_checkpoint(bert, width=24, sides=("photo",)))
    with pytest.raises(DataError, match=r"text\.tokenizer: .*no-such: no such tokenizer"):
        check({"text.tokenizer": "no-such"})
    break_config(bert, num_hidden_layers=3)
    with pytest.raises(DataError, match=r"field: .*encoder\.layer\.2"), of_field("field"):
        open_as_text_tower(bert)


def test_the_epsilon_that_is_honoured_is_the_towers() -> None:
    assert given.NORM_EPSILON == towers.NORM_EPSILON
