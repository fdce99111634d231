"""The whole loop without a browser: a function votes in place of a person, and judges the result.

The rater chooses between two completions of the shipped training prompts; rounds run exactly as in the app; what the
judge has passed the rater compares with the champion, blind, until that confirms it or rolls it back (unless
`--promotion judge`); what serves then is compared with the base by that rater on held-out prompts. Training sees only
the rater's votes.
"""

import importlib.util
import random
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from kdloop import packs, recipes
from kdloop.evaluation.voting import PERSON, Rate, Voter
from kdloop.feedback import collect
from kdloop.gate.evidence import MOST
from kdloop.gate.outcomes import Outcomes
from kdloop.gate.trial import settle
from kdloop.knowledge.rows import by_student
from kdloop.knowledge.self_knowledge import SPREAD
from kdloop.rounds.supervisor import Supervisor
from kdloop.settings import Settings, change
from kdloop.student import Engine, Sample, Sampling, engines
from kdloop.student.serving import Serving
from storage import checkpoints, conversations, files, follow_ups, json_lines, rounds, trials
from storage.checkpoints import Checkpoint
from storage.conversations import Draft, as_prompt
from storage.database import open_database
from storage.rounds import Round

CHUNK = 32  # prompts per batch
MOST_ASKED = 4 * MOST  # where nearly all completions are empty, nothing is compared
COUNTED = ("compared", "wins", "losses", "ties")
AT_ONCE = 8  # comparisons of a trial that are sampled together: it may end after few
MAX_HELD_OUT = 100  # prompts: a win rate to within 0.1


def load_rater(spec: str) -> Rate:
    """ "FILE.py:function" -> the function. Raises ValueError for a missing file or function."""
    path, _, name = spec.rpartition(":")
    if not path or not Path(path).is_file():
        raise ValueError(f"--rater {spec!r}: give FILE.py:function, with an existing file")
    module_spec = importlib.util.spec_from_file_location("kdloop_rater", path)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise ValueError(f"--rater {spec!r}: {path} has no function {name!r}")
    return getattr(module, name)


def simulate(
    settings: Settings,
    voter: Voter,
    votes: int,
    n_rounds: int,
    out: str | Path | None = None,
    share: float = 1.0,
    ai: bool = True,
    held_out: list[str] | None = None,
) -> dict:
    """Run `n_rounds` rounds, each on `votes` new votes; returns the report, written to `out` after each round.

    Only a `share` of the training prompts is voted on. Without `ai`, the preference model adds no pairs of its own to
    the votes; it judges in the gate either way. Of a voter who tells, rounds learn from what they write next, and not
    from their votes, which the gate asks. `held_out` are the prompts of the end, in place of the pack's.
    """
    rate, seed, margin = voter.rate, voter.seed, voter.margin
    settings = replace(settings, round_votes=0, idle_minutes=0)
    checkpoints.ensure_base(db := open_database(settings.db))
    if voter.tell:
        change(settings, {"hindsight": "on"}, "simulate")
        follow_ups.allow(db, PERSON, True)
    serving = Serving(db, lambda: engines.transformers(settings))
    supervisor = Supervisor(settings, serving)
    questions = packs.prompts("general", "train")
    random.Random(seed).shuffle(questions)
    shared = questions[: round(share * len(questions))]
    questions = [*shared]
    recipe = recipes.load("hindsight") if voter.tell else None if ai else replace(recipes.VOTES, knowledge=())
    report: dict = {"votes": 0, "abstentions": 0, "seed": seed, "share": share, "ai": ai, "rounds": []}
    report |= {"flips": voter.flips, "feedback": voter.kind, "told": bool(voter.tell)}
    measure = HeldOut(serving.base, rate, settings, seed, margin, held_out)
    for i in range(n_rounds):
        decided, abstained = vote(settings, serving, voter, questions, votes, seed * 100 + i)
        report["votes"] += decided
        report["abstentions"] += abstained
        print(f"round {i + 1}: {decided} votes, {abstained} abstentions; training", flush=True)
        how = recipe and recipe.as_dict()
        supervisor.start(settings.method, started_by="simulate", seed=seed * 100 + i, recipe=how)
        ended, trial = supervisor.wait(), compare(settings, serving, voter, shared, seed * 100 + i)
        ended = rounds.get_round(db, ended.id)
        outcomes = measure.against_base(*serving.current())
        report["rounds"].append(entry(i + 1, ended, outcomes) | {"trial": trial})
        print(line(report["rounds"][-1]), flush=True)
        report |= {"final": outcomes.as_dict(), "transcripts": measure.transcripts()}
        if out:
            write(report, out)
    return report


