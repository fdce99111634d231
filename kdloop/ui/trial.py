"""What people's comparisons say of the version on trial, as they come: a sentence and a picture, on three tabs; and the
alarm by thumbs."""

from html import escape

from kdloop.gate import thumbs, trial
from kdloop.gate.evidence import CONFIRM, MOST, ROLL_BACK, Evidence, least_more
from kdloop.settings import Settings
from kdloop.ui import verdicts
from kdloop.ui.plots import trail
from kdloop.ui.words import tell
from storage import checkpoints, trials
from storage.trials import Trial

ANSWERS = "{challenger} is on trial: it answers already, and {champion} comes back if people prefer that."
WAITS = "{challenger} is on trial: {champion} answers until people have confirmed it."
NOBODY = "Nobody has compared them yet: compare {n} answers in the Arena."
SCORE = "People: {wins:g} to {losses:g}, ties: {ties:g}. Evidence {found:.1f} of {wanted:g}."
AGAINST = "People: {wins:g} to {losses:g}, ties: {ties:g}. Evidence against it {found:.1f} of {wanted:g}."
MORE = "Compare {n} more in the Arena: so many could decide."
ALMOST = "That decides."
LEFT_OUT = "Whoever has compared most is left out of the evidence: nobody decides alone."
ROUNDS_WAIT = "The next round starts once people have decided."
ENDS = {
    "confirmed": "{challenger} was confirmed by people over {champion}.",
    "rolled back": "{challenger} was rolled back by people to {champion}.",
    "ended by owner": "The owner has ended the trial of {challenger} against {champion}.",
}
ALONE = "{name} was promoted by the judge alone: no people have compared it blind."
DECIDED_BY = {
    "running": "on trial",
    "confirmed": "confirmed by people",
    "rolled back": "rolled back by people",
    "ended by owner": "trial ended by the owner",
    "judge": "by the judge alone",
}
ALARM = (
    "Alarm: {name} is liked in {liked} of {of} thumbs, {former} was in {liked_before} of {of_before}. An owner can "
    "serve {former} again on the Models tab."
)


def panel(settings: Settings) -> str:
    """HTML: the running trial, or how the last one ended; nothing before the first version."""
    shown = running(settings) if trials.running(settings.db) else last(settings)
    return "".join(filter(None, [alarm_box(settings), shown]))


def running(settings: Settings) -> str:
    found = trial.evidence(settings.db, trials.running(settings.db), settings.shared)
    return paragraph(f"{said(settings, found)} {tell(ROUNDS_WAIT)}") + picture(found)


def said(settings: Settings, found: list[Evidence] | None = None) -> str:
    """Of the running trial: who answers, and how people have decided so far."""
    now = trials.running(settings.db)
    found = found or trial.evidence(settings.db, now, settings.shared)
    who = tell(ANSWERS if now.mode == "trial" else WAITS, **names(settings, now))
    return f"{who} {score(found[-1], settings.shared)}"


def line(settings: Settings) -> str:
    """The same in one sentence, where a trial runs."""
    if not (now := trials.running(settings.db)):
        return ""
    return tell(ANSWERS if now.mode == "trial" else WAITS, **names(settings, now)) + " " + tell(ROUNDS_WAIT)


def score(now: Evidence, shared: bool) -> str:
    if not (now.wins or now.losses or now.ties):
        return tell(NOBODY, n=least_more(now))
    counts = {"wins": now.wins, "losses": now.losses, "ties": now.ties}
    if now.better >= now.worse:
        said = tell(SCORE, **counts, found=now.better, wanted=CONFIRM)
    else:
        said = tell(AGAINST, **counts, found=now.worse, wanted=ROLL_BACK)
    more = tell(ALMOST) if now.decision != "running" else tell(MORE, n=least_more(now))
    return " ".join(filter(None, [said, more, shared and tell(LEFT_OUT)]))


def last(settings: Settings) -> str:
    now = checkpoints.serving(settings.db)
    if trials.standings(settings.db).get(now.id) == "judge":
        return paragraph(tell(ALONE, name=verdicts.in_words(now.name)))
    if not (known := trials.all_trials(settings.db)):
        return ""
    ended = known[-1]
    said = tell(ENDS[ended.outcome], **names(settings, ended))
    if not ended.evidence:
        return paragraph(said)
    told = Evidence(**{k: ended.evidence[k] for k in Evidence.__dataclass_fields__ if k in ended.evidence})
    counts = {"wins": told.wins, "losses": told.losses, "ties": told.ties}
    better = told.decision == "confirmed"
    found, wanted = (told.better, CONFIRM) if better else (told.worse, ROLL_BACK)
    said += " " + tell(SCORE if better else AGAINST, **counts, found=found, wanted=wanted)
    return paragraph(said) + picture(trial.evidence(settings.db, ended, ended.evidence["shared"]))


def picture(found: list[Evidence]) -> str:
    marks = {1.0: tell("confirmed"), -1.0: tell("rolled back")}
    steps = [f"{e.wins:g}:{e.losses:g}" for e in found]
    title = tell("Evidence by people, from one comparison to the next")
    return trail(title, tell("comparisons"), [e.way for e in found], steps, marks, MOST)


def names(settings: Settings, now: Trial) -> dict[str, str]:
    known = {k.id: verdicts.in_words(k.name) for k in checkpoints.lineage(settings.db)}
    return {"challenger": known[now.challenger], "champion": known[now.champion]}


def decided_by(settings: Settings) -> dict[int, str]:
    """Checkpoint id -> who made it a version, in words."""
    return {id: tell(DECIDED_BY[how]) for id, how in trials.standings(settings.db).items()}


def alarm(settings: Settings) -> str:
    """ "" where thumbs give none."""
    now = thumbs.watch(settings.db)
    if not (now and now.alarm):
        return ""
    (liked, of), (liked_before, of_before) = now.liked, now.liked_before
    values = {"liked": liked, "of": of, "liked_before": liked_before, "of_before": of_before}
    return tell(ALARM, name=now.name, former=now.predecessor, **values)


def alarm_box(settings: Settings) -> str:
    said = alarm(settings)
    return said and f'<p role="alert" class="kd-alarm">{escape(said)}</p>'


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"
