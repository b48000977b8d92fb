"""Many shots: a made-up dialogue in one text, in which an assistant keeps saying yes, so that the next answer is yes.

Many-shot jailbreaking (Anil et al., 2024) needs no word of an order: only turns. What tells it from a transcript
or from examples of a task is that most answers begin with consent; what makes it an attack is what was consented to.
"""

from __future__ import annotations

import re
from itertools import islice, pairwise

from garrison.detect.base import TextFinding
from garrison.detect.normalise import View

RULE = "prompt.jailbreak.many-shot"
MIN_ANSWERS = 6  # below that it is an example or two, which the other detectors read as any text
MAX_READ = 65_536  # characters: what a long dialogue is shows in its first turns
MAX_TURNS = 512  # of one text; longer dialogues are judged by their first turns
CONSENTS = 0.5  # of the answers begin with a yes
HARMS = 0.25  # of the requests ask for harm, or tell the model to drop its rules
NOTED, BLOCKED = 0.5, 0.85
_OPENING = 48  # characters of an answer in which its yes stands
_ASKED = 240  # characters of a request that are read

# A name before a colon, where a line or a sentence begins; numbers and marks around it do not hide it.
_TURN = re.compile(
    r"""(?:^|[\n.!?…"'”)\]])[\s>*_#\-\[(<|]{0,6}(?:\d{1,4}[.):]?\s{0,2})?
    (?:(?P<asks>user|human|person|customer|student|question|prompt|input|me|q|you|usuario|utilisateur|benutzer|nutzer|
        mensch|frage|pregunta|utente|usuário)
      |(?P<answers>assistant|ai|chatbot|bot|model|chatgpt|gpt|claude|gemini|llm|answer|response|output|a|asistente|
        assistente|antwort|respuesta|réponse|reponse|risposta|ki|ia))
    [\s*_\])>|#-]{0,4}\d{0,4}\s{0,2}[:：>]""",
    re.IGNORECASE | re.VERBOSE,
)
_YES = re.compile(
    r"^\W{0,4}(?:sure|of\s+course|certainly|absolutely|yes\b|ok(?:ay)?\b|gladly|happy\s+to|no\s+problem|here(?:'s|’s|\s+is|"
    r"\s+are)|to\s+(?:make|build|do|create|hack|get|break)\b|(?:the\s+)?first,|step\s+1|1[.)]|you\s+(?:can|will\s+need|should|"
    r"need)\b|claro|por\s+supuesto|natürlich|gerne|klar\b|bien\s+sûr|volontiers|certo|certamente)",
    re.IGNORECASE,
)
_HARM = re.compile(
    r"\b(?:bombs?|explosives?|detonat\w*|grenades?|molotov|weapons?|firearms?|silencers?|untraceable|ghost\s+gun|meth|"
    r"methamphetamine|fentanyl|heroin|cocaine|drugs?\s+at\s+home|poisons?|ricin|sarin|nerve\s+agent|anthrax|toxins?|"
    r"kill|murder|assassinat\w*|kidnap\w*|strangle|torture|stab|hurt\s+(?:someone|my|a)|self-harm|suicide|"
    r"steal|shoplift\w*|burgl\w*|rob\b|pick\s+(?:a|the)\s+locks?|break\s+into|hot-?wire|counterfeit\w*|forge\w*|launder\w*|"
    r"evade\s+tax\w*|blackmail\w*|extort\w*|bribe\w*|stalk\w*|dox\w*|malware|ransomware|keylogg\w*|rootkits?|botnets?|"
    r"phish\w*|ddos|hack\w*|crack\s+(?:a|the|someone)|brute[-\s]?force|exploit\s+a|hate\s+speech|racist|slurs?|"
    r"child\s+abuse|trafficking|without\s+(?:being|getting)\s+caught|illegal\w*|fake\s+(?:id|ids|passport|money|"
    r"prescription)s?|bypass|override|ignore\s+(?:your|all|the)|no\s+(?:limits|rules|restrictions)|jailbreak|system\s+prompt|"
    r"guidelines|uncensored|bombe\w*|sprengst\w*|waffen?|bomba|arma|armes?|bombes?|poison)\b",
    re.IGNORECASE,
)


def many_shot(view: View) -> TextFinding | None:
    """What one reading of a text is as a dialogue: nothing, worth noting, or an attack."""
    text = view.text[:MAX_READ]
    turns = list(islice(_TURN.finditer(text), MAX_TURNS))
    if len(turns) < 2 * MIN_ANSWERS - 1:
        return None
    asked, answered = list[str](), list[str]()
    for turn, after in pairwise((*turns, None)):
        end = len(text) if after is None else after.start()
        if turn is not None and turn.group("answers"):
            answered.append(text[turn.end() : min(end, turn.end() + _OPENING)])
        elif turn is not None:
            asked.append(text[turn.end() : min(end, turn.end() + _ASKED)])
    if len(answered) < MIN_ANSWERS or not asked:
        return None
    if sum(bool(_YES.match(one.lstrip())) for one in answered) < CONSENTS * len(answered):
        return None
    harms = sum(bool(_HARM.search(one)) for one in asked) >= HARMS * len(asked)
    start, stop = view.span(turns[0].start(), len(text))
    return TextFinding(RULE, "jailbreak", BLOCKED if harms else NOTED, start, stop, view.name)