def vote(settings, serving, voter: Voter, questions: list[str], votes: int, seed: int) -> tuple[int, int]:
    """Sample and vote until `votes` are given or no prompt is left; (given, abstained). Used prompts leave the list."""
    decided = abstained = 0
    sampling = Sampling(settings.round_max_tokens, temperature=SPREAD)
    engine, checkpoint = serving.current()
    while decided < votes and questions:
        batch = [questions.pop() for _ in range(min(CHUNK, len(questions)))]
        drawn = two_completions(settings.db, engine, checkpoint, batch, sampling, seed * 1000 + len(questions))
        for question, (left, right) in zip(batch, drawn, strict=True):
            if decided < votes:
                given = voter.say(settings.db, question, left, right)
                decided, abstained = decided + given, abstained + (not given)
    return decided, abstained


def compare(settings: Settings, serving: Serving, voter: Voter, questions: list[str], seed: int) -> dict:
    """The person's blind comparisons of a challenger with the champion, until they decide: what the trial ended on;
    {} where nothing is on trial."""
    rate, margin = voter.rate, voter.margin
    if not (running := trials.running(settings.db)):
        return {}
    both = [serving.load(checkpoints.get_checkpoint(settings.db, id)) for id in (running.challenger, running.champion)]
    sampling, asked, ended = Sampling(settings.round_max_tokens), 0, None
    while not ended and asked < MOST_ASKED:
        batch = [questions[(asked + i) % len(questions)] for i in range(AT_ONCE)]
        drawn = completions_of(settings.db, both, batch, sampling, seed * 1000 + asked)
        for question, ((mine, text), (other, former)) in zip(batch, drawn, strict=True):
            gain, asked = rate(question, text) - rate(question, former), asked + 1
            gain = -gain if voter.is_mistaken(f"{seed} {asked} {question}") else gain
            if (text or former) and not ended:
                trials.offer(settings.db, running.id, mine, other)
                choice = "left" if gain > margin else "right" if gain < -margin else "tie"
                choice = choice if text and former else "left" if text else "right"
                collect.choose(settings.db, PERSON, mine, other, choice)
                ended = settle(settings.db, shared=False)
    told = ended.evidence if ended else {}
    return {"outcome": ended.outcome if ended else "running", **{k: told.get(k, 0) for k in COUNTED}}


def two_completions(
    db: Path, engine: Engine, checkpoint: Checkpoint, questions: list[str], sampling: Sampling, seed: int
) -> list[list[tuple[str, str]]]:
    """Store two completions, (id, text), by one checkpoint for each question, each in a conversation of its own.

    Deterministic by seed on a fresh database; what is held out follows from the order of the votes.
    """
    seeds = [seed * 10_000 + i for i in range(2 * len(questions))]
    samples = engine.complete([as_prompt(q) for q in questions] * 2, sampling, seeds)
    drafts = [by_student(s, checkpoint, sampling, seed) for s, seed in zip(samples, seeds, strict=True)]
    return stored_pairs(db, questions, drafts[: len(questions)], drafts[len(questions) :])


def completions_of(
    db: Path, both: list[tuple[Engine, Checkpoint]], questions: list[str], sampling: Sampling, seed: int
) -> list[list[tuple[str, str]]]:
    """The same by two checkpoints, one completion by each."""
    seeds, prompts = [seed * 10_000 + i for i in range(len(questions))], [as_prompt(q) for q in questions]
    sides = [
        [by_student(s, k, sampling, n) for s, n in zip(engine.complete(prompts, sampling, seeds), seeds, strict=True)]
        for engine, k in both
    ]
    return stored_pairs(db, questions, *sides)


