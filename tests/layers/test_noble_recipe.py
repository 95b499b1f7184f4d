"""A language model on a user's text or tokens, and the texts the study learns from."""

import csv
import dataclasses
import math

import numpy as np
import pytest
import torch

from paperworks.errors import DataFileError, SettingError
from paperworks.layers.noble.language import MadeLanguage, Windows, alphabet, encode, read_text, token_file
from paperworks.layers.noble.recipe import recipe
from paperworks.training.recipe import fit_files, predict_files

TINY = {"context": 16, "embed_dim": 16, "depth": 1, "num_heads": 2, "rank": 2, "steps": 2, "length": 30}
LINES = "the cat sat on the mat. the dog lay by the log.\n"


def written(folder, text=20 * LINES, name="text.txt"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.slow
def test_learns_scores_and_goes_on_writing(tmp_path):
    source = written(tmp_path, 30 * LINES)
    chosen = {**TINY, "embed_dim": 32, "rank": 4, "steps": 100, "lr": 1e-2, "temperature": 0.0}
    report = fit_files(recipe, source, tmp_path / "m", settings=chosen, test=source)
    assert report["metrics"]["validation"]["loss"] < 0.3 < math.log(18)
    assert report["metrics"]["test"]["perplexity"] == pytest.approx(math.exp(report["metrics"]["test"]["loss"]))
    prompt = written(tmp_path, "the cat sat on t", "prompt.txt")
    predict_files(recipe, tmp_path / "m", prompt, tmp_path / "more.txt")
    assert (tmp_path / "more.txt").read_text().startswith("he mat. the dog")
    count = predict_files(recipe, tmp_path / "m", source, tmp_path / "p.csv")["count"]
    rows = list(csv.reader((tmp_path / "p.csv").open()))
    assert rows[0] == ["window", "first_token", "loss", "perplexity"]
    assert count == len(rows) - 1 == (30 * len(LINES) - 1) // 16
    values = np.array(rows[1:], float)
    assert values[:, 1].tolist() == [16 * i + 2 for i in range(count)]
    assert values[:, 2].mean() == pytest.approx(report["metrics"]["test"]["loss"], rel=1e-3)


def test_tokens_in_a_file_are_learnt_scored_and_continued(tmp_path):
    tokens = np.tile(np.arange(40, dtype="<u2"), 20)
    (tmp_path / "train.bin").write_bytes(tokens.tobytes())
    fit_files(recipe, tmp_path / "train.bin", tmp_path / "m", settings={**TINY, "vocab_size": 50})
    assert predict_files(recipe, tmp_path / "m", tmp_path / "train.bin", tmp_path / "p.csv")["count"] == 49
    predict_files(recipe, tmp_path / "m", tmp_path / "train.bin", tmp_path / "more.bin")
    more = np.fromfile(tmp_path / "more.bin", "<u2")
    assert len(more) == 30
    assert more.max() < 50
    with pytest.raises(DataFileError, match=r"ends in \.csv for losses, or in \.bin"):
        predict_files(recipe, tmp_path / "m", tmp_path / "train.bin", tmp_path / "more.txt")
    (tmp_path / "high.bin").write_bytes((tokens + 30).tobytes())
    with pytest.raises(DataFileError, match="token 69, and the vocabulary has 50"):
        predict_files(recipe, tmp_path / "m", tmp_path / "high.bin", tmp_path / "p.csv")
    with pytest.raises(DataFileError, match=r"fitted on a \.bin"):
        predict_files(recipe, tmp_path / "m", written(tmp_path), tmp_path / "p.csv")


def test_texts_that_cannot_be_read_are_told(tmp_path):
    fit_files(recipe, written(tmp_path), tmp_path / "m", settings=TINY)
    with pytest.raises(DataFileError, match="line 2: the model was fitted on a text without the character 'Z'"):
        predict_files(recipe, tmp_path / "m", written(tmp_path, "the cat\nZ", "z.txt"), tmp_path / "p.csv")
    with pytest.raises(DataFileError, match="1 token; at least 2"):
        predict_files(recipe, tmp_path / "m", written(tmp_path, "t", "one.txt"), tmp_path / "p.csv")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 300)
    (tmp_path / "odd.bin").write_bytes(b"123")
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))
    for path, told in (
        (written(tmp_path, "", "empty.txt"), "is empty"),
        (tmp_path / "latin.txt", "byte 3 is 0xe9"),
        (tmp_path / "odd.bin", "3 bytes; a token file holds two"),
        (tmp_path / "none.txt", "cannot be read"),
        (tmp_path, "cannot be read"),
        (written(tmp_path, "too short", "short.txt"), "a window takes 17"),
        (written(tmp_path, many, "many.txt"), "9000 different characters"),
    ):
        with pytest.raises(DataFileError, match=told):
            fit_files(recipe, path, tmp_path / "n", settings=TINY)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"depth": 0}, "depth"), ({"temperature": -1.0}, "temperature"), ({"vocab_size": 70_000}, "65536"),
        ({"optimizer": "sgd"}, "adamw"), ({"nonlinearity": "sine"}, "one of cosnet"),
        ({"num_heads": 3}, "does not divide"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_told(tmp_path, wrong, told):
    with pytest.raises(SettingError, match=told):
        fit_files(recipe, written(tmp_path), tmp_path / "m", settings={**TINY, **wrong})


def test_branches_learn_at_their_own_rates(tmp_path):
    model = recipe.build({"vocab_size": 7}, {**recipe.settings, **TINY})
    made = recipe.optimizer(model, recipe.settings)(None)
    assert sorted({round(group["lr"] / recipe.settings["lr"], 3) for group in made.param_groups}) == [
        1, 2, round((16 / 2) ** 0.4, 3), round((16 / 2) ** 0.5, 3), 4,
    ]  # fmt: skip
    seen = []

    def watched(model, settings):
        seen.append(recipe.optimizer(model, settings)(None))
        return lambda _: seen[0]

    fit_files(dataclasses.replace(recipe, optimizer=watched), written(tmp_path), tmp_path / "m", settings=TINY)
    assert all(state["step"] == TINY["steps"] for state in seen[0].state.values())
    assert len(seen[0].state) == len(list(model.parameters()))


# Texts


def test_entropy_of_the_made_language_is_that_of_its_chain():
    made = MadeLanguage(words=12, followers=3, seed=1)
    assert made.frequency.sum() == pytest.approx(1)
    chain = np.zeros((12, 12))
    for word, followers in enumerate(made.next):
        chain[word, followers] = made.chances
    np.testing.assert_allclose(made.frequency @ chain, made.frequency, atol=1e-12)
    words = "".join(made.characters[c] for c in made.text(400_000, 0).tolist()).split(" ")
    place = {word: number for number, word in enumerate(made.words)}
    seen = np.zeros((12, 12))
    np.add.at(seen, ([place[word] for word in words[:-2]], [place[word] for word in words[1:-1]]), 1)
    assert seen[chain == 0].sum() < 256  # where one text ends and the next begins
    seen[chain == 0] = 0
    share = seen / seen.sum()
    conditional = -np.nansum(share * np.log(np.where(share > 0, share / share.sum(1, keepdims=True), 1)))
    mean_length = made.frequency @ [len(word) + 1 for word in made.words]
    assert conditional / mean_length == pytest.approx(made.entropy, rel=0.02)
    assert torch.equal(made.text(1000, 3), MadeLanguage(12, 3, 1).text(1000, 3))
    assert not torch.equal(made.text(1000, 3), made.text(1000, 4))


def test_windows_cover_each_token_once_and_targets_come_next():
    windows = Windows(torch.arange(50), 16)
    assert len(windows) == 3
    tokens, after = windows[[0, 1, 2]]
    assert torch.equal(tokens.flatten(), torch.arange(48))
    assert torch.equal(after, tokens + 1)
    assert len(Windows(torch.arange(49), 16)) == 3
    assert len(Windows(torch.arange(48), 16)) == 2
    assert len(Windows(torch.arange(16), 16)) == 0
    assert torch.equal(windows.at([7])[0][0], torch.arange(7, 23))


def test_text_is_coded_and_back(tmp_path):
    text = read_text(written(tmp_path, "héllo\nwörld 🙂\n"))
    characters = alphabet(text, "")
    assert "".join(characters[code] for code in encode(text, characters, "")) == text
    np.arange(5, dtype="<u2").tofile(tmp_path / "t.bin")
    assert token_file(tmp_path / "t.bin").tolist() == [0, 1, 2, 3, 4]
