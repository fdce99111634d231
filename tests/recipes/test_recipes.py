"""Every recipe on a scripted student, teacher and judge: nothing that is held out can be trained on."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from parts import context, endpoint, teacher
from test_preference_model import vote
from transformers import AutoTokenizer

from kdloop import packs, recipes
from kdloop.__main__ import main as command
from kdloop.feedback.examples import Example, from_feedback, key
from kdloop.knowledge import KNOWLEDGE, elicit
from kdloop.knowledge.rows import Refused, training_id
from kdloop.methods import METHODS
from kdloop.raters import judge as judging
from kdloop.raters import preference_model
from kdloop.raters.teacher import Teacher
from kdloop.recipes import Recipe
from kdloop.rounds.selection import relevant
from kdloop.rounds.tasks import training_tasks
from storage import follow_ups
from storage.conversations import Completion, add_completion, add_turn, as_prompt, start_conversation
from storage.database import new_id
from storage.feedback import add_feedback
from storage.split import is_held_out

ROOT = Path(__file__).parents[2]
PACKS = ("additions", "general", "sums")  # those of the recipes, and one that shares its sums
HELD_OUT = [p for pack in PACKS for part in packs.PARTS[1:] for p in packs.prompts(pack, part)]


def test_a_dozen_recipes_ship_and_each_names_known_parts():
    shipped = [recipes.load(name) for name in recipes.names()]
    assert len(shipped) >= 12 and all(r.about for r in shipped)
    assert [r.name for r in shipped if not r.knowledge] == ["grpo"], "it samples as it trains"
    assert {r.method for r in shipped} <= {"auto", *METHODS}
    assert {s["source"] for r in shipped for s in r.knowledge} <= set(KNOWLEDGE)
    assert recipes.from_dict(json.loads(json.dumps(shipped[0].as_dict()))).as_dict() == shipped[0].as_dict()


def test_the_page_of_the_sources_names_each_and_tests_that_exist():
    page = (ROOT / "docs" / "knowledge.md").read_text()
    assert {name for name in KNOWLEDGE if f"| `{name}` |" not in page} == set()
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 40 and {name for name in named if f"def {name}(" not in tests} == set()


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"knowledge": ({"source": "majrity"},)}, "no knowledge source 'majrity'; there are best_of_n"),
        ({"start": "top"}, "start 'top'; one of auto, base, champion"),
        ({"strength": 0.0}, "strength 0.0; above 0, up to 1"),
        ({"select": "all"}, "select 'all'; one of ifd"),
        ({"pack": "law"}, "No pack 'law'"),
        ({"knowledge": ({"source": "verified", "m": 4},)}, "verified has no option 'm'; there are n, temperature"),
        ({"knowledge": ({"source": "verified", "n": "4"},)}, "verified's n = '4', wanted something like 8"),
        ({"knowledge": ({"source": "rest", "thresholds": 1},)}, "rest's thresholds = 1, wanted something like"),
        (
            {"knowledge": ({"source": "labels", "template": "plane"},)},
            "labels has no template 'plane'; there are plain",
        ),
        ({"knowledge": ({"source": "compare", "n": 2},)}, "compare has no option 'n'; there are none"),
    ],
)
def test_a_recipe_that_is_wrong_says_where(values, error, tmp_path):
    with pytest.raises(ValueError, match=error):
        Recipe("mine", **values)
    file = tmp_path / "mine.toml"
    file.write_text('abuot = "x"')
    with pytest.raises(ValueError, match="abuot"):
        recipes.load(str(file))
    with pytest.raises(ValueError, match="No recipe 'none'; there are"):
        recipes.load("none")


def test_the_command_refuses_a_method_that_does_not_exist_before_a_round(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDLOOP_HOME", str(tmp_path))
    (file := tmp_path / "mine.toml").write_text('method = "dpoo"')
    for arguments in (["--recipe", str(file)], ["--method", "dpoo"]):
        with pytest.raises(SystemExit):
            command(["round", *arguments])
        assert "No method 'dpoo'; there are auto, sft" in capsys.readouterr().err
    assert not (tmp_path / "kdloop.db").exists()


def student(messages, seed):
    """Right for some seeds, wrong for others; judges itself when asked to."""
    asked = messages[-1]["content"]
    if "Response:" in asked:
        return f"Score: {seed % 6}"
    if "twice as long" in asked:
        return " ".join(f"word{i}" for i in range(50)) + "."
    task = next((t for t in packs.tasks("sums", "train") if t.prompt in asked), None)
    right = task and seed % 3 and sum(map(ord, task.prompt)) % 2  # half of the tasks are too hard for it
    return f"I think {'so' if seed % 2 else 'it'} is {task.answer if right else 1000 + seed % 5}"


def mischief(request):
    """A teacher that offers held-out prompts as new ones, between new ones that are fine."""
    asked = request["messages"][-1]["content"]
    if "[Completion A]" in asked:
        first, second = re.search(
            r"\[Completion A\]\n(.*?)\n\n\[Completion B\]\n(.*?)\n\nSay why", asked, re.DOTALL
        ).groups()
        return json.dumps({"rationale": "so", "verdict": "A" if first > second else "B"})
    if "[Completion 1]" in asked:
        shown = re.findall(r"\[Completion \d+\]\n(.*)", asked)
        return json.dumps({"ratings": [{"rationale": "so", "score": 1 + sum(map(ord, s)) % 5} for s in shown]})
    n = sum(map(ord, asked))
    if "8 more" in asked:
        return (
            "\n".join(f"{i}. {HELD_OUT[(n + i) % len(HELD_OUT)]}" for i in range(9, 13))
            + f"\n13. Tell me about number {n}"
        )
    if re.match(r"Write one|Rewrite this", asked):
        return HELD_OUT[n % len(HELD_OUT)] if n % 2 else f"What would you do with {n} green bottles?"
    if asked.startswith("Do these two"):
        return "No."
    if "what the person says next" in asked:
        first = re.search(r"Person: (.*)", asked)[1]
        return (
            HELD_OUT[n % len(HELD_OUT)]
            if n % 2
            else f"Say more of that in {n} words, with an example and plainly: {first}"
        )
    answer = next((t.answer for t in packs.tasks("sums", "train") if t.prompt in asked), "fine")
    return f"Because {n}. Answer: it is {answer}"


def liked(db, n=40):
    """People's choices, some of them in held-out conversations and about held-out prompts."""
    examples = []
    for i in range(n):
        question = packs.prompts("general", "gate")[i] if i % 4 == 0 else f"What do you say about {i} cats?"
        turn = add_turn(db, start_conversation(db, "ann", id=new_id()), as_prompt(question))
        sides = [add_completion(db, turn.id, "student", text=f"{w} {i}", checkpoint_id=1) for w in ("well", "bad")]
        add_feedback(db, turn.id, rater="ann", channel="choice", chosen_id=sides[0], rejected_id=sides[1])
        completions = [
            Completion(id, turn.id, "student", 1, f"{w} {i}") for id, w in zip(sides, ("well", "bad"), strict=True)
        ]
        examples.append(Example(turn.prompt, *completions, turn.conversation_id, ("r",)))
    return [e for e in examples if not is_held_out(e.conversation)], examples


