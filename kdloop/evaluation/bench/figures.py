"""The figures, in one literal dict."""

from kdloop.evaluation.bench import capacity, chatting, data, decode, raters, rounds, sampling

FIGURES = {
    "decode": decode.decode,
    "first_token": decode.first_token,
    "sampling": sampling.sampling,
    "round": rounds.round_phases,
    "swap": chatting.swap,
    "chatting": chatting.during_a_round,
    "people": capacity.people,
    "votes": chatting.votes,
    "pages": data.pages,
    "examples": data.examples,
    "refit": raters.refit,
}
