"""A lexicon of 100,000 words and more in one small file. Lookups unpack only the blocks that they need.

    lexicon.bin:  magic "UNILEX1\\n", then little-endian
      u32 words, u32 blocks, u16 length of the phonemes' names, the names in ASCII with spaces between them
      for each block: u32 offset of its packed bytes, u32 their length, u8 length of its first word, the word
      the blocks, each packed by zlib; offsets are relative to the first block

Words are sorted. An unpacked block holds for each word: u8 letters shared with the word before, u8 further letters, the
letters in ASCII, u8 phonemes, and a byte for each: its number among the names.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from unimoe_runtime.errors import BundleError
from unimoe_runtime.frontend.pronunciation import Phonemes

FILE: Final = "lexicon.bin"
_MAGIC: Final = b"UNILEX1\n"
_WORDS_A_BLOCK: Final = 128
_MOST_BLOCK_BYTES: Final = 1 << 20
_BLOCKS_KEPT: Final = 256


@dataclass(frozen=True, kw_only=True)
class _Block:
    first_word: str
    offset: int
    length: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedLexicon(Mapping[str, Phonemes]):
    """Phonemes by lower-case word. The first access to a damaged block raises BundleError."""

    path: Path
    num_words: int
    names: tuple[str, ...]
    blocks: tuple[_Block, ...]
    packed: bytes = field(repr=False)
    _kept: dict[int, dict[str, Phonemes]] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, path: Path) -> PackedLexicon:
        """Open a file. Raises BundleError where it is missing or not a lexicon."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror}); export again") from None
        if not content.startswith(_MAGIC):
            raise BundleError(f"{path}: not a lexicon of this release; export again")
        try:
            return cls._parse(path, content)
        except (struct.error, UnicodeDecodeError, IndexError, ValueError):
            raise BundleError(f"{path}: damaged or cut off; export again") from None

    @classmethod
    def _parse(cls, path: Path, content: bytes) -> PackedLexicon:
        at = len(_MAGIC)
        num_words, num_blocks, names_length = struct.unpack_from("<IIH", content, at)
        at += 10
        names = tuple(content[at : at + names_length].decode("ascii").split())
        at += names_length
        blocks: list[_Block] = []
        for _ in range(num_blocks):
            offset, length, letters = struct.unpack_from("<IIB", content, at)
            word = content[at + 9 : at + 9 + letters].decode("ascii")
            blocks.append(_Block(first_word=word, offset=offset, length=length))
            at += 9 + letters
        packed = content[at:]
        if not names or any(block.offset + block.length > len(packed) for block in blocks):
            raise ValueError("a block ends beyond the file")
        return cls(path=path, num_words=num_words, names=names, blocks=tuple(blocks), packed=packed)

    def __getitem__(self, word: str) -> Phonemes:
        at = bisect_right(self.blocks, word, key=lambda block: block.first_word) - 1
        if at < 0:
            raise KeyError(word)
        return self._block(at)[word]

    def __iter__(self) -> Iterator[str]:
        for at in range(len(self.blocks)):
            yield from self._block(at)

    def __len__(self) -> int:
        return self.num_words

    def _block(self, at: int) -> dict[str, Phonemes]:
        found = self._kept.get(at)
        if found is None:
            found = self._unpack(at)
            if len(self._kept) >= _BLOCKS_KEPT:
                self._kept.clear()
            self._kept[at] = found
        return found

    def _unpack(self, at: int) -> dict[str, Phonemes]:
        block = self.blocks[at]
        inflator = zlib.decompressobj()
        try:
            data = inflator.decompress(self.packed[block.offset : block.offset + block.length], _MOST_BLOCK_BYTES)
            return self._words(data)
        except (zlib.error, IndexError, UnicodeDecodeError):
            raise BundleError(f"{self.path}: block {at} is damaged; export again") from None

    def _words(self, data: bytes) -> dict[str, Phonemes]:
        found: dict[str, Phonemes] = {}
        at, word = 0, ""
        while at < len(data):
            shared, further = data[at], data[at + 1]
            at += 2
            word = word[:shared] + data[at : at + further].decode("ascii")
            at += further
            count = data[at]
            numbers = data[at + 1 : at + 1 + count]
            at += 1 + count
            found[word] = tuple(self.names[number] for number in numbers)
        return found


def write_lexicon(path: Path, words: Mapping[str, Phonemes]) -> None:
    """Write words of ASCII letters and apostrophes. Raises ValueError where one is too long for the format."""
    names = sorted({sound for sounds in words.values() for sound in sounds})
    number = {name: at for at, name in enumerate(names)}
    ordered = sorted(words)
    table, packed = bytearray(), bytearray()
    num_blocks = 0
    for start in range(0, len(ordered), _WORDS_A_BLOCK):
        block = _pack(ordered[start : start + _WORDS_A_BLOCK], words, number)
        first = ordered[start].encode("ascii")
        table += struct.pack("<IIB", len(packed), len(block), len(first)) + first
        packed += block
        num_blocks += 1
    joined = " ".join(names).encode("ascii")
    path.write_bytes(
        _MAGIC + struct.pack("<IIH", len(ordered), num_blocks, len(joined)) + joined + bytes(table) + bytes(packed)
    )


def _pack(ordered: list[str], words: Mapping[str, Phonemes], number: Mapping[str, int]) -> bytes:
    data = bytearray()
    before = ""
    for word in ordered:
        shared = 0
        while shared < min(len(word), len(before)) and word[shared] == before[shared]:
            shared += 1
        further = word[shared:].encode("ascii")
        data += bytes([shared, len(further)]) + further
        data += bytes([len(words[word])]) + bytes(number[sound] for sound in words[word])
        before = word
    return zlib.compress(bytes(data), 9)
