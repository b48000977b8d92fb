"""Chat templates as hostile Jinja: known escapes are refused, templates of published models are clean."""

from __future__ import annotations

import json

import pytest
from tests.vectors.artifacts import templates

from garrison.artifacts.scanners import SCANNERS
from garrison.artifacts.scanners.judge import judge
from garrison.artifacts.scanners.sources import BytesSource
from garrison.core.finding import Verdict

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ ''|attr('__class__') }}",
    "{% set a = '__cla' ~ 'ss__' %}{{ ''|attr(a) }}",
    "{% set a = '__cla' ~ 'ss__' %}{{ ''[a] }}",
    "{{ ''['__cla' + 'ss__'] }}",
    "{{ ''[['__cla','ss__']|join] }}",
    "{{ ''['%s%s' % ('__cla', 'ss__')] }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{0.__class__}'|format(1) }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__ }}",
    "{{ lipsum.__globals__['os'] }}",
    "{{ request.application }}",
    "{{ namespace.__init__ }}",
    "{{ messages|map(attribute='__class__')|list }}",
    "{{ messages|map('attr', '__class__')|list }}",
    "{{ messages|selectattr('a.__class__')|list }}",
    "{{ (1).__class__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'x' as y %}",
    "{% from 'x' import y %}",
    "{% extends 'x' %}",
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% for i in range(99999999) %}x{% endfor %}",
    "{{ 'a' * 999999999 }}",
    "{{ messages.popen('id') }}",
    "{{ (messages[0])() }}",
    "{%- macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}",
]

# In the manner of Llama 3, Qwen 2.5, Mistral, Gemma and DeepSeek templates.
PUBLISHED = [
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}",
    "{%- if tools %}{{- '<|im_start|>system\\n' }}{%- if messages[0]['role'] == 'system' %}"
    "{{- messages[0]['content'] }}"
    '{%- endif %}{%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}{%- endif %}'
    '{%- for message in messages %}{%- if (message.role == "user") or (message.role == "assistant" and not '
    "message.tool_calls) %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    '{%- elif message.role == "tool" %}{%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}'
    "{{- '<|im_start|>user' }}{%- endif %}{%- endif %}{%- endfor %}",
    "{%- set ns = namespace(multi_step_tool=true, last=messages|length - 1) %}{%- for message in messages[::-1] %}"
    "{%- set index = (messages|length - 1) - loop.index0 %}{%- if ns.multi_step_tool and not "
    "(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}"
    "{%- set ns.last = index %}{%- endif %}{%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}"
    "{{ messages[index].content }}{%- endfor %}",
    "{% if (message['role'] == 'user') != (loop_index % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}"
    "{{ strftime_now('%d %B %Y') }}{% generation %}{{ message['content'] }}{% endgeneration %}",
    "{%- macro json_to_python_type(param) %}{{ param.type|default('any') }}{%- endmacro %}{%- for tool in tools %}"
    "{%- for name, param in tool.function.parameters.properties.items() %}"
    "{{ name ~ ': ' ~ json_to_python_type(param) }}"
    "{% if not loop.last %}, {% endif %}{%- endfor %}{% if tool.x is mapping %}{% continue %}{% endif %}{%- endfor %}",
]


def _config(template: object) -> bytes:
    return json.dumps({"chat_template": template}).encode()


@pytest.mark.row("A02", kind="R")
@pytest.mark.parametrize("template", ESCAPES)
def test_an_escape_is_refused_and_the_place_is_named(template: str) -> None:
    judged = judge(BytesSource("tokenizer_config.json", _config(template)), SCANNERS)
    assert judged.verdict is Verdict.REFUSED
    assert judged.findings[0].where.startswith("tokenizer_config.json:chat_template")


@pytest.mark.row("A02", kind="R")
@pytest.mark.parametrize("shape", [list, dict])
def test_every_template_of_several_is_judged(shape: type) -> None:
    named = {"default": PUBLISHED[0], "tool_use": ESCAPES[0]}
    value = named if shape is dict else [{"name": name, "template": text} for name, text in named.items()]
    judged = judge(BytesSource("tokenizer_config.json", _config(value)), SCANNERS)
    assert judged.verdict is Verdict.REFUSED
    assert "tool_use" in judged.findings[0].where


@pytest.mark.row("A02", kind="R")
@pytest.mark.parametrize("template", PUBLISHED)
def test_a_template_in_the_manner_of_published_models_is_clean(template: str) -> None:
    judged = judge(BytesSource("chat_template.jinja", template.encode()), SCANNERS)
    assert (judged.verdict, judged.findings) == (Verdict.CLEAN, ())


def test_a_template_that_calls_something_unknown_is_incomplete() -> None:
    judged = judge(BytesSource("chat_template.jinja", b"{{ frobnicate(messages) }}"), SCANNERS)
    assert judged.verdict is Verdict.INCOMPLETE


@pytest.mark.row("A02", kind="R")
@pytest.mark.parametrize("model", templates.PUBLISHED)
def test_the_template_of_a_model_family_is_clean(model: str) -> None:
    judged = judge(BytesSource("chat_template.jinja", templates.PUBLISHED[model].encode()), SCANNERS)
    assert (judged.verdict, judged.findings) == (Verdict.CLEAN, ())


@pytest.mark.row("A02", kind="R")
@pytest.mark.parametrize("order", templates.ORDERS)
def test_an_order_hidden_in_a_template_is_refused(order: str) -> None:
    for text in (
        order,
        "".join(f"{{{{ {part!r} }}}}" for part in (order[: len(order) // 2], order[len(order) // 2 :])),
    ):
        template = templates.QWEN + text
        judged = judge(BytesSource("chat_template.jinja", template.encode("utf-8")), SCANNERS)
        assert judged.verdict is Verdict.REFUSED


@pytest.mark.row("A02", kind="R")
@pytest.mark.parametrize("behaviour", templates.BEHAVIOURS)
def test_a_template_that_waits_or_never_ends_is_refused(behaviour: str) -> None:
    judged = judge(BytesSource("chat_template.jinja", (templates.LLAMA + behaviour).encode()), SCANNERS)
    assert judged.verdict is Verdict.REFUSED
