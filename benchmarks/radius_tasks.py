"""Classifiers of various kinds, each trained in seconds, for `benchmarks.radius_default`.

A task makes a model and its test data from a seed, which determines the split, the initial weights
and the batches. Requirements of the tasks besides rrfast:

    digits, tabular     pip install scikit-learn
    Fashion-MNIST       apt-get install dataset-fashion-mnist
    fortunes            apt-get install fortunes; the BERT pip install transformers
    photographs         the packages that benchmarks.radius_step names

Without them it raises an ImportError or a FileNotFoundError.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.train_models import digits_network, somewhere, train
from rrfast.data import Split, digits, fashion_mnist, synthetic
from rrfast.engine import Model, output_logits
from rrfast.models import fashion_cnn, synthetic_cnn
from rrfast.objectives import RAT, Objective

FORTUNES = Path("/usr/share/games/fortunes")
#: Files of fortunes, and packages of Python's standard library: which one is a text from?
FILES = ("computers", "definitions", "knghtbrd", "songs-poems")
PACKAGES = ("asyncio", "email", "http", "logging", "unittest", "xml")
#: Of a text, of those kept in the vocabulary, and numbers of a word's vector.
WORDS, VOCABULARY, WIDTH = 16, 4000, 64


@dataclass(frozen=True)
class Case:
    """A trained model and its test data."""

    model: Model
    test: Split
    tuning: Split  #: for hyper-parameters
    clean: Tensor | None = None  #: [n] bool, which of `test` is not degraded, where that is known
    options: Mapping[str, Any] = field(default_factory=dict)  #: of the radius: box and unit


class Task(NamedTuple):
    """A kind of model, and its number of seeds."""

    make: Callable[[int], Case]
    seeds: int


# ------------------------------------------------------------------------------------------- images


def digits_case(objective: Objective | None, seed: int) -> Case:
    data = digits(seed)
    return Case(digits_network(data, seed, objective), data.test, data.validation)


def synthetic_case(objective: Objective | None, seed: int) -> Case:
    """With the settings of the recipe synthetic_rat."""
    data = synthetic(seed, test=1500)
    model = synthetic_cnn(seed)
    train(model, data.train, seed, 8, objective=objective, augment=somewhere)
    return Case(model.eval(), data.test, data.validation)


def fashion_case(objective: Objective | None, images: int, epochs: int, seed: int) -> Case:
    """`fashion_cnn` on a share of the training images; tested on 4000 of the others."""
    whole = fashion_mnist()
    order = torch.randperm(len(whole.train.y), generator=torch.Generator().manual_seed(seed))
    own = Split(whole.train.x[order[:images]], whole.train.y[order[:images]])
    model = fashion_cnn(seed=seed)
    train(model, own, seed, epochs, objective=objective, batch_size=128, weight_decay=1e-4)
    order = torch.randperm(len(whole.test.y), generator=torch.Generator().manual_seed(seed))
    tuning, test = (
        Split(whole.test.x[part], whole.test.y[part]) for part in (order[:1000], order[1000:5000])
    )
    return Case(model.eval(), test, tuning)


def photographs_case(network: str, seed: int) -> Case:
    """A pretrained network on crops; right is its prediction for the whole photograph."""
    from benchmarks import radius_step

    model = radius_step.network(network)
    splits = []
    for draw in (seed, 1000 + seed):  # to tune on: other crops of the same photographs
        x, clean = radius_step.pixels(draw)
        parts = x.split(radius_step.BATCH)
        with torch.no_grad():
            prediction = torch.cat([model(part) for part in parts]).argmax(dim=1)
        crops = len(x) // len(radius_step.PHOTOGRAPHS)  # of each photograph, the whole one first
        splits.append(Split(x, prediction[::crops].repeat_interleave(crops)))
    options = {"scale": radius_step.SCALE, "bounds": radius_step.BOUNDS}
    return Case(model, *splits, clean, options)


# --------------------------------------------------------------------------------------------- text


class Convolution(nn.Module):
    """Of word vectors [n, WORDS, WIDTH]: a convolution over words, its largest answers, a linear.

    The usual small network for sentences.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY + 1, WIDTH)
        self.convolution = nn.Conv1d(WIDTH, 128, 3, padding=1)
        self.last = nn.Linear(128, classes)

    def forward(self, inputs_embeds: Tensor) -> Tensor:
        seen = self.convolution(inputs_embeds.transpose(1, 2)).relu().amax(dim=2)
        return self.last(nn.functional.dropout(seen, 0.5, self.training))  # type: ignore[no-any-return]


class Embedded(nn.Module):
    """A model of word vectors as one of word numbers, to train both."""

    def __init__(self, words: nn.Embedding, model: nn.Module) -> None:
        super().__init__()
        self.words, self.model = words, model

    def forward(self, numbers: Tensor) -> Tensor:
        return output_logits(self.model(self.words(numbers)))


