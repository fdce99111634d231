"""Every family's row is what its template really does; and templates of our own, one for each verdict."""

import re
from functools import cache
from pathlib import Path

import pytest
from families import TEMPLATES, byte_level
from jinja2 import TemplateError
from students_page import page
from trl.chat_template_utils import supports_tool_calling

from kdloop.methods import multi_turn
from kdloop.student.probes import FALLBACK, NONE, REFUSED, WORKS, Row
from kdloop.student.template import Template

ROOT = Path(__file__).parents[2]
ASKED, SAID = {"role": "user", "content": "Who was it?"}, {"role": "assistant", "content": "Nobody."}
RULE = {"role": "system", "content": "Be brief."}
TURN = "{{ '<|im_start|>' + m.role + '\n' + (m.content or '') + '<|im_end|>\n' }}"
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
DEFINED = "{% if tools %}{{ tools | tojson }}{% endif %}"
NAMED = "{{ call.function.name }}"
CALLED = "{% for call in m.tool_calls or [] %}" + NAMED + "{{ call.function.arguments | tojson }}{% endfor %}"
WITH_TOOLS = DEFINED + "{% for m in messages %}" + CALLED + TURN + "{% endfor %}" + PROMPT


@cache
def family(name: str) -> tuple[Template, Row]:
    tokenizer = byte_level(TEMPLATES[name])
    return Template(tokenizer), Row.of(tokenizer)


def planted(template: str, **tokens) -> Row:
    tokenizer = byte_level(template)
    for name, token in tokens.items():
        setattr(tokenizer, name, token)
    return Row.of(tokenizer)


def each(of: str, head: str = "", prompt: str = PROMPT) -> str:
    return head + "{% for m in messages %}" + of + "{% endfor %}" + prompt


def test_the_page_is_what_the_command_writes():
    assert (ROOT / "docs" / "students.md").read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_familys_row_is_what_its_template_object_does(name):
    template, row = family(name)
    assert (row.chat.status == FALLBACK) is template.blocks and row.chat.status != REFUSED
    talk = [ASKED, SAID, ASKED, SAID]
    rows = multi_turn.rows(template.tokenizer, talk, 4096)
    assert {1: WORKS, 2: FALLBACK}[len(rows)] == row.turns.status
    spelled = re.findall(r"`([^`]+)`", row.end.how)
    assert template.tokenizer.convert_tokens_to_ids(spelled) == list(template.ends)
    assert template.completion_ids("Nobody.", True)[-1] == template.ends[0]
    told = [RULE, ASKED]
    if template.blocks:
        told = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in told]
    try:
        by_itself = template.tokenizer.apply_chat_template(told, tokenize=False)
    except TemplateError:
        by_itself = ""
    assert (row.system.status == WORKS) is (RULE["content"] in by_itself)
    assert RULE["content"] in template.tokenizer.decode(template.prompt_ids([RULE, ASKED]))


@pytest.mark.parametrize("name", [name for name in TEMPLATES if family(name)[1].turns.status == FALLBACK])
def test_what_history_has_otherwise_is_named(name):
    """Both ends of the difference, where they were told to be."""
    template, row = family(name)
    generated, history = (
        template.tokenizer.decode(ids)
        for ids in (template.prompt_ids([ASKED]), template.prompt_ids([ASKED, SAID, ASKED]))
    )
    generated += template.tokenizer.decode(template.completion_ids("Nobody.", True))
    told = [text.replace("\\n", "\n") for text in re.findall(r"`([^`]+)`", row.turns.how)]
    if "its end" in row.turns.how:
        assert generated.endswith(f"Nobody.{told[-2]}") and f"Nobody.{told[-1]}" in history
    else:
        assert generated.partition("Nobody.")[0].endswith(told[-1])
        assert "has nothing" in row.turns.how or history.partition("Nobody.")[0].endswith(told[0])
    assert not history.startswith(generated)


