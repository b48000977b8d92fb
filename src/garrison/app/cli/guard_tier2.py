"""The second tier at the command line: `--tier2 FOLDER --digest sha256:...` of commands that need no server."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from garrison.app import tier2
from garrison.detect.base import Direction
from garrison.detect.inspect import Inspector
from garrison.detect.own import NOTHING_OWN, Own
from garrison.detect.tier2 import BLOCK_AT, MAX_SECONDS, Guard, channel_of
from garrison.detect.tier2_ask import BothTiers, guards
from garrison.detect.tier2_released import released


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("second tier", "a classifier that is asked where the first is in doubt")
    group.add_argument("--tier2", type=Path, metavar="FOLDER", help="model.onnx, tokenizer.json, config.json")
    group.add_argument("--digest", default="", metavar="SHA256", help="of the folder")
    group.add_argument("--no-tier2", action="store_true", help="not even the one that comes with Garrison")


@contextmanager
def opened(
    args: argparse.Namespace,
    directions: Collection[Direction],
    cache: Path | None,
    *,
    block_at: float = BLOCK_AT,
    own: Own = NOTHING_OWN,
) -> Iterator[Inspector | BothTiers]:
    """An inspector, with the second tier that was asked for or comes along; its process ends with the block.

    Raises what `tier2.check` and `tier2.started` raise.
    """
    chosen: list[Mapping[str, Any]] = []
    if args.tier2 is not None:
        chosen = [tier2.check(args.tier2.absolute(), args.digest)]
    elif not args.no_tier2:
        chosen = [tier2.known(one) for one in released()]
    wanted = {channel_of(way) for way in directions if way is not Direction.OUTPUT}
    chosen = [one for one in chosen if wanted & set(one["channels"])]
    if not chosen:
        yield Inspector(directions=directions, cache=cache, block_at=block_at, own=own)
        return
    with ExitStack() as ending, tempfile.TemporaryDirectory(prefix="tier2-") as place:
        Path(place).chmod(0o711)
        asked = {}
        level = tier2.strongest()
        for number, facts in enumerate(chosen):
            side = tier2.started(facts, Path(place) / str(number), level)
            ending.callback(side.stop)
            asked.update(dict.fromkeys(facts["channels"], side.asked))
        yield BothTiers(
            Inspector(directions=directions, cache=cache, asks=_patient(guards(asked, block_at)), own=own),
            asked,
        )


def _patient(asks: Mapping[str, Guard]) -> dict[str, Guard]:
    """A filter on a busy machine is late rather than undecided: nobody's request waits for it."""
    return {channel: replace(guard, seconds=MAX_SECONDS) for channel, guard in asks.items()}