class Vectors(nn.Module):
    """A model of transformers whose first argument is `inputs_embeds`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs_embeds: Tensor) -> Any:
        return self.model(inputs_embeds=inputs_embeds)


def bert(classes: int) -> tuple[nn.Embedding, nn.Module]:
    """A BERT of two layers, not pretrained."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=VOCABULARY + 1,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=WORDS,
        num_labels=classes,
    )
    model = BertForSequenceClassification(config)
    return model.get_input_embeddings(), Vectors(model)


def convolution(classes: int) -> tuple[nn.Embedding, nn.Module]:
    model = Convolution(classes)
    return model.words, model


def fortunes() -> Iterator[tuple[int, str]]:
    """Fortunes, and the file that each is from."""
    for subject, name in enumerate(FILES):
        file = FORTUNES / name
        if not file.is_file():
            raise FileNotFoundError(f"{file} is not there: apt-get install fortunes")
        for text in re.split(r"^%$", file.read_text("utf-8"), flags=re.MULTILINE):
            yield subject, text


def docstrings() -> Iterator[tuple[int, str]]:
    """Docstrings of Python's standard library, and the package that each is from."""
    for subject, package in enumerate(PACKAGES):
        for path in sorted((Path(sysconfig.get_path("stdlib")) / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    yield subject, ast.get_docstring(node) or ""


def text_case(
    texts: Callable[[], Iterator[tuple[int, str]]],
    network: Callable[[int], tuple[nn.Embedding, nn.Module]],
    seed: int,
) -> Case:
    """Which subject are these WORDS words of? The model that is tested takes word vectors."""
    windows, subjects, sources = [], [], []
    for source, (subject, text) in enumerate(texts()):
        words = re.findall(r"[a-z]+", text.lower())
        for start in range(0, len(words) - WORDS + 1, WORDS):
            windows.append(words[start : start + WORDS])
            subjects.append(subject)
            sources.append(source)
    # Divided by text, so that no text has windows on both sides.
    source = torch.tensor(sources)
    known = source.unique()
    order = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))]
    parts = [
        torch.isin(source, part)
        for part in order.tensor_split((len(order) // 2, len(order) * 5 // 8))
    ]
    counts = Counter(word for place in parts[0].nonzero() for word in windows[place])
    often = sorted(counts, key=lambda word: (-counts[word], word))[:VOCABULARY]
    numbers = {word: place for place, word in enumerate(often, 1)}  # 0 for all others
    ids = torch.tensor([[numbers.get(word, 0) for word in window] for window in windows])
    y = torch.tensor(subjects)
    vectors, model = network(max(subjects) + 1)
    both = Embedded(vectors, model)
    train(both, Split(ids[parts[0]], y[parts[0]]), seed, 10)
    both.eval().requires_grad_(False)
    tuning, test = (Split(vectors(ids[part]), y[part]) for part in parts[1:])
    return Case(model, test, tuning)


# ------------------------------------------------------------------------------------------ tabular


def tabular_case(name: str, seed: int) -> Case:
    """A small MLP on standardised numbers of scikit-learn; half trains, an eighth tunes."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    x, y = torch.tensor(bunch.data, dtype=torch.float32), torch.tensor(bunch.target)
    if y.is_floating_point():
        y = y > y.median()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    parts = order.tensor_split((len(y) // 2, len(y) * 5 // 8))
    mean, std = x[parts[0]].mean(dim=0), x[parts[0]].std(dim=0)
    own, tuning, test = (Split((x[part] - mean) / std, y[part].long()) for part in parts)
    hidden = 64
    model = nn.Sequential(
        nn.Linear(x.shape[1], hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, int(y.max()) + 1),
    )
    train(model, own, seed, 40, batch_size=32)
    return Case(model.eval(), test, tuning)


TASKS = {
    "digits": Task(partial(digits_case, None), 8),
    "digits, RAT": Task(partial(digits_case, RAT(eps=0.1)), 8),
    "synthetic": Task(partial(synthetic_case, None), 5),
    "synthetic, RAT": Task(partial(synthetic_case, RAT(eps=2e-2)), 5),
    "fashion": Task(partial(fashion_case, None, 12_000, 8), 5),
    "fashion, RAT": Task(partial(fashion_case, RAT(eps=1e-2), 12_000, 8), 5),
    "fashion, by heart": Task(partial(fashion_case, None, 4_000, 30), 5),
    "docstrings, CNN": Task(partial(text_case, docstrings, convolution), 5),
    "docstrings, BERT": Task(partial(text_case, docstrings, bert), 5),
    "fortunes, CNN": Task(partial(text_case, fortunes, convolution), 5),
    "breast cancer": Task(partial(tabular_case, "breast_cancer"), 16),
    "diabetes": Task(partial(tabular_case, "diabetes"), 16),
    "wine": Task(partial(tabular_case, "wine"), 16),
    "Lite0": Task(partial(photographs_case, "efficientnet-lite0"), 3),
    "Lite1": Task(partial(photographs_case, "efficientnet-lite1"), 3),
}
