"""A word-level tokenizer for the pocket suite's captions: one word, one number.

Real CLIP splits text into 49,408 byte pairs, so that it can read anything. The captions of the pocket
suite use about 200 words, so a word is a token and the embedding table stays small. The conventions are
open_clip's: 0 pads, the text begins with <start> and ends with <end>, and <end> has the highest number,
because open_clip's text tower reads its answer at the position of the highest token.
"""

import difflib
import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class WordTokenizer:
    """Texts to (n, context_length) int64 tokens, with open_clip's tokenizer interface.

    Raises ValueError for a word outside the vocabulary (naming the closest words it knows) and for a
    caption of more than context_length - 2 words.

    >>> tokenize = WordTokenizer(["a", "of", "photo", "circle"], context_length=6)
    >>> tokenize(["a circle"])
    tensor([[1, 2, 3, 6, 0, 0]])
    """

    def __init__(self, words: Iterable[str], context_length: int = 16):
        self.words = sorted(set(words))
        self.context_length = context_length
        self.number = {word: i for i, word in enumerate(["<pad>", "<start>", *self.words, "<end>"])}

    @classmethod
    def of_captions(cls, captions: Iterable[str], context_length: int = 16) -> "WordTokenizer":
        return cls((word for caption in captions for word in split_words(caption)), context_length)

    @property
    def vocab_size(self) -> int:
        return len(self.number)

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        texts = [texts] if isinstance(texts, str) else texts
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.int64)
        for row, text in zip(tokens, texts, strict=True):
            words = split_words(text)
            if len(words) > self.context_length - 2:
                raise ValueError(f"'{text}': got {len(words)} words, expected at most {self.context_length - 2}")
            for word in words:
                if word not in self.number:
                    close = difflib.get_close_matches(word, self.words, n=3, cutoff=0.5)
                    hint = f"; did you mean {', '.join(close)}?" if close else ""
                    raise ValueError(f"'{word}' is not among the {len(self.words)} words of the pocket suite{hint}")
            numbers = [self.number[word] for word in ["<start>", *words, "<end>"]]
            row[: len(numbers)] = torch.tensor(numbers)
        return tokens


def split_words(text: str) -> list[str]:
    """Lower-case words, punctuation dropped: "A photo of a red circle." has six."""
    return re.findall(r"[a-z0-9]+", text.lower())
