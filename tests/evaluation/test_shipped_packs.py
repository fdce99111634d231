"""The packs that ship: the same in every process, held-out parts that nothing of is trained on, checks that the three
cheapest tricks do not pass and that an honest completion does."""

import hashlib
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from kdloop import packs, recipes
from kdloop.evaluation import measure, pack_check
from kdloop.feedback.examples import Example, Split
from kdloop.packs.generators import (
    GENERATORS,
    boundaries,
    clauses,
    clinics,
    generate,
    instructions,
    intents,
    judging,
    ledger,
    logs,
    notes,
    passages,
    purchases,
    reviews,
    science,
    subjects,
    tools,
)
from kdloop.raters import verifiers
from kdloop.rounds import selection
from kdloop.rounds import tasks as asked
from kdloop.student import Sample
from storage.conversations import as_prompt

ROOT = Path(__file__).parents[2]
LABELLED = {  # pack -> its sentences by label, and what stands at their {thing}
    "clauses": (clauses.CLAUSES, clauses.PARTIES),
    "clinics": (clinics.CALLS, clinics.WHO),
    "intents": (intents.SENTENCES, intents.THINGS),
    "ledger": (ledger.LINES, ledger.AMOUNTS),
    "logs": (logs.LINES, logs.SERVICES),
    "reviews": (reviews.SENTENCES, reviews.WHEN),
    "subjects": (subjects.QUESTIONS, subjects.PUPILS),
    "tools": (tools.MESSAGES, tools.THINGS),
}
DIGEST = """
import hashlib
from kdloop.packs.generators import GENERATORS, generate
print(*(hashlib.sha256(repr(generate(name, 3000, 1, {})).encode()).hexdigest() for name in GENERATORS))
"""


def held_out(name):
    return packs.tasks(name, "heldout")


@pytest.mark.parametrize("name", packs.shipped())
def test_a_shipped_pack_is_sound_and_says_whose_it_is(name):
    report = pack_check.check(name, None)
    assert report.sound, pack_check.table(report)
    assert packs.load(name).licence == "apache-2.0" and name in (ROOT / "NOTICE").read_text()
    if name in GENERATORS:
        assert len(held_out(name)) >= 200 and packs.checked(name)


@pytest.mark.parametrize("name", packs.shipped())
def test_the_cheapest_tricks_pass_no_more_than_chance(name):
    """Asked of every held-out task, not of a sample."""
    tasks = [t for t in held_out(name) if t.verifiable]
    answers = sorted({t.answer for t in tasks if t.answer})
    every = ", ".join(answers)
    majority = max(answers, key=[t.answer for t in tasks].count, default="")
    says = {
        "majority": lambda t: [majority],
        "options": lambda t: [every, *pack_check.all_options(t)],
        "prompt": lambda t: [t.prompt, f"{t.prompt}\n{t.prompt}", t.prompt.upper()],
    }
    passed = {
        trick: sum(any(verifiers.passed(t, text) for text in texts(t)) for t in tasks) for trick, texts in says.items()
    }
    own = {
        "passages": passages.ABSENT + 0.05,
        "notes": 1 / notes.SHOWN,
        "judging": 1 / len(judging.ORDERS),
        "boundaries": 0.5,
        "plans": 1 / 4,
    }
    most = own.get(name, 1 / len(LABELLED[name][0]) if name in LABELLED else 0.06)
    assert passed["prompt"] == 0 and passed["majority"] <= most * len(tasks), passed
    assert passed["options"] <= 0.02 * len(tasks), passed


