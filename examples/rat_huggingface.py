"""Radius Aware Training in Hugging Face's `Trainer`: a small BERT on embedded text.

The text is the docstrings of six packages of Python's standard library, cut into windows of 16
words; the task is to predict the package of a window. Words become vectors by latent semantic
analysis (TF-IDF and a truncated SVD) of the training split, and the model takes them as
`inputs_embeds`, because RAT changes its input, and only the vector of a word can be changed by a
small step. With a pretrained model, compute `model.get_input_embeddings()(input_ids)` in the same
place; the embedding table itself is then not trained.

The lines that end in `# RAT` are the change from standard training; if such a line replaces
another, the comment above it shows the old line. After training, the radius and the maximum softmax
response (MSR) are compared as detectors of the network's errors on the test split. The words, and
so the numbers, depend on your version of Python.

    python examples/rat_huggingface.py    # twenty seconds on one core, the same numbers every time

Needs rrfast, scikit-learn, transformers and accelerate.
"""

import ast
import re
import sysconfig
import tempfile
from pathlib import Path

import torch
import transformers
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

import rrfast
from rrfast.integrations.transformers import ObjectiveTrainer  # RAT

PACKAGES = ("asyncio", "email", "http", "logging", "unittest", "xml")
WORDS, DIMENSIONS = 16, 64
# RAT's step, in every coordinate of a word vector, whose root mean square is 1. Chosen from 0.01,
# 0.02, 0.05 and 0.1 by the radius' AURC on a quarter of the training split, over three other seeds
# (new splits of the same text, so that some of this test split was used for the choice).
EPS = 0.05


def windows(package: str) -> list[str]:
    """The docstrings of a package, WORDS words at a time, each window once."""
    words: list[str] = []
    for path in sorted((Path(sysconfig.get_path("stdlib")) / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                words += re.findall(r"[a-z]{2,}", (ast.get_docstring(node) or "").lower())
    starts = range(0, len(words) - WORDS + 1, WORDS)
    return list(dict.fromkeys(" ".join(words[i : i + WORDS]) for i in starts))


def embedded() -> tuple[Tensor, Tensor, int]:
    """Windows [n, WORDS, DIMENSIONS], their packages [n], and the number of training windows.

    The first two thirds are for training, and only they determine the vectors.
    """
    corpus = [(window, y) for y, package in enumerate(PACKAGES) for window in windows(package)]
    order = torch.randperm(len(corpus), generator=torch.Generator().manual_seed(0)).tolist()
    cut = 2 * len(order) // 3
    tfidf = TfidfVectorizer(min_df=2)
    counts = tfidf.fit_transform(corpus[i][0] for i in order[:cut])
    svd = TruncatedSVD(DIMENSIONS, random_state=0).fit(counts)
    vectors = torch.tensor(svd.components_.T, dtype=torch.float32)
    # Every word vector has unit root mean square, as after a layer norm: the unit of eps. A word
    # that is not in the training split is the zero vector.
    vectors = nn.functional.normalize(vectors) * DIMENSIONS**0.5
    vectors = torch.cat([vectors, torch.zeros(1, DIMENSIONS)])
    known = tfidf.vocabulary_
    ids = torch.tensor([[known.get(w, len(known)) for w in corpus[i][0].split()] for i in order])
    return vectors[ids], torch.tensor([corpus[i][1] for i in order]), cut


class Classifier(transformers.BertForSequenceClassification):
    """BERT whose first argument is the input that RAT and the radius change."""

    def forward(
        self, inputs_embeds: Tensor, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        return super().forward(inputs_embeds=inputs_embeds, labels=labels)


x, y, cut = embedded()
transformers.set_seed(0)
model = Classifier(
    transformers.BertConfig(
        num_labels=len(PACKAGES),
        hidden_size=DIMENSIONS,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=2 * DIMENSIONS,
        max_position_embeddings=WORDS,
        vocab_size=1,
    )
)
data = [{"inputs_embeds": e, "labels": k} for e, k in zip(x[:cut], y[:cut], strict=True)]
with tempfile.TemporaryDirectory() as folder:
    args = transformers.TrainingArguments(
        folder,
        num_train_epochs=8,
        per_device_train_batch_size=32,
        learning_rate=1e-3,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
    )
    # RAT, in place of: trainer = transformers.Trainer(model, args, train_dataset=data)
    trainer = ObjectiveTrainer(model, args, train_dataset=data, objective=rrfast.RAT(EPS))  # RAT
    trainer.train()

x, y = x[cut:], y[cut:]
correct = model.eval()(x).logits.argmax(dim=1) == y
scores = {"MSR": rrfast.scores.MSR()(model, x), "radius": rrfast.radius(model, x)}
print(f"accuracy {100 * correct.double().mean():.2f} % of {len(correct)} test windows")
for name, score in scores.items():
    auroc, aurc = rrfast.metrics.auroc(score, correct), rrfast.metrics.aurc(score, correct)
    print(f"{name:<8} AUROC {100 * auroc:.2f} %   AURC {1000 * aurc:.2f} / 1000")
