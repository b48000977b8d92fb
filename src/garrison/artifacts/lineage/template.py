"""The commented `lineage.toml` that `garrison lineage template` prints."""

from __future__ import annotations

TEMPLATE = """\
# How this model was made. Give it to: garrison model publish DIR ... --lineage lineage.toml
# Paths count from this file. Every local path is hashed when you publish; a digest that you
# give is compared with what lies there, and another one is refused. What has no digest is
# shown as a gap. Keys that are not here are refused; leave out what you do not know.

# builder = "https://ci.example.org/training"  # what trained it: declared, not proved
# started = 2026-11-20T09:00:00Z
# finished = 2026-11-20T11:30:00Z

[[data]]                            # once for each source
path = "data/train.csv"             # a file or a directory
# dataset = "reviews@2"             # instead: a registered data set
# uri = "s3://bucket/train.csv"     # where it came from
# sha256 = "<64 hexadecimal digits>"
# facts = { rows = 10000, licence = "CC-BY-4.0" }

[[preprocessing]]
path = "prepare.py"

[[run]]                             # a training run
name = "run-17"
# path = "logs/run-17.log"
parameters = { epochs = 3, learning_rate = 0.001, seed = 7 }
metrics = { loss = 0.21 }

[[evaluation]]
path = "evaluation.json"
metrics = { accuracy = 0.94 }

# [[base_model]]
# model = "minilm@1"                # a published version; or path, or uri with sha256

# [[code]]
# uri = "https://git.example.org/fraud.git"
# commit = "<40 hexadecimal digits>"
"""