@pytest.mark.parametrize("name", TEMPLATES)
def test_tools_are_told_as_trl_finds_them(name):
    """TRL looks for a call and its result, too; what it calls supported we do not refuse, and the other way round."""
    row = family(name)[1]
    ours = REFUSED not in (row.tool_calls.status, row.tool_results.status)
    assert ours is supports_tool_calling(byte_level(TEMPLATES[name]))


def test_templates_that_drop_a_tools_result_or_the_call_without_an_error_are_found():
    silent, refused = {}, {}
    for column in ("tool_calls", "tool_results"):
        told = {name: getattr(family(name)[1], column) for name in TEMPLATES}
        silent[column] = {name for name, verdict in told.items() if "without an error" in verdict.how}
        refused[column] = {name for name in silent[column] if told[name].status == REFUSED}
    assert refused["tool_results"] == {"cohere2", "phi3", "phi3_5"}
    lost = {"deepseek_r1_distill", "lfm2", "llama3", "qwen2_5_vl", "phi3", "phi3_5", "idefics3", "smolvlm", "cohere2"}
    assert refused["tool_calls"] == lost and silent["tool_calls"] - lost == {"gptoss"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_thoughts_are_where_the_row_says(name):
    template, row = family(name)
    on = Template(template.tokenizer, "on") if template.switch() else template
    assert (row.thoughts.status == NONE) is (on.thoughts is None)
    if on.thoughts:
        trained = on.tokenizer.decode(on.completion_ids("Nobody.", True, "It was late."))
        assert ("; trained" in row.thoughts.how) is (f"It was late.{on.thoughts.closing}Nobody." in trained)
        off = Template(template.tokenizer, "off")
        assert ("cannot be turned off" in row.thoughts.how) is off.thinks
        assert ("off: a prompt ends with" in row.thoughts.how) is bool(off.prefill)
    for switch in re.findall(r"switch `(\w+)`", row.thoughts.how):
        values = ("medium", "low") if switch == "reasoning_effort" else (True, False)
        assert len({template.rendered([ASKED], True, **{switch: value}) for value in values}) == 2
    messages = [ASKED, SAID | {"reasoning_content": "It was late."}]
    shown = "It was late." in template.rendered(messages, False)
    told = row.reasoning_content
    assert shown is (told.status != REFUSED and not told.how.startswith("before a tool's result"))


def test_plain_text_and_tools_work():
    row = planted(WITH_TOOLS)
    assert {name for name, verdict in vars(row).items() if verdict.status == WORKS} == {
        *("chat", "system", "turns", "end", "tools", "tool_calls", "tool_results")
    }
    assert row.thoughts.status == NONE and row.reasoning_content.status == REFUSED


PLANTED = {  # a template -> (the column, its status, words of how)
    "drops the result": (
        WITH_TOOLS.replace("in messages", "in messages if m.role != 'tool'"),
        ("tool_results", REFUSED, "the result left out without an error"),
    ),
    "drops the result of history": (
        WITH_TOOLS.replace(TURN, "{% if m.role != 'tool' or loop.last %}" + TURN + "{% endif %}"),
        ("tool_results", FALLBACK, "until it is answered; in history: the result left out"),
    ),
    "drops the call": (
        WITH_TOOLS.replace(CALLED, ""),
        ("tool_calls", REFUSED, "the tool's name and the argument left"),
    ),
    "drops the arguments": (
        WITH_TOOLS.replace("{{ call.function.arguments | tojson }}", ""),
        ("tool_calls", REFUSED, "the argument left out without an error"),
    ),
    "shows the call after its result": (
        each(TURN, DEFINED, "{% for m in messages %}" + CALLED + "{% endfor %}" + PROMPT),
        ("tool_calls", REFUSED, "left out"),
    ),
    "the first call alone": (
        WITH_TOOLS.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"),
        ("tool_calls", FALLBACK, "one call a message: of two, the second call left out without an error"),
    ),
    "joins arguments as text": (
        WITH_TOOLS.replace(
            NAMED + "{{ call.function.arguments | tojson }}", "{{ call.function.name + call.function.arguments }}"
        ),
        ("tool_calls", FALLBACK, "arguments as JSON text, not as an object"),
    ),
    "writes arguments as Python's": (
        WITH_TOOLS.replace("arguments | tojson", "arguments"),
        ("tool_calls", FALLBACK, "as Python writes them"),
    ),
    "a call in a message without content": (
        WITH_TOOLS.replace("m.tool_calls or []", "((m.tool_calls or []) if m.content is not defined else [])"),
        ("tool_calls", FALLBACK, "no content, not an empty one"),
    ),
    "no role but two": (
        WITH_TOOLS.replace(CALLED, "{% if m.role == 'tool' %}{{ raise_exception('Two roles, no more') }}{% endif %}"),
        ("tool_results", REFUSED, "Two roles, no more"),
    ),
    "tools by name": (
        each(TURN, "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"),
        ("tools", REFUSED, "description"),
    ),
    "no history": (
        each(TURN).replace("in messages", "in messages[-1:]"),
        ("turns", REFUSED, "the user's message and the assistant's message left out without an error"),
    ),
    "alternation of three": (
        each(TURN, "{% if messages | length > 2 %}{{ raise_exception('One turn') }}{% endif %}"),
        ("turns", REFUSED, "One turn"),
    ),
    "history without ends": (
        each("{{ '<|im_start|>' + m.role + '\n' + m.content }}{% if loop.last %}{{ '<|im_end|>\n' }}{% endif %}"),
        ("turns", FALLBACK, "is `<|im_start|>` in history"),
    ),
    "upper history": (
        each(TURN).replace("m.role + '", "('the ' if m.role == 'assistant' and not loop.last else '') + m.role + '"),
        (
            "turns",
            FALLBACK,
            "history has `the assistant\\n` before a completion that was generated after `assistant\\n`",
        ),
    ),
    "no system message": (
        each("{% if m.role == 'system' %}{{ raise_exception('No rules') }}{% endif %}" + TURN),
        ("system", FALLBACK, 'as the template says "No rules"'),
    ),
    "a system message that is left out": (
        each(TURN).replace("in messages", "in messages if m.role != 'system'"),
        ("system", FALLBACK, "without an error"),
    ),
    "no end of its own": (
        each(
            "{{ '[' + m.role + '] ' + m.content + '\n' }}",
            prompt="{% if add_generation_prompt %}[assistant] {% endif %}",
        ),
        ("end", FALLBACK, "the tokenizer's eos, where the template has no end"),
    ),
    "the next turn's marker": (
        each(
            "{{ '<|' + m.role + '|>' + m.content }}",
            "{# <|user|> <|assistant|> #}",
            "{{ '<|assistant|>' if add_generation_prompt }}",
        ),
        ("end", FALLBACK, "`<|user|>`, `<EOS>`: the next turn's first token"),
    ),
    "blocks": (
        each(TURN.replace("(m.content or '')", "m.content[0].text")),
        ("chat", FALLBACK, "lists of text blocks"),
    ),
    "another field": (
        each("{% if m.thinking %}{{ '<think>' + m.thinking + '</think>' }}{% endif %}" + TURN),
        ("reasoning_content", FALLBACK, "the template reads `thinking`"),
    ),
    "a switch": (
        each(TURN, prompt=PROMPT + "{% if enable_thinking is false %}{{ '<think></think>' }}{% endif %}"),
        ("thoughts", WORKS, "switch `enable_thinking`, True as default"),
    ),
    "broken": ("{% for m in messages %}", ("chat", REFUSED, "Unexpected end of template")),
    "no user": ("{{ bos_token }}", ("chat", REFUSED, "does not show what the user says")),
    "adds a number to a text": ("{{ 'a' + 1 }}", ("chat", REFUSED, "str")),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_template_gets_its_verdict(name):
    template, (column, status, words) = PLANTED[name]
    verdict = getattr(planted(template), column)
    assert verdict.status == status and words in verdict.how, verdict


def test_a_tokenizer_without_any_end_is_refused():
    assert planted(each("{{ m.content }}", prompt=""), eos_token=None).end.status == REFUSED
