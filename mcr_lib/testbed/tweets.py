"""Texts of the testbed: a grammar of openings, frames with slots for entities, and endings, as tokens in the
style of Twitter-GMNER.

A frame says nothing about an entity's type or the picture. Every sixth frame, opening and ending is reserved
for the distribution `unseen` (with every eighth pair of entities), to test a model on unfamiliar wordings.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from mcr_lib.data.chance import pick
from mcr_lib.testbed.world import Being

_OPENINGS = ("", "", "", "RT @ gadgetgull :", "RT @ owlpost :", "Breaking :", "Honestly ,", "Wow !",
    "This morning :", "Photo of the day :", "OMG", "Good morning ,", "Well ,", "So ,", "Update :",
    "Just in :", "Friday mood :", "Look at this :", "Hey @ mothfan ,", "No joke :", "Sunday again .",
    "Finally !", "Reminder :", "Happy Monday .", "😂", "Still here .", "Listen ,", "Quick one :",
    "Via @ dailymoth :", "&lt ; 3")  # fmt: skip
_ENDINGS = ("", "", "", "# mondaymood", "# latepost", "!", "! !", ".", "...", "who is with me ?", "😂",
    "😍 😍", "🔥", "# tbt", "see you there !", "what a time", "http://t. co/{code}", "https://t. co/{code}",
    "( via @ owlpost )", "# nofilter", "please share", "lol", "tbh", "and it is only Tuesday",
    "thank you all", "&amp ; more soon", "in the rain", "as always", "# {code}", "💙")  # fmt: skip
_NOBODY = ("need coffee before anything else today", "the bus is late and so am I",
    "Nobody slept . Not even the cat", "what a sunset over the hill", "my phone died in the middle of it",
    "best soup I ever had", "The Monday Meeting that should be an email", "rain again , socks wet",
    "who stole my umbrella", "early train , Cold hands , warm tea", "New Shoes and nowhere to go",
    "can we talk about this weather")  # fmt: skip
_ONE = ("{} is all over my feed", "what a day for {}", "still thinking about {}", "never change , {}",
    "my cousin loves {}", "Big news from {}", "we waited two hours for {}", "{} was better than expected",
    "I had a dream about {} again", "say what you want about {}", "{} at its very best",
    "they told us {} is over", "Happy Birthday {}", "someone explain {} to me", "all eyes on {} tonight",
    "first time seeing {}", "nothing beats {} in June", "the Story of {} is not finished", "{} made my week",
    "is it me or is {} everywhere", "The New Season of {} starts today", "thanks to {} for the early alarm",
    "good old {}", "I will always defend {}")  # fmt: skip
_TWO = ("{} meets {}", "from {} to {} in one day", "{} and {} again", "never thought {} would beat {}",
    "{} thanks {} for everything", "first {} , then {}", "a picture of {} next to {}",
    "{} leaves {} after ten years", "{} {} tonight", "{} vs {} : who wins", "more {} , less {}",
    "{} without {} is not the same", "my week : {} , {} and sleep", "{} said no to {}", "ask {} about {}",
    "Not {} but {}", "{} loves {} ... or not", "the Day when {} found {}")  # fmt: skip
_THREE = ("{} , {} and {} in one week", "{} told {} about {}", "{} with {} at {}",
    "only {} could bring {} to {}", "{} / {} / {}", "between {} and {} there is {}", "{} {} and {}",
    "rank them : {} , {} , {}", "{} left {} for {} last year", "{} or {} or even {}",
    "The Long Road from {} via {} to {}", "{} plus {} equals {}")  # fmt: skip
_AGAIN = ("{} said what ? {} again !", "{} , {} , always the same", "only {} can replace {}",
    "{} today , {} tomorrow")  # fmt: skip
_LINKS = (";", "and", ". Meanwhile", "while", "- also", "| then")
_FRAMES = (_NOBODY, _ONE, _TWO, _THREE)
Spans = list[tuple[int, int] | None]  # half-open, in tokens; `None` = a mention that is left out
_HELD_OUT_EVERY, _PAIRS_HELD_OUT_EVERY = 6, 8


@dataclass(frozen=True, slots=True)
class Mention:
    """A mention of an entity, with its words in the text; no words = it is left out."""

    being: Being
    words: tuple[str, ...]


def write(rng: Random, mentions: Sequence[Mention], *, held_out: bool) -> tuple[tuple[str, ...], Spans]:
    """Write a tweet with these mentions in this order; return its tokens and the spans of the mentions.

    `held_out` takes frames, openings and endings reserved for `unseen`, else only the others are taken.
    """
    frames = _frames(rng, mentions, held_out)
    code = "".join(pick(rng, "abcdefghkmnpqrstuvwxyz23456789") for _ in range(6))
    opening = pick(rng, _share(_OPENINGS, held_out))
    ending = pick(rng, _share(_ENDINGS, held_out)).format(code=code)
    tokens: list[str] = []
    spans: Spans = []
    for word in " ".join((opening, *frames, ending)).split():
        if word != "{}":
            tokens.append(word)
            continue
        mention = mentions[len(spans)]
        if mention.words and mention.being.sigil:
            tokens.append(mention.being.sigil)
        spans.append((len(tokens), len(tokens) + len(mention.words)) if mention.words else None)
        tokens += mention.words
    return tuple(tokens), spans


def is_held_out_pair(a: Being, b: Being) -> bool:
    """Return whether the two appear together in the distribution `unseen` only."""
    return zlib.crc32("|".join(sorted((a.name, b.name))).encode()) % _PAIRS_HELD_OUT_EVERY == 0


def corpus() -> list[str]:
    """Return every opening, frame and ending with empty slots, as text for a tokenizer."""
    parts = (_OPENINGS, _ENDINGS, *_FRAMES, _AGAIN, _LINKS)
    return [text.replace("{}", "").format(code="") for part in parts for text in part]


def _frames(rng: Random, mentions: Sequence[Mention], held_out: bool) -> list[str]:
    """Draw frames with a slot per mention: ones, twos and threes with links between, mostly few of them."""
    if not mentions:
        return [pick(rng, _share(_NOBODY, held_out))]
    if len(mentions) == 2 and mentions[0].being == mentions[1].being:
        return [pick(rng, _AGAIN)]
    left, sizes = len(mentions), []
    while left:
        sizes.append(min(left, 3) if rng.random() < 0.75 else 1 + int(rng.random() * min(left, 3)))
        left -= sizes[-1]
    first, *others = [pick(rng, _share(_FRAMES[size], held_out)) for size in sizes]
    return [first, *(part for frame in others for part in (pick(rng, _LINKS), frame))]


def _share(texts: Sequence[str], held_out: bool) -> list[str]:
    return [text for k, text in enumerate(texts) if (k % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1) == held_out]
