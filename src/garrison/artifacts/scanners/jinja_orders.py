"""Hidden orders in a chat template: text that goes to the model with every conversation, read as a person would.

Published templates do give orders (a default persona, how to call tools). What none of them does is hide from
the user, cancel the instructions that others gave, send data away, ask for harmful code, or change what it
says by a word in the conversation or by the date. Only such orders are found here; the words of a template are
otherwise its author's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from jinja2 import nodes

from garrison.artifacts.scanners.base import high, shown
from garrison.core.finding import Finding

MAX_TEXT = 1 << 18  # characters of one template's texts that are read; the longest have some 20,000
SHOWN = 60

# Characters that a person does not see and a model reads: tags, directions, zero width.
_INVISIBLE = re.compile(
    "[\U000e0000-\U000e007f\u202a-\u202e\u2066-\u2069\u200b\u2060\u2062-\u2064\ufeff\u00ad]"
)
_WHO = r"(?:the |any )?(?:user|human|customer|anyone|person|operator|developer)s?"
_ORDERS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (what, re.compile(pattern, re.IGNORECASE))
    for what, pattern in (
        (
            "cancels instructions that others gave",
            r"\b(?:ignore|disregard|forget|override|bypass)\b (?:\w+ ){0,3}?(?:previous|prior|above|earlier|preceding"
            r"|existing|original|system|user'?s?|safety|other)(?: \w+){0,2}?"
            r" (?:instruction|prompt|message|rule|guideline|direction|command|request|question|polic|input)",
        ),
        (
            "hides from the user",
            rf"\b(?:do not|don'?t|never|without)\b(?: \w+)? (?:tell|inform|alert|notif|warn|let|ask)\w* {_WHO}\b"
            r"|\b(?:do not|don'?t|never|without)\b(?: \w+)? (?:mention|reveal|disclos|admit|acknowledg|expos)\w*"
            r" (?:this|these|that|any of|the|your|or)(?: \w+){0,3}?"
            r" (?:instruction|rule|behaviou?r|order|directive|trigger|backdoor|link|payload|exist)"
            r"|\b(?:secretly|covertly|silently|stealthily|surreptitiously|unbeknownst)\b",
        ),
        (
            "sends data away",
            r"\b(?:send|post|upload|forward|transmit|exfiltrat\w*|leak|report|submit|append|copy)\b[^.\n]{0,80}"
            r"(?:https?://|\bwebhook\b|[\w.]+@[\w-]+\.\w)|!\[[^\]\n]{0,80}\]\(\s*https?://"
            r"|\bexfiltrat\w+",
        ),
        (
            "advertises or links",
            r"\b(?:always|must|every)\b[^.\n]{0,60}\b(?:recommend|promote|advertise|link|insert|include|visit|direct)\w*\b"
            r"[^.\n]{0,80}(?:https?://|www\.|\w\.(?:com|net|org|io|ru|xyz|example)\b)",
        ),
        (
            "asks for harmful code or commands",
            r"\b(?:insert|include|add|write|generate|suggest|output|use|embed|append|introduce|plant)\w*\b[^.\n]{0,60}"
            r"(?:\bbackdoor|\bmalicious|\bmalware|\bvulnerabilit|\brootkit|\bkeylogger|reverse shell)"
            r"|os\.system\s*\(|\bsubprocess\.|\brm -rf\b|\bcurl\b[^\n]{0,80}\|\s*(?:ba|z)?sh\b|powershell(?:\.exe)? -"
            r"|__import__\s*\(",
        ),
        (
            "overrules the conversation",
            r"\b(?:regardless of|no matter) (?:what|which|how|the|any)(?: \w+){0,3}? ?"
            r"(?:user|human|conversation|question|request|asked|asks|says|prompt|input)\b"
            r"|\b(?:safety|ethic\w*|content|moral)\b[^.\n]{0,30}"
            r"\b(?:do(?:es)? not apply|disabled|turned off|lifted|void)\b"
            r"|\b(?:disable|remove|drop|turn off)\b (?:\w+ ){0,2}?(?:safety|guardrail|filter|restriction|safeguard)"
            r"|\byou are now (?:dan\b|jailbroken|unrestricted|uncensored|evil|free of)"
            r"|\bdeveloper mode\b|\bno restrictions\b",
        ),
    )
)
_WORDS = re.compile(
    r"[A-Za-z][A-Za-z0-9 ,.'?!-]{2,}\Z"
)  # not a control token: those have brackets or slashes
_CONTENT = re.compile(r"content|text|prompt|query|question|last|user_|input", re.IGNORECASE)


def orders(tree: nodes.Template, fix: str) -> Iterator[Finding]:
    """Findings about what the template tells the model, and about when."""
    texts = [text for text in _texts(tree) if text.strip()]
    joined = " ".join(texts)[:MAX_TEXT]
    if found := _INVISIBLE.search(joined):
        message = f"text with the invisible character U+{ord(found[0]):04X}"
        yield high("artifact.template.hidden", message, "", fix)
    for what, pattern in _ORDERS:
        for text in (_plain(joined), _plain("".join(texts)[:MAX_TEXT])):
            if match := pattern.search(text):
                excerpt = shown(text[max(0, match.start() - 10) : match.start() + SHOWN], 90)
                yield high("artifact.template.order", f"an order that {what}: {excerpt}", "", fix)
                break
    yield from _triggers(tree, fix)


def _texts(tree: nodes.Node) -> Iterator[str]:
    """Every constant text of the template, in the order of the source."""
    stack: list[nodes.Node] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, nodes.TemplateData):
            yield node.data
        elif isinstance(node, nodes.Const) and isinstance(node.value, str):
            yield node.value
        stack.extend(reversed(list(node.iter_child_nodes())))


def _plain(text: str) -> str:
    """One line without invisible characters, with letters that only look different made the same."""
    return re.sub(r"\s+", " ", _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)))


def _triggers(tree: nodes.Template, fix: str) -> Iterator[Finding]:
    """A word in the conversation, or the date, that changes what the template says."""
    branches: list[nodes.If | nodes.CondExpr] = [*tree.find_all(nodes.If), *tree.find_all(nodes.CondExpr)]
    for branch in branches:
        line = f"line {branch.lineno}"
        own = [branch.test] if isinstance(branch.test, nodes.Compare) else []
        for compare in (*own, *branch.test.find_all(nodes.Compare)):
            if _asks_the_date(compare):
                yield high(
                    "artifact.template.trigger", "the template changes what it says by the date", line, fix
                )
            word = _trigger_word(compare)
            if word and _says_something(branch):
                message = f"the template says something else when the conversation has {shown(word)}"
                yield high("artifact.template.trigger", message, line, fix)


def _asks_the_date(compare: nodes.Compare) -> bool:
    return any(
        isinstance(call.node, nodes.Name) and call.node.name == "strftime_now"
        for call in compare.find_all(nodes.Call)
    )


def _trigger_word(compare: nodes.Compare) -> str:
    """`'word' in message.content`: the word, when it is one of a language and not a control token."""
    for operand in compare.ops:
        value = compare.expr.value if isinstance(compare.expr, nodes.Const) else None
        if (
            operand.op == "in"
            and isinstance(value, str)
            and _WORDS.match(value)
            and _is_content(operand.expr)
        ):
            return value
    return ""


def _is_content(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Getattr):
        return bool(_CONTENT.search(node.attr))
    if isinstance(node, nodes.Getitem):
        key = node.arg.value if isinstance(node.arg, nodes.Const) else ""
        return isinstance(key, str) and bool(_CONTENT.search(key))
    if isinstance(node, nodes.Filter):
        return node.node is not None and _is_content(node.node)
    if isinstance(node, nodes.Call):  # message.content.lower()
        return isinstance(node.node, nodes.Getattr) and _is_content(node.node.node)
    return isinstance(node, nodes.Name) and bool(_CONTENT.search(node.name))


def _says_something(branch: nodes.If | nodes.CondExpr) -> bool:
    """The branch has a text of several words."""
    parts = branch.body if isinstance(branch, nodes.If) else [branch.expr1]
    text = " ".join(text for part in parts for text in _texts(part))
    return len(re.findall(r"[A-Za-z]{3,}", text)) >= 3
