"""YAML files: read by a strict recogniser, then every value judged as configuration, as JSON is.

Tags make objects of the loader's language. Those of YAML itself and of Python's plain values are harmless;
every other one is refused, `!!python/...` above all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from garrison.artifacts.scanners.base import Gap, Seen, Source, critical, high, shown
from garrison.artifacts.scanners.config_python import judge_environment, judge_mlmodel
from garrison.artifacts.scanners.config_rules import judge_config
from garrison.artifacts.scanners.strict_yaml import MAX_YAML, parse
from garrison.artifacts.scanners.yaml_values import AliasBomb, BadYaml

_NAME = re.compile(r".*\.(?:ya?ml|dvc)\Z|(?:MLmodel|registered_model_meta)\Z|dvc\.lock\Z", re.IGNORECASE)
_PLAIN = frozenset(
    f"!!{name}"
    for name in "str int float bool null seq map set omap pairs binary timestamp merge".split()  # noqa: SIM905 - a table of words
) | frozenset(
    f"!!python/{name}"
    for name in "none bool str unicode bytes int long float complex list tuple dict".split()  # noqa: SIM905 - a table of words
)
_CORE = re.compile(r"!<tag:yaml\.org,2002:([^>]*)>\Z")
_RAW_TAG = re.compile(
    rb"(?:^|[\s\-:\[,{?])(%TAG[^\n]{0,200}python/[^\s>]*"
    rb"|!(?:!|<tag:yaml\.org,2002:)python/(?:object|name|module|apply|new)[^\s>]*)",
    re.MULTILINE,
)
_RAW_KEY = re.compile(
    rb"^\s*(?:- )?[\"']?(?:_target_|class_path|auto_map|custom_pipelines?|trust_remote_code|loader_module"
    rb"|py/\w+)[\"']?\s*:",
    re.MULTILINE,
)
FIX_TAG = "write the value without a tag, or ask the author for a configuration in JSON"
FIX_SYNTAX = "write it as JSON, or with fewer features of YAML"


class Yaml:
    format = "yaml"

    def recognises(self, head: bytes, source: Source) -> bool:
        """By name: text has no magic number. `head` must be text, so that a renamed pickle is not YAML."""
        base = source.name.rsplit("/", 1)[-1]
        return _NAME.match(base) is not None and b"\0" not in head

    def scan(self, source: Source) -> Iterator[Seen]:
        if source.size > MAX_YAML:
            yield Gap("artifact.limit.size", f"more than {MAX_YAML} bytes of YAML", fix=FIX_SYNTAX)
            return
        data = source.read_at(0, source.size)
        try:
            values, tags = parse(data)
        except AliasBomb as error:
            yield high("artifact.yaml.bomb", str(error), fix=FIX_SYNTAX)
            return
        except BadYaml as error:
            yield Gap("artifact.yaml.syntax", f"YAML that is not understood: {error}", fix=FIX_SYNTAX)
            yield from _raw(data)
            return
        for tag in dict.fromkeys(tags):
            core = _CORE.match(tag)
            if (f"!!{core.group(1)}" if core else tag) not in _PLAIN and tag != "!":
                message = f"the tag {shown(tag)} makes an object of the loader's language"
                yield critical("artifact.yaml.tag", message, fix=FIX_TAG)
        for value in values:
            if isinstance(value, dict | list):
                yield from judge_config(value, source.name)
                yield from judge_mlmodel(value)
                yield from judge_environment(value)


def _raw(data: bytes) -> Iterator[Seen]:
    """What can be seen in a text that could not be read: another parser may get further."""
    tag = _RAW_TAG.search(data)
    if tag:
        message = f"the tag {shown(tag.group(1).decode('latin-1'))} makes an object of the loader's language"
        yield critical("artifact.yaml.tag", message, fix=FIX_TAG)
    elif _RAW_KEY.search(data):
        yield high("artifact.yaml.code", "a key names code that the loader would run", fix=FIX_TAG)