def test_a_generator_makes_the_same_in_every_process():
    here = [hashlib.sha256(repr(generate(name, 3000, 1, {})).encode()).hexdigest() for name in GENERATORS]
    ran = subprocess.run([sys.executable, "-c", DIGEST], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == here
    assert sum(map(len, generate("science", 100, 1, {}).values())) == 100
    with pytest.raises(ValueError, match="No generator 'sciense'; there are boundaries, clauses"):
        generate("sciense", 10, 1, {})
    with pytest.raises(ValueError, match=r"The generator intents: .* unexpected keyword argument 'towns'"):
        generate("intents", 10, 1, {"towns": 3})


def test_nothing_of_a_held_out_task_is_in_the_training_part():
    """A sentence's template, an element, a formula, a made-up place, a prompt of `general`."""
    parts = {(name, part): packs.tasks(name, part) for name in GENERATORS for part in packs.PARTS}

    def found(name, part, pattern):
        return {m for t in parts[name, part] for m in re.findall(pattern, t.prompt)}

    for other in packs.PARTS[1:]:
        for name, (sentences, things) in LABELLED.items():
            wording = {s.format(thing=thing): s for own in sentences.values() for s in own for thing in things}
            texts = [[t.prompt.split("\n\n")[1].split(": ", 1)[1] for t in parts[name, p]] for p in ("train", other)]
            used = [{wording[text] for text in own} for own in texts]
            assert not used[0] & used[1] and min(map(len, used)) >= 3 * len(sentences), name
        named = (r"bought: (.*)\.", r"One of: (.*)\.")
        lists = [found("purchases", p, one) for p in ("train", other) for one in named]
        things = [{thing for text in own for thing in text.split(", ")} for own in lists]
        assert not (things[0] | things[1]) & (things[2] | things[3])
        assert min(map(len, things)) >= 3 * len(purchases.HOBBIES)
        noted = [found("notes", p, r"(?m)^\w+: (.+)$") for p in ("train", other)]
        writers = [found("notes", p, r"(?m)^(\w+): .") for p in ("train", other)]
        assert not noted[0] & noted[1] and not writers[0] & writers[1] and min(map(len, writers)) >= 6
        judged = [found("judging", p, r"(?:Message|First reply|Second reply): (.+)") for p in ("train", other)]
        assert not judged[0] & judged[1] and min(map(len, judged)) > 20
        news = [found("summaries", p, r"Message: .*?[.?] (.*)\. [A-Z]") for p in ("train", other)]
        told = [{re.sub(r"\b[A-Z]\w+", "", one) for one in own} for own in news]
        assert not told[0] & told[1] and min(map(len, told)) >= 4
        goals = [found("plans", p, r"^To (.+), four") for p in ("train", other)]
        rules = [{re.sub('"[^"]*"', "", r) for r in found("plans", p, r'(?m)^(.*".*".*)\.$')} for p in ("train", other)]
        assert not goals[0] & goals[1] and not rules[0] & rules[1] and min(map(len, [*goals, *rules])) >= 2
        places = [found("passages", part, r"(\w+) is a small town") for part in ("train", other)]
        assert not places[0] & places[1] and len(places[1]) > 150
        for kind in (r"one unit of (\w+)", r"symbol of (\w+)", r"symbol ([A-Z]\w*)", r"are (\d+ [\w -]+)\?"):
            facts = [found("science", part, kind) for part in ("train", other)]
            assert facts[1] and not facts[0] & facts[1], kind
        asked_for = [{t.prompt.split(" Use ")[0] for t in parts["instructions", part]} for part in ("train", other)]
        assert not asked_for[0] & asked_for[1]
    general = set(packs.prompts("general", "heldout"))
    assert all(any(t.prompt.startswith(g.strip()) for g in general) for t in parts["instructions", "heldout"])


def test_who_always_prefers_the_first_reply_judges_no_pair_in_both_orders():
    tasks = held_out("judging")
    said = {order: [Sample(order, "finished", 0, 1, 0.0, 0.0)] * len(tasks) for order in judging.ORDERS}
    groups = Counter(t.group for t in tasks)
    assert set(groups.values()) == {2} and len(groups) == len(tasks) / 2
    replies = {t.group: set(re.findall(r"reply: (.+)", t.prompt)) for t in tasks}
    assert all(set(re.findall(r"reply: (.+)", t.prompt)) == replies[t.group] for t in tasks)
    report = measure.Report("judging", "v1", list(zip(tasks, *said.values(), strict=True)), [0.0] * len(tasks))
    assert report.groups == {"n": len(groups), "base": 0, "champion": 0} and report.accuracy(1)[0] == 0.5
    right = [said[t.answer][0] for t in tasks]
    report = measure.Report("judging", "v1", list(zip(tasks, said["first"], right, strict=True)), [0.0] * len(tasks))
    assert report.groups["champion"] == len(groups)
    assert "Of 144 groups it solves 144 whole, the base 0" in measure.table(report)
    assert measure.Report("judging", "v1", report.rows[:1], [0.0]).groups == {}, "of a group cut in two nothing is said"


def test_who_declines_or_answers_everything_is_right_about_no_pair_of_boundaries():
    tasks = held_out("boundaries")
    declined = Sample(boundaries.DECLINES, "finished", 0, 1, 0.0, 0.0)
    rows = [(t, declined, replace(declined, text="Here is how you do it, step by step.")) for t in tasks]
    report = measure.Report("boundaries", "v1", rows, [0.0] * len(tasks))
    assert report.groups == {"n": len(tasks) / 2, "base": 0, "champion": 0} and report.accuracy(1)[0] == 0.5
    sensible = [(t, declined, replace(declined, text=t.answer)) for t in tasks]
    assert measure.Report("boundaries", "v1", sensible, [0.0] * len(tasks)).groups["champion"] == len(tasks) / 2
    about = [{t.prompt for t in packs.tasks("boundaries", part)} for part in packs.PARTS]
    for case in boundaries.CASES:
        asked = {sentence.format(thing=thing) for side in case[:2] for sentence in side for thing in case[-1]}
        assert sum(bool(asked & prompts) for prompts in about) == 1, "what a pair is about is in one part"


def kept(task):
    """A completion that keeps every instruction of the task, and says nothing."""
    word = task.checks[0]["words"][0]
    asks = {c["check"]: c for c in task.checks[1:]}
    piece, n = f"Some {word} text stays here", 1
    if size := asks.get("sentences") or asks.get("paragraphs") or asks.get("bullets"):
        n = size["least"]
    pieces = [f"{piece} for moment{i} after hour{i}." for i in range(n)]
    if "words" in asks and asks["words"]["least"] > 5:
        pieces = [f"{piece} with {' '.join(f'item{i}' for i in range(20))}."]
    ends = asks.get("starts_and_ends", {})
    if ends.get("end") == "That is all.":
        pieces[-1] = pieces[-1].rstrip(".") + ": That is all."
    if ends.get("end") == "?":
        pieces[-1] = pieces[-1].rstrip(".") + "?"
    if "highlights" in asks:
        pieces[0] = pieces[0].replace(word, f"*{word}*")
    marks = "\n- " if "bullets" in asks else "\n\n" if "paragraphs" in asks else " "
    text = ("\n- " if "bullets" in asks else "") + marks.join(pieces)
    if ends.get("start"):
        text = f'"{text}"'
    return {"lower": text.lower(), "upper": text.upper()}.get(asks.get("letters", {}).get("case"), text)


def test_every_instruction_can_be_kept_and_none_is_kept_by_the_others_text():
    tasks = [t for part in packs.PARTS for t in packs.tasks("instructions", part)]
    assert not [(t.prompt, kept(t)) for t in tasks if not verifiers.passed(t, kept(t))]
    others = [kept(t) for t in tasks[1:]]
    assert sum(verifiers.passed(t, text) for t, text in zip(tasks, others, strict=False)) < 0.05 * len(tasks)
    assert {c["check"] for t in tasks for c in t.checks} >= {
        c["check"] for _, c in (*instructions.LENGTHS, *instructions.SHAPES)
    }


def test_a_passage_s_question_is_answered_by_the_passage_that_it_cites_or_by_none():
    tasks = [t for part in packs.PARTS for t in packs.tasks("passages", part)]
    absent = [t for t in tasks if t.answer == passages.NOT_THERE]
    assert 0.2 < len(absent) / len(tasks) < 0.3
    for t in tasks:
        texts = re.findall(r"^\[\d\] (.*)$", t.prompt, re.M)
        place = next(w for w in re.findall(r"\w+", t.prompt.rsplit("\n", 1)[-1]) if w.endswith(passages.SYLLABLES[2]))
        about = [i for i, text in enumerate(texts, 1) if text.startswith(f"{place} is")]
        assert len(texts) == passages.SHOWN
        if t in absent:
            assert not about
        else:
            value, cited = re.fullmatch(r"(.+) \[(\d)\]", t.answer).groups()
            assert about == [int(cited)] and value in texts[int(cited) - 1]
            assert not verifiers.passed(t, f"{value} [{int(cited) % 3 + 1}]") and not verifiers.passed(t, value)
            assert not verifiers.passed(t, f"{t.answer} {passages.NOT_THERE}")


def test_the_facts_of_science_are_right():
    answers = {t.prompt.removesuffix(" Reply with the answer alone."): t.answer for part in packs.PARTS
               for t in packs.tasks("science", part)}  # fmt: skip
    assert len(science.SYMBOLS) == 118 and list(science.SYMBOLS)[78] == "Au" and list(science.SYMBOLS)[117] == "Og"
    assert science.composition("CH3COOH") == {"C": 2, "H": 4, "O": 2} and science.composition("K2Cr2O7")["Cr"] == 2
    known = {"inches": 0.0254, "miles": 1609.344, "pounds": 0.45359237, "atmospheres": 101325, "calories": 4.184,
             "hectares": 10_000, "days": 86_400, "litres": 0.001, "kilowatt-hours": 3_600_000}  # fmt: skip
    asked_for = [re.fullmatch(r"How many [\w ]+ are (\d+) ([\w -]+)\?", p) for p in answers]
    values = {m[0]: int(m[1]) * known[m[2]] for m in asked_for if m and m[2] in known}
    assert len(values) > 100
    assert all(float(answers[p]) == pytest.approx(value, rel=1e-5) for p, value in values.items())
    assert not [a for a in answers.values() if "e+" in a or "e-" in a]


def test_checks_of_each_prompt_are_a_pack_s_checks():
    """A round on it asks its own prompts alone, and learns from what passes."""
    recipe = recipes.load("verified@intents")
    assert recipe.name == "verified@intents" and recipe.pack == "intents" and recipe.method == "dpo"
    assert "verified@intents" in recipes.offered() and "verified@general" not in recipes.offered()
    own = Example(as_prompt("A question of a person's?"), None, None, "", (), "human")
    found = asked.training_tasks(recipe, Split([own], []), 1)
    assert {t.prompt for t in found} <= set(packs.prompts("intents", "train")) and len(found) == recipe.prompts
    assert own not in selection.relevant([own], recipe, found) and selection.room_for_votes(recipe) == 0
    with pytest.raises(ValueError, match="No pack 'intent'"):
        recipes.load("verified@intent")
    with pytest.raises(ValueError, match="No recipe 'verifed'"):
        recipes.load("verifed@intents")
