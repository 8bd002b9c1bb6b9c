r"""Ternary tensors as bytes: numbers in {-1, 0, +1}, packed five to a byte or coded near their entropy.

Two codecs with one interface, ``CODECS[name].encode`` and ``.decode``:

- ``base243``: five ternary digits are a number below 3^5 = 243, which fits into a byte: 1.6 bits a weight, always.
- ``arithmetic``: an adaptive arithmetic coder over the *gaps* between the weights that are left. Where each of n places
  holds a weight with probability 1 - p, a gap g of zeros has probability p^g (1 - p). Write g in binary digits d_i and

      p^g = p^(d_0) p^(2 d_1) p^(4 d_2) ...

  so the digits of a gap are independent coins, each with odds of its own, and a weight costs a few coin tosses in place
  of one decision for each zero before it. The odds of every coin are learned on the way (Krichevsky and Trofimov 1981:
  one half more than what was seen), so nothing is sent but the code. Over all gaps this needs no more than n times the
  entropy of the layer's own shares of -1, 0 and +1, in whatever order they come, and about half a bit for every
  doubling of the number of tosses, a coin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# ---- five to a byte --------------------------------------------------------------------------------------------------

DIGITS = 5  # in a byte
#: Every byte's digits, the lowest first, as -1, 0, +1: (243, 5). A digit 2 stands for -1.
UNPACKED = ((np.arange(3**DIGITS)[:, None] // 3 ** np.arange(DIGITS) + 1) % 3 - 1).astype(np.int8)


def pack(trits: np.ndarray) -> bytes:
    """(n,) of -1, 0, +1 -> ceil(n / 5) bytes; zeros fill up the last."""
    digits = np.zeros((-(-len(trits) // DIGITS), DIGITS), np.uint8)
    digits.reshape(-1)[:len(trits)] = trits % 3  # -1 becomes 2
    return (digits @ 3 ** np.arange(DIGITS, dtype=np.uint8)).tobytes()


def unpack(code: bytes, size: int, left: int) -> np.ndarray:
    """The inverse of pack: -> (size,) int8. ValueError for bytes that pack cannot have written."""
    packed = np.frombuffer(code, np.uint8)
    if len(packed) != -(-size // DIGITS) or (packed >= len(UNPACKED)).any():
        raise ValueError(f"{len(packed):,} bytes are no {size:,} ternary digits, five to a byte below {len(UNPACKED)}")
    trits = UNPACKED[packed].reshape(-1)
    if trits[size:].any():
        raise ValueError("its last byte goes on after the last weight")
    return trits[:size].copy()


# ---- gaps, arithmetically --------------------------------------------------------------------------------------------

#: The interval that a code lies in begins as WHOLE units; when it has shrunk to NARROW or less, the units become finer
#: by a byte.
WHOLE, NARROW = 1 << 48, 1 << 40


class Coins:
    """Coins whose odds are learned: each cuts an interval in the ratio of what it has shown, 0 first.

    Args:
        count: of coins.
    """

    def __init__(self, count: int):
        self.seen = [[1, 1] for _ in range(count)]  # twice how often each side came, and one
        self.span = WHOLE

    def cut(self, coin: int) -> int:
        """The part of the interval that stands for 0."""
        zeros, ones = self.seen[coin]
        return self.span * zeros // (zeros + ones)


class Encoder(Coins):
    """Tosses into bytes: every toss narrows an interval; any number inside the last one tells all of them."""

    def __init__(self, count: int):
        super().__init__(count)
        self.low, self.code = 0, bytearray()

    def put(self, coin: int, side: int) -> None:
        cut = self.cut(coin)
        self.low, self.span = (self.low + cut, self.span - cut) if side else (self.low, cut)
        self.seen[coin][side] += 2
        while self.span <= NARROW:
            self._shift()
            self.span <<= 8

    def _shift(self) -> None:
        """The first byte of low is settled, up to a carry into those before it."""
        place = len(self.code) - 1
        if self.low >= WHOLE:
            while self.code[place] == 255:
                self.code[place] = 0
                place -= 1
            self.code[place] += 1
        self.code.append(self.low >> 40 & 255)
        self.low = (self.low << 8) & (WHOLE - 1)

    def end(self) -> bytes:
        """The code: of the numbers in the interval one with as few bytes as can be; zeros at its end are left out."""
        unit = next(unit for unit in (1 << bits for bits in range(48, -1, -8))
                    if -(-self.low // unit) * unit < self.low + self.span)
        self.low = -(-self.low // unit) * unit
        while self.low:
            self._shift()
        return bytes(self.code).rstrip(b"\0")


class Decoder(Coins):
    """Tosses back out of bytes; behind their end there are zeros."""

    def __init__(self, count: int, code: bytes):
        super().__init__(count)
        self.code, self.at = code + bytes(8), 6
        self.value = int.from_bytes(self.code[:6], "big")  # of the code, from the low end of the interval

    def get(self, coin: int) -> int:
        cut = self.cut(coin)
        if self.value < cut:
            side, self.span = 0, cut
        else:
            side, self.span, self.value = 1, self.span - cut, self.value - cut
        self.seen[coin][side] += 2
        while self.span <= NARROW:
            self.value = self.value << 8 | (self.code[self.at] if self.at < len(self.code) else 0)
            self.span <<= 8
            self.at += 1
        return side


def low_digits(size: int, left: int) -> int:
    """How many binary digits of a gap are coins of their own; what is above them is counted in steps, mostly 0 or 1."""
    return int(size // left).bit_length() - 1


def encode_gaps(trits: np.ndarray) -> bytes:
    """(n,) of -1, 0, +1 -> the arithmetic code of its gaps and signs, nothing where nothing is left."""
    places = np.flatnonzero(trits)
    if not len(places):
        return b""
    digits = low_digits(len(trits), len(places))
    coder = Encoder(digits + 2)
    gaps = np.diff(places, prepend=-1) - 1
    for gap, sign in zip(gaps.tolist(), (trits[places] < 0).tolist()):
        for _ in range(gap >> digits):
            coder.put(digits, 1)
        coder.put(digits, 0)
        for digit in range(digits):
            coder.put(digit, gap >> digit & 1)
        coder.put(digits + 1, sign)
    return coder.end()


def decode_gaps(code: bytes, size: int, left: int) -> np.ndarray:
    """The inverse of encode_gaps, given how many are left: -> (size,) int8. ValueError where they do not fit."""
    trits = np.zeros(size, np.int8)
    if not 0 <= left <= size or (not left and code):
        raise ValueError(f"{left:,} weights left of {size:,}, in {len(code):,} bytes of code")
    if not left:
        return trits
    digits = low_digits(size, left)
    coder, place = Decoder(digits + 2, code), -1
    for _ in range(left):
        place += 1
        while place < size and coder.get(digits):
            place += 1 << digits
        for digit in range(digits):
            place += coder.get(digit) << digit
        if place >= size:
            raise ValueError(f"its code puts a weight behind the last of {size:,}")
        trits[place] = -1 if coder.get(digits + 1) else 1
    return trits


# ---- one interface ---------------------------------------------------------------------------------------------------


class Codec(NamedTuple):
    """encode((n,) int8 of -1, 0, +1) -> code; decode(code, n, how many are not 0) -> the same, or ValueError."""

    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes, int, int], np.ndarray]


CODECS = {"arithmetic": Codec(encode_gaps, decode_gaps), "base243": Codec(pack, unpack)}


def smallest(trits: np.ndarray) -> tuple[str, bytes]:
    """The codec that needs fewest bytes for (n,) of -1, 0, +1, and its code; of equals the first in CODECS."""
    codes = {name: codec.encode(trits) for name, codec in CODECS.items()}
    name = min(codes, key=lambda each: len(codes[each]))
    return name, codes[name]


def entropy(counts: Sequence[int]) -> float:
    """Bytes, a fraction too, that n independent draws with shares `counts` / n carry: n H / 8 (Shannon 1948)."""
    total = sum(counts)
    return sum(count * math.log2(total / count) for count in counts if count) / 8
