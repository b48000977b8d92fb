"""Writes the training arguments of transformers, as its trainer does, into a folder."""

import os
import sys

out = sys.argv[1]
os.makedirs(out, exist_ok=True)
import torch
import transformers
from transformers import Seq2SeqTrainingArguments, TrainingArguments

torch.save(TrainingArguments("/tmp/garrison-training", use_cpu=True), out + "/training_args.bin")
torch.save(
    Seq2SeqTrainingArguments(
        "/tmp/garrison-training", use_cpu=True, lr_scheduler_type="cosine", optim="adafactor"
    ),
    out + "/training_args2.bin",
)
print(transformers.__version__)