def stored_pairs(db: Path, questions: list[str], first: list[Draft], second: list[Draft]) -> list[list]:
    stored = []
    for question, *pair in zip(questions, first, second, strict=True):
        turn = conversations.add_turn(db, conversations.start_conversation(db, PERSON, question), as_prompt(question))
        stored.append([(conversations.add_draft(db, turn.id, d), d.text) for d in pair])
    return stored


class HeldOut:
    """Held-out prompts, and an engine's outcomes against the base on them, by the rater."""

    def __init__(
        self, base: Engine, rate: Rate, settings: Settings, seed: int, margin: float, held_out: list[str] | None = None
    ):
        self.questions = held_out or packs.prompts("general", "heldout")[:MAX_HELD_OUT]
        self.rate, self.margin, self.seed = rate, margin, seed
        self.sampling = Sampling(settings.round_max_tokens)
        self.engine = base
        self.samples: dict[int, list[Sample]] = {}  # by checkpoint

    @cached_property
    def base(self) -> list[Sample]:
        """Sampled at the first promotion."""
        return self.sample(self.engine)

    def sample(self, engine: Engine) -> list[Sample]:
        prompts = [as_prompt(q) for q in self.questions]
        return engine.complete(prompts, self.sampling, [self.seed * 7919 + i for i in range(len(prompts))])

    def against_base(self, engine: Engine, checkpoint) -> Outcomes:
        if checkpoint.version == 0:
            return Outcomes(0, 0, len(self.questions))
        if checkpoint.id not in self.samples:
            self.samples[checkpoint.id] = self.sample(engine)
        pairs = zip(self.questions, self.samples[checkpoint.id], self.base, strict=True)
        gains = [self.rate(q, new.text) - self.rate(q, old.text) for q, new, old in pairs]
        return Outcomes.of(gains, self.margin)

    def transcripts(self) -> list[dict]:
        """The last champion's completions beside the base's; none if the base still serves."""
        if not self.samples:
            return []
        rows = zip(self.questions, self.base, list(self.samples.values())[-1], strict=True)
        return [{"prompt": q, "base": old.text, "champion": new.text} for q, old, new in rows]


def entry(n: int, r: Round, outcomes: Outcomes) -> dict:
    return {
        "round": n,
        "method": r.method,
        "status": r.status,
        "reason": (r.verdict or {}).get("reason") or r.error,
        "pairs": r.counts.get("train", 0),
        "ai_pairs": r.counts.get("ai", 0),
        "seconds": r.seconds,
        "guards": (r.verdict or {}).get("guards", {}),
        "heldout": outcomes.as_dict(),
    }


def line(e: dict) -> str:
    h = e["heldout"]
    bar = "#" * round(20 * h["win_rate"])
    trial = e["trial"] and "\n    trial: {outcome} after {compared:g} comparisons, {wins:g} to {losses:g}".format(
        **e["trial"]
    )
    return (
        f"  round {e['round']} {e['status']:9} {e['method'] or '-':4} pairs {e['pairs']:3} seconds {e['seconds']} "
        f"win rate against base {h['win_rate']:.2f} {h['ci95']} |{bar:20}|\n    {e['reason']}{trial or ''}"
    )


def table(report: dict) -> str:
    final = report["final"]
    rows = [line(e) for e in report["rounds"]]
    end = (
        f"{report['votes']} votes, {report['abstentions']} abstentions. Champion against the base on held-out prompts: "
        f"{final['wins']} wins, {final['losses']} losses, {final['ties']} ties, "
        f"win rate {final['win_rate']:.2f}, 95 % interval {final['ci95']}"
    )
    per_vote = 100 * (final["win_rate"] - 0.5) / max(1, report["votes"])
    return "\n".join([*rows, end, f"{per_vote:+.2f} points of win rate per vote"])


def write(report: dict, path: str | Path) -> None:
    files.write(Path(path), json_lines.dump(report, indent=1))
