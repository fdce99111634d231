#!/usr/bin/env bash
# BM25 by rank-bm25 does not find the one of two passages that has the word asked for; "the" counts for more than it.
#
# Packages: rank-bm25 0.2.2, bm25s 0.3.16; Python 3.11, CPU
# Guess: Of a few passages the one that alone has the query's word comes first, as by Lucene's BM25.
# What happens: BM25Okapi's weight of a word is log((N - n + 0.5) / (n + 0.5)), which is 0 for a word in half of the
#   passages; a negative weight is replaced by a quarter of the average. So a word in most of the passages counts for
#   more than one in half of them. With the handful of passages of a prompt that is the usual case.
# Seen:
#   2 passages, "key" in the first: rank-bm25 [0.0, 0.0], bm25s (Lucene's) [0.26, 0.0]
#   4 passages, "key" in two, "the" in three: "key" [0.0, 0.0, 0.0, 0.0], "the" [0.25, 0.26, 0.17, 0.0]
# Means: A variant whose weights are positive (bm25s' default, BM25Plus), or statistics of a larger collection.

set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile rank-bm25==0.2.2 bm25s==0.3.16
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import bm25s
from rank_bm25 import BM25Okapi

TWO = ["the key hangs in the blue box", "the bus stops at the mill"]
FOUR = [*TWO, "a spare key is with the baker", "bins are emptied on tuesday"]


def okapi(passages, word):
    return BM25Okapi([passage.split() for passage in passages]).get_scores([word]).round(2).tolist()


def lucene(passages, word):
    index = bm25s.BM25()
    index.index(bm25s.tokenize(passages, show_progress=False), show_progress=False)
    return [round(float(score), 2) for score in index.get_scores([word])]


two, reference = okapi(TWO, "key"), lucene(TWO, "key")
key, the = okapi(FOUR, "key"), okapi(FOUR, "the")
print(f'seen: 2 passages, "key" in the first: rank-bm25 {two}, bm25s (Lucene\'s) {reference}')
print(f'seen: 4 passages, "key" in two, "the" in three: "key" {key}, "the" {the}')
if any(two) or any(key) or not sum(the) or not reference[0]:
    sys.exit("rank-bm25 weighs a word that half of the passages have now.")
PYTHON
