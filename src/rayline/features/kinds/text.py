"""A text as hashed n-grams, weighted by rarity, of length 1: the same for a column of texts and for one.

The n-grams are those of scikit-learn's ``CountVectorizer`` (words of two characters or more; characters after runs of
white space became one space), their counts are weighted as in its ``TfidfTransformer`` (``count * (ln((1 + texts) /
(1 + found)) + 1)``, then divided by the Euclidean norm). Only the hash is another. A missing or empty text is zeros.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayline.config import TextConfig
from rayline.features.kinds.hashed import bucket_of
from rayline.features.kinds.seam import Extras, Feature, Filler, Kind, Observed, read
from rayline.features.reading import canonical
from rayline.features.reading.arrow_values import RULES
from rayline.features.reading.batch import Batch
from rayline.features.reading.values import Values
from rayline.features.sketches import Documents

WORDS = re.compile(r"(?u)\b\w\w+\b")
SPACES = re.compile(r"\s\s+")
CELLS = 1 << 20  # texts by buckets that are counted at a time
DOCUMENTS = "documents"


@dataclass(frozen=True, slots=True)
class Grams:
    """How a text becomes n-grams and these become buckets; see ``TextConfig``."""

    analyzer: str
    shortest: int
    longest: int
    buckets: int
    lowercase: bool

    def of(self, text: str) -> Iterable[str]:
        """Return a text's n-grams, the shortest first."""
        text = text.lower() if self.lowercase else text
        if self.analyzer == "char":
            return _runs(SPACES.sub(" ", text), self.shortest, self.longest)
        words: list[str] = WORDS.findall(text)
        if self.longest == 1:
            return words
        sizes = range(self.shortest, self.longest + 1)
        return chain.from_iterable(
            map(" ".join, zip(*(words[at:] for at in range(size)), strict=False)) for size in sizes
        )

    def counted(self, texts: tuple[str, ...]) -> Counted:
        """Return how often each text has an n-gram in each bucket."""
        seen = _Buckets(self.buckets)
        step = max(CELLS // self.buckets, 1)
        return Counted.joined(
            [self._counted(texts[start : start + step], seen) for start in range(0, len(texts), step)]
        )

    def _counted(self, texts: tuple[str, ...], seen: _Buckets) -> Counted:
        buckets: list[int] = []
        ends = [0]
        for text in texts:
            buckets.extend(map(seen.__getitem__, self.of(text)))
            ends.append(len(buckets))
        owners = np.repeat(np.arange(len(texts)), np.diff(ends))
        cells = np.bincount(owners * self.buckets + np.array(buckets, dtype=np.int64), minlength=1)
        filled = np.flatnonzero(cells)
        lengths = np.bincount(filled // self.buckets, minlength=len(texts))
        return Counted(lengths, filled % self.buckets, cells[filled])


def _runs(text: str, shortest: int, longest: int) -> Iterable[str]:
    if longest == 1:
        return text
    sizes = range(shortest, longest + 1)
    return [text[start : start + size] for size in sizes for start in range(len(text) - size + 1)]


@dataclass(frozen=True, slots=True)
class Counted:
    """The buckets that some texts have, one text after the other, each text's in ascending order.

    Attributes:
        lengths: int64 (texts,), how many different buckets each has.
        buckets, counts: int64, one entry for each bucket of each text.
    """

    lengths: NDArray[np.int64]
    buckets: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: list[Counted]) -> Counted:
        """Return the counts of texts that follow one another."""
        none = np.zeros(0, dtype=np.int64)
        lengths, buckets, counts = ([getattr(part, name) for part in parts] for name in cls.__slots__)
        return cls(*(np.concatenate([none, *each]) for each in (lengths, buckets, counts)))

    def weighed(self, rarity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weight of each entry: each text's are of length 1."""
        weights = self.counts * rarity[self.buckets]
        text = np.repeat(np.arange(len(self.lengths)), self.lengths)
        # It adds each text's squares in the order of its buckets, as the row path does: equal to the last bit.
        norms = np.sqrt(np.bincount(text, weights * weights, len(self.lengths)))
        weighed: NDArray[np.float64] = weights / norms[text]
        return weighed

    def spread(self, texts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return row and entry numbers that give the text ``texts[row]`` to each row; -1 has none."""
        lengths = np.append(self.lengths, 0)[texts]
        starts = np.append(np.cumsum(self.lengths) - self.lengths, 0)[texts]
        rows = np.repeat(np.arange(len(texts)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return rows, starts[rows] + within


@dataclass(frozen=True, slots=True)
class TextColumn:
    """The buckets of a text. ``rarity`` is each bucket's weight, all 1 without ``idf``."""

    name: str
    source: str
    grams: Grams
    rarity: tuple[float, ...]
    kind: str = "text"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The one raw column."""
        return (self.source,)

    @property
    def output_names(self) -> tuple[str, ...]:
        """``name[bucket]`` from 0."""
        return tuple(f"{self.name}[{bucket}]" for bucket in range(self.grams.buckets))

    def batch(self, batch: Batch, out: NDArray[np.float32], *, training: bool) -> None:
        """See ``FittedColumn``."""
        values = batch.values(self.source, "text")
        counted = self.grams.counted(values.texts)
        rows, entries = counted.spread(values.codes)
        out[rows, counted.buckets[entries]] = counted.weighed(np.array(self.rarity))[entries]

    def filler(self, offset: int) -> Filler:
        """See ``FittedColumn``."""
        source, grams, rarity = self.source, self.grams, self.rarity

        def fill(row: Mapping[str, Any], out: list[float]) -> None:
            text = read(canonical.plain_text, row[source], source, RULES["text"])
            if text is None:
                return
            counts: dict[int, int] = {}
            for gram in grams.of(text):
                bucket = bucket_of(gram, grams.buckets)
                counts[bucket] = counts.get(bucket, 0) + 1
            weights = [(bucket, count * rarity[bucket]) for bucket, count in sorted(counts.items())]
            squares = 0.0
            for _, weight in weights:  # one after the other: sum() would round otherwise than the batch path
                squares += weight * weight
            norm = math.sqrt(squares)
            for bucket, weight in weights:
                out[offset + bucket] = weight / norm

        return fill

    def to_json(self) -> dict[str, Any]:
        """See ``FittedColumn``."""
        return {
            "kind": self.kind,
            "name": self.name,
            "source": self.source,
            "analyzer": self.grams.analyzer,
            "ngrams": [self.grams.shortest, self.grams.longest],
            "buckets": self.grams.buckets,
            "lowercase": self.grams.lowercase,
            "rarity": list(self.rarity),
        }


class _Buckets(dict[str, int]):
    """The bucket of each n-gram, hashed once for all the texts that have it."""

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.buckets = buckets

    def __missing__(self, gram: str) -> int:
        self[gram] = bucket = bucket_of(gram, self.buckets)
        return bucket


def _observe(feature: Feature, batch: Batch) -> Extras:
    setting, grams = _setting(feature), _grams(_setting(feature))
    if not setting.idf:
        return {}
    values: Values = batch.values(feature.input.name, "text")
    counted = grams.counted(values.texts)
    rows = np.bincount(values.codes + 1, minlength=len(values.texts) + 1)[1:]
    found = np.bincount(counted.buckets, np.repeat(rows, counted.lengths), grams.buckets).astype(np.int64)
    return {DOCUMENTS: Documents(int(rows.sum()), found)}


def _finish(feature: Feature, observed: Observed) -> TextColumn:
    grams = _grams(_setting(feature))
    documents = observed.extras.get(DOCUMENTS)
    rarity = documents.rarity().tolist() if isinstance(documents, Documents) else [1.0] * grams.buckets
    return TextColumn(feature.name, feature.input.name, grams, tuple(rarity))


def _grams(setting: TextConfig) -> Grams:
    return Grams(setting.analyzer, *setting.ngrams, setting.buckets, setting.lowercase)


def _setting(feature: Feature) -> TextConfig:
    assert isinstance(feature.setting, TextConfig)
    return feature.setting


def _restore(raw: Mapping[str, Any]) -> TextColumn:
    shortest, longest = raw["ngrams"]
    grams = Grams(raw["analyzer"], shortest, longest, raw["buckets"], raw["lowercase"])
    return TextColumn(raw["name"], raw["source"], grams, tuple(raw["rarity"]))


KIND = Kind("text", _finish, _restore, _observe)
