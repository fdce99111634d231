"""The capacity model: against a simulation of its own assumptions, and at the limits where it is arithmetic."""

import heapq
import random

import pytest

from kdloop.__main__ import main
from kdloop.evaluation.bench.capacity import Load, expected, replicas, share

SPEEDS = {1: 60.0, 4: 120.0, 8: 160.0}


def test_one_person_waits_for_nobody():
    one = expected(Load(1, pause=30, tokens=120), SPEEDS)
    assert one.reply_seconds == pytest.approx(120 / 60)
    assert one.tokens_per_second == pytest.approx(120 / (30 + 2))


def test_a_crowd_gets_what_the_machine_gives_and_waits_for_the_rest():
    """Saturated: all of the fastest speed, and by Little's law people = rate * (pause + reply)."""
    many = expected(Load(1000, pause=30, tokens=120), SPEEDS)
    assert many.tokens_per_second == pytest.approx(160)
    assert many.reply_seconds == pytest.approx(1000 / (160 / 120) - 30)


@pytest.mark.parametrize("people", [5, 15, 40])
def test_the_model_is_what_a_simulation_of_sharing_people_gives(people):
    """Replies of fixed length, which the model says do not matter: it knows only their mean."""
    load = Load(people, pause=20, tokens=100)
    model = expected(load, SPEEDS)
    rate, seconds = simulated(load, replies=6000)
    assert rate == pytest.approx(model.tokens_per_second, rel=0.05)
    assert seconds == pytest.approx(model.reply_seconds, rel=0.08)


def speed(n):
    """SPEEDS between the measured points, by hand."""
    (low, slow), (high, fast) = ((1, 60), (4, 120)) if n <= 4 else ((4, 120), (8, 160))
    return slow + (min(n, 8) - low) / (high - low) * (fast - slow)


def simulated(load, replies):
    """(tokens a second, seconds of a reply): people who pause at random; those who are answered share the machine."""
    draw, now, done, spent = random.Random(1), 0.0, 0, 0.0
    pausing = [draw.expovariate(1 / load.pause) for _ in range(load.people)]
    heapq.heapify(pausing)
    under_way = []  # [tokens left, when it began]
    while done < replies:
        each = speed(len(under_way)) / len(under_way) if under_way else 0.0
        ends = now + min(left for left, _ in under_way) / each if under_way else float("inf")
        then = min(ends, pausing[0] if pausing else float("inf"))
        for reply in under_way:
            reply[0] -= (then - now) * each
        now = then
        if pausing and pausing[0] <= now:
            heapq.heappop(pausing)
            under_way.append([load.tokens, now])
        for reply in [r for r in under_way if r[0] < 1e-9]:
            under_way.remove(reply)
            done, spent = done + 1, spent + now - reply[1]
            heapq.heappush(pausing, now + draw.expovariate(1 / load.pause))
    return done * load.tokens / now, spent / done


def test_replicas_are_the_fewest_that_answer_in_time():
    load = Load(500, pause=40, tokens=120)
    k = replicas(load, SPEEDS, reply_seconds=5)
    assert share(load, SPEEDS, k).reply_seconds <= 5 < share(load, SPEEDS, k - 1).reply_seconds
    with pytest.raises(ValueError, match=r"takes 2.0 s even alone"):
        replicas(load, SPEEDS, reply_seconds=1.9)


def test_the_command_plans_from_speeds_that_were_measured_elsewhere(capsys):
    main(
        ["bench", "capacity", "--people", "500", "--speeds", "1=60", "4=120", "8=160", "--seconds", "5", "--price", "2"]
    )
    said = capsys.readouterr().out
    k = replicas(Load(500), SPEEDS, 5)
    assert f"{k} replicas" in said and f"{2 * k:.2f} per hour" in said
