"""Scores of one answer, as the data sets' papers define them. Every score lies in [0, 1]."""

import re
from collections.abc import Callable, Sequence

Metric = Callable[[str, Sequence[str]], float]
"""Takes an answer and the right ones, and returns its score."""

MARKS = " .,;:!?\"'`"
"""What may stand around an answer without being part of it; a sign or a unit (-5, 20%) is part of it."""
ANLS_THRESHOLD = 0.5
ARTICLES = {"a", "an", "the"}
NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
# Only where the form without apostrophes is no other word: were, well, its, lets stay what they are.
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's i'd've i'm i've isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't
o'clock oughtn't shan't she'd've she's should've shouldn't shouldn't've somebody'll somebody's someone'd someone'll
someone's something'd something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've
'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll
who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll
you're you've
"""
CONTRACTIONS = {word.replace("'", ""): word for word in _CONTRACTED.split()}


def normalize(text: str) -> str:
    """Lower case, one space between words, no punctuation marks at the ends."""
    return " ".join(text.lower().split()).strip(MARKS)


def exact(answer: str, right: Sequence[str]) -> float:
    """1 when the answer is one of the right ones but for case, spaces and marks at its ends (GQA, arXiv 1902.09506)."""
    return float(normalize(answer) in {normalize(text) for text in right})


def vqa(answer: str, right: Sequence[str]) -> float:
    """VQA accuracy (arXiv 1505.00468): min(1, agreeing people / 3), averaged over all subsets that leave one out.

    With a single right answer it is that answer's exact match.
    """
    given = vqa_form(answer)
    people = [vqa_form(text) for text in right]
    if len(people) == 1:
        return float(given == people[0])
    agree = sum(given == person for person in people)
    scores = [min(1.0, (agree - (given == person)) / 3) for person in people]
    return sum(scores) / len(scores)


def vqa_form(text: str) -> str:
    """The VQA evaluation's normal form of an answer (visualqa.org/evaluation).

    Lower case; no periods but in decimals, no commas in numbers, other punctuation but apostrophes and colons a space;
    no articles, numbers in digits, missing apostrophes of contractions put in.
    """
    text = re.sub(r"\.(?!\d)|(?<=\d),(?=\d)", "", text.lower())
    text = re.sub(r"[;/\[\]\"{}()=+\\_\-><@`?!,]", " ", text)
    words = (NUMBERS.get(word, word) for word in text.split() if word not in ARTICLES)
    return " ".join(CONTRACTIONS.get(word.replace("'", ""), word) for word in words)


def anls(answer: str, right: Sequence[str]) -> float:
    """Normalised Levenshtein similarity (arXiv 1905.13648) to the nearest right answer, 0 below one half.

    One half itself counts, as in the benchmark's own script; the paper's equation leaves it out.
    """
    given = " ".join(answer.lower().split())
    best = 0.0
    for text in right:
        wanted = " ".join(text.lower().split())
        longest = max(len(given), len(wanted))
        best = max(best, 1 - _distance(given, wanted) / longest if longest else 1.0)
    return best if best >= ANLS_THRESHOLD else 0.0


def _distance(a: str, b: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != other))
    return row[-1]


def yes_no(answer: str, right: Sequence[str]) -> float:
    """1 when the first word is the right one of yes and no (POPE, arXiv 2305.10355; MME, arXiv 2306.13394)."""
    return float(said(answer) == normalize(right[0]))


def said(answer: str) -> str:
    """The first word of an answer: "yes", "no", or anything else."""
    word = re.search(r"[a-z]+", answer.lower())
    return word[0] if word else ""


def f1(pairs: Sequence[tuple[str, str]]) -> float:
    """F1 of "yes" over (answer, right answer) pairs, POPE's headline figure; 0 when no right yes was given."""
    hits = sum(said(answer) == "yes" == normalize(right) for answer, right in pairs)
    given = sum(said(answer) == "yes" for answer, _ in pairs)
    wanted = sum(normalize(right) == "yes" for _, right in pairs)
    return 2 * hits / (given + wanted) if given + wanted else 0.0


def choice(answer: str, right: Sequence[str]) -> float:
    """1 when the answer names the right option's letter: B, (b), "B. a cat", "The answer is B." (arXiv 2209.09513).

    "A cat" names none: its first word is an article.
    """
    found = re.match(r"\W*(?:the answer is\W*)?([a-z])\W*(?:$|[.,:)])", answer.lower())
    return float(found is not None and found[1] == right[0].lower())


def contains(answer: str, right: Sequence[str]) -> float:
    """1 when a right answer occurs in the given one, but for case and line breaks (OCRBench, arXiv 2305.07895)."""
    given = answer.lower().replace("\n", " ")
    return float(any(text.lower().replace("\n", " ").strip() in given for text in right))


def formula(answer: str, right: Sequence[str]) -> float:
    """1 when a right formula occurs in the answer; spaces do not count, case does (OCRBench's formulas)."""
    given = "".join(answer.split())
    return float(any("".join(text.split()) in given for text in right))


METRICS: dict[str, Metric] = {
    "exact": exact, "vqa": vqa, "anls": anls, "yes-no": yes_no, "choice": choice, "contains": contains,
    "formula": formula,
}  # fmt: skip
