"""Rules about other things than the files of a model: data sets, private keys outside of a token, and Garrison itself.

Pages as those of the scanner's rules; `garrison explain` and the reference read both.
"""

from __future__ import annotations

from garrison.artifacts.scanners.rule import Rule

_STRAY = (
    "A private key outside of a token can be copied by whoever reads the place, and nobody notices. "
    "Nothing is signed while one is offered."
)
_OWN = "Whoever changes the code that decides, decides."
_REINSTALL = "install again from a wheel you trust: pip install --force-reinstall --no-deps garrison"
_LEAKED = "remove it, treat that key as leaked, and make one in the token: garrison key create NAME"

OTHER_RULES: dict[str, Rule] = {
    "dataset.rows.duplicates": Rule(
        "a data set with many repeated rows",
        "A model learns most from what it sees most. Repetition is the cheapest way to plant an answer.",
        "leave repeated rows out, or say in the model card why they are there",
    ),
    "dataset.rows.instructions": Rule(
        "rows that give orders to a model",
        "A model that is trained on them, or that retrieves them later, may follow them.",
        "look at these rows, and keep them only in data that is meant to teach refusing them",
    ),
    "dataset.rows.flipped-labels": Rule(
        "rows whose label is another one than in the version before",
        "Changed labels on unchanged rows are either a correction or a poisoning, and look the same.",
        "find out who changed these labels, and why, before a model is trained on them",
    ),
    "dataset.files.added": Rule(
        "files that the version before did not have",
        "New data is expected in a new version; this names it, so that somebody can say where it is from.",
        "compare the list with what was meant to be added",
    ),
    "key.stray.variable": Rule("a private key in a variable of the environment", _STRAY, _LEAKED),
    "key.stray.dotenv": Rule("a private key in a .env file", _STRAY, _LEAKED),
    "key.stray.file": Rule("a private key in a file below the data directory", _STRAY, _LEAKED),
    "key.stray.path": Rule("a private key file that was offered for signing", _STRAY, _LEAKED),
    "self.changed": Rule("a file of Garrison that is not what was installed", _OWN, _REINSTALL),
    "self.missing": Rule("a file of Garrison that is gone", _OWN, _REINSTALL),
    "self.extra": Rule("a file among Garrison's own that nobody installed", _OWN, _REINSTALL),
    "self.start": Rule(
        "code that runs at every start of Python",
        "A line in a .pth file, or a module called sitecustomize, runs before Garrison does and can change all of it.",
        "find out who wrote it; remove it when no package you installed brings it",
    ),
    "key.stray.incomplete": Rule(
        "a directory with too many files to search for private keys",
        "What was not searched cannot be called free of keys.",
        "move what does not belong there to another place",
    ),
}