def followed(db, examples):
    """What ann writes after one answer of each, and allows to be learned from."""
    follow_ups.allow(db, "ann", True)
    for e in examples:
        said = [{"role": "assistant", "content": e.chosen.text}, *as_prompt("Shorter, please")]
        add_turn(db, e.conversation, [*e.prompt, *said])


# sources on a pack with checks
CHECKED = ("references", "verified", "majority", "star", "rest", "debate", "refine", "preferred")
OPTIONS = {"best_of_n": {"sure": 0.5}, "self_instruct": {"n": 8}, "preferred": {"probes": 4}}
EVERY = {name: recipes.load(name) for name in recipes.names() if recipes.load(name).knowledge}
for source in KNOWLEDGE:
    pack, step = "sums" if source in CHECKED else "general", {"source": source} | OPTIONS.get(source, {})
    EVERY[f"source {source}"] = Recipe(source, pack=pack, knowledge=(step,))


def said_in(examples) -> set[str]:
    """Everything that a person, or who stands in for one, says in these prompts."""
    return {packs.normal(m["content"]) for e in examples for m in e.prompt if m["role"] == "user"}


@pytest.fixture(scope="module")
def rater():
    """One that likes short texts, and has proven it."""
    return preference_model.fit([vote(i) for i in range(80)])


