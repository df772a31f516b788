"""Words of captions as pycocoevalcap's ``PTBTokenizer`` finds them, without Java.

Stanford's tokenizer 3.4.1 splits in the manner of the Penn Treebank; pycocoevalcap has it lower-case and
drops punctuation. Scores of captions are made of these words. Brackets stay as ``-lrb-`` and the like:
pycocoevalcap means to drop them, but compares in upper case. Not followed are rare things: initials before a
name, uncommon abbreviations, markup, symbols of currencies.
"""

import re

_LETTER = r"[^\W\d_]"
_ALNUM = r"[^\W_]"
_TOKEN = re.compile(
    rf"""
    can(?=not\b) | (?:gon|wan)(?=na\b) | got(?=ta\b) | (?:lem|gim)(?=me\b) | y'(?=all\b)  # cannot: can not
    | '(?:t(?=is\b|was\b) | n' | (?:em|til|cause|\d\ds?)\b)              # 't is, drum 'n' bass, the '80s
    | n't\b | '(?:s|m|d|re|ve|ll)\b                                      # does n't, dog 's
    | [dlo]'{_ALNUM}+ | ma'am\b                                          # o'clock
    | [\w.+-]+@[\w-]+(?:\.[\w-]+)+ | https?://\S+
    | \b(?:[mdsj]r|mrs|ms|st|mt|ft|vs|prof|gen|inc|co|corp|ltd|etc|ave|blvd|rd
        |jan|feb|mar|apr|aug|sept?|oct|nov|dec|ph\.d)\. | \bno\.(?=\s*\d)
    | {_LETTER}(?:\.{_LETTER})+\.?(?!{_ALNUM})                           # p.a.
    | {_ALNUM}+(?:-{_ALNUM}+){{0,2}}(?:/{_ALNUM}+(?:-{_ALNUM}+){{0,2}}){{1,2}}     # hip-hop/rap, 4/4
    | {_ALNUM}(?:[.,]*{_ALNUM})*(?:-{_ALNUM}+)+                          # low-pitched
    | (?-i:[A-Z]+(?:[+&][A-Z]+)+)                                        # R&B
    | \d*(?:[.,:]\d+)+(?:st|[nr]d|th|s\b)?                               # 1,000
    | {_LETTER}{_ALNUM}*?(?=n't\b)
    | {_LETTER}{_ALNUM}*(?:_{_ALNUM}+)*(?:[.!?]{_LETTER}{_ALNUM}*)*
    | {_ALNUM}+ | \.{{3}} | --+ | [!?]+ | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)
_DROPPED = re.compile(
    r"""["'`.,:;\-\u2010-\u2015\u2018\u201c-\u201e\u2026\xab\xbb]+ | [?!] | [\U00010000-\U0010ffff]""",
    re.VERBOSE,
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}


def tokenize(text: str) -> str:
    """Return the words of a text, in lower case and one space apart; empty where it has none."""
    tokens = (found.group().lower() for found in _TOKEN.finditer(text.replace("\u2019", "'")))
    return " ".join(_BRACKETS.get(token, token) for token in tokens if not _DROPPED.fullmatch(token))
