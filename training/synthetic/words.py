"""Made-up words: vanity plates, dealer names and phone numbers. Nobody's real data."""

from __future__ import annotations

from functools import lru_cache
from random import Random

_ONSETS = "B C D F G H J K L M N P R S T V W Y Z BR CH CR DR FL GR KR PL SH SL ST TR TH QU".split()
_VOWELS = "A E I O U A E O EE OO AI".split()
_CODAS = ["", "", "", "N", "R", "S", "T", "L", "M", "X", "CK", "ND", "NG", "Y"]
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WORDS = (
    "MY YOUR BIG RED BLU GO HOT FAST NO UR GR8 L8 LUV MOM DAD DOC ROX RIDE FUN SKI SURF GOLF JEEP "
    "BMW VW AUDI TOY ZOOM VROOM KING QUEEN LADY BOSS ACE MR MRS DR CPA LAW TAX FISH DOG CAT BEE "
    "SUN SKY SEA JOY ICU 4U 2U 1ST 2ND IM I LIL BABY COOL WOW YES OK USA NYC LA SMILE DREAM"
).split()
_DEALER_ENDS = (
    "MOTORS AUTO CARS AUTOHAUS GARAGE AUTOMOBILE GROUP HONDA TOYOTA FORD NISSAN HYUNDAI KIA BMW "
    "CHEVROLET SUBARU VOLVO SKODA RENAULT AUTOCENTRUM AUTOS CAR GMBH LTD .COM .NET .DE .CZ"
).split()


def vanity_word(rnd: Random, low: int, high: int) -> str:
    """A vanity text of low..high characters A-Z 0-9: words, syllables, letters, initials."""
    length = rnd.randint(low, high)
    kind = rnd.random()
    if kind < 0.3:
        text = "".join(rnd.choices(_LETTERS, k=length))
    elif kind < 0.4:
        text = "".join(rnd.choices(_LETTERS + "0123456789", k=length))
    elif kind < 0.6:
        letters = rnd.randint(1, length)
        text = _syllables(rnd, letters) + "".join(rnd.choices("0123456789", k=length - letters))
    elif kind < 0.8:
        text = _syllables(rnd, length)
    else:
        text = ""
        while len(text) < length:
            text += rnd.choice(_WORDS)
        text = text[:length]
    return text


def dealer_line(rnd: Random) -> str:
    """A line such as stands on a plate frame: a dealer, a phone number, a web address."""
    return rnd.choice(_dealer_lines())


@lru_cache(maxsize=1)
def _dealer_lines() -> tuple[str, ...]:
    """A fixed pool, so that drawn captions can be kept."""
    rnd = Random(77)
    return tuple(_make_dealer_line(rnd) for _ in range(500))


def _make_dealer_line(rnd: Random) -> str:
    kind = rnd.random()
    name = _syllables(rnd, rnd.randint(4, 8))
    if kind < 0.25:
        return f"{rnd.randint(200, 999)}-{rnd.randint(200, 999)}-{rnd.randint(1000, 9999)}"
    if kind < 0.4:
        return f"www.{name.lower()}{rnd.choice(('.com', '.de', '.cz', '.nl', '.ro', '.pl', '.fr'))}"
    if kind < 0.55:
        return rnd.choice(_DEALER_ENDS).strip(".") + " " + name
    line = f"{name} {rnd.choice(_DEALER_ENDS)}".replace(" .", ".")
    return line if kind < 0.8 else line.title()


def _syllables(rnd: Random, length: int) -> str:
    text = ""
    while len(text) < length:
        text += rnd.choice(_ONSETS) + rnd.choice(_VOWELS) + rnd.choice(_CODAS)
    return text[:length]