@pytest.mark.parametrize("name", EVERY)
def test_nothing_held_out_can_be_trained_on_by_any_recipe_or_source(db, name, rater, tiny_student, tmp_path):
    recipe = EVERY[name]
    training, votes = liked(db)
    followed(db, votes)
    if name in ("source documents", "source grounded"):
        words = [f"Bees number {i} dance to tell where flowers are." for i in range(200)]
        (tmp_path / "bees.txt").write_text(" ".join(words))
        recipe = replace(recipe, knowledge=(recipe.knowledge[0] | {"directory": str(tmp_path)},))
    with endpoint(mischief) as (url, _):
        local = Teacher("local", directory=tiny_student, terms="allowed")
        m = context(
            db,
            student,
            pack=recipe.pack,
            teachers=[local] if name == "source features" else [teacher(url)],
            examples=[e for e in training if e.question not in HELD_OUT],
            rater=rater,
            hindsight=True,
        )
        m.writers[0][0].tokenizer = AutoTokenizer.from_pretrained(tiny_student)
        m.writers[0][0].logprobs = lambda prompts, said: [[-1.0 if p[-1]["content"] else -2.0] for p in prompts]
        if name != "source features":
            judging.calibrate(m.judge, votes, db)
        written = elicit(m, packs.tasks(recipe.pack, "train")[:8], recipe.knowledge)
    assert sum(written.values()) > 0, "what elicits nothing proves nothing"
    split = from_feedback(db, m.round.id, recipe.pack)
    elicited = [e for e in split.train if e.source != "human"]
    assert elicited and all(e.rows and e.round == m.round.id for e in elicited)
    held = packs.held_out("general", recipe.pack)
    trained = said_in(relevant(split.train, recipe, training_tasks(recipe, split, seed=1)))
    assert not trained & held and split.dropped["same prompt as a held-out one"] > 0
    asked = {key(e.prompt) for e in split.held_out}
    assert not asked & {key(e.prompt) for e in split.train}


@pytest.mark.parametrize("name", ["votes", *recipes.names()])
def test_no_recipe_asks_what_is_held_out(db, name):
    """Of every recipe, also one that samples as it trains: by its pack, and by what people ask."""
    recipe = recipes.VOTES if name == "votes" else recipes.load(name)
    liked(db)
    split = from_feedback(db, pack=recipe.pack)
    tasks = training_tasks(recipe, split, seed=1)
    assert len(tasks) == recipe.prompts
    held = packs.held_out("general", recipe.pack) | said_in(split.held_out)
    assert not held & {packs.normal(t.prompt) for t in tasks}
    assert not held & said_in(relevant(split.train, recipe, tasks))


def test_a_conversation_that_once_asked_what_is_held_out_is_not_trained_on(db):
    """Methods that learn whole conversations would learn its answer."""
    for first, kept in ((packs.prompts("general", "gate")[0].upper(), False), ("What do you say of cats?", True)):
        conversation = start_conversation(db, "ann", id=training_id())
        prompt = [*as_prompt(first), {"role": "assistant", "content": "Well."}, *as_prompt(f"And after {first[:9]}?")]
        turn = add_turn(db, conversation, prompt)
        said = add_completion(db, turn.id, "student", text="good", checkpoint_id=1)
        add_feedback(db, turn.id, rater="ann", channel="thumb", chosen_id=said)
        assert (conversation in [e.conversation for e in from_feedback(db).train]) is kept
    m = context(db, student, pack="general")
    with pytest.raises(Refused, match="held out"):
        m.turn([*as_prompt(packs.prompts("general", "heldout")[0]), *prompt[1:]], [])
