"""Writes harmless torch files of every kind into a folder: zip, legacy, plain pickle, TorchScript.

Run by `statements.py` in an environment that has torch; never part of the test suite.
"""

import os
import pickle
import sys
import warnings

warnings.filterwarnings("ignore")
out = sys.argv[1]
os.makedirs(out, exist_ok=True)
import argparse
import datetime

import numpy as np
import torch
import torch.nn as nn


def save(n, o):
    for legacy in (False, True):
        try:
            torch.save(o, f"{out}/{n}.{'pth' if legacy else 'pt'}", _use_new_zipfile_serialization=not legacy)
        except Exception as e:
            print("cannot", n, legacy, repr(e)[:100])
    try:
        open(f"{out}/{n}.pkl", "wb").write(pickle.dumps(o))
    except Exception as e:
        print("nopickle", n, repr(e)[:80])


m = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 26 * 26, 10))
save("sd", m.state_dict())
for oc in (
    "SGD",
    "Adam",
    "AdamW",
    "RMSprop",
    "Adagrad",
    "Adadelta",
    "NAdam",
    "RAdam",
    "Adamax",
    "LBFGS",
    "ASGD",
    "Rprop",
    "Adafactor",
):
    try:
        o = getattr(torch.optim, oc)(m.parameters(), lr=0.01)

        def cl():
            o.zero_grad()
            l = m(torch.rand(2, 1, 28, 28)).sum()
            l.backward()
            return l

        o.step(cl)
        s = torch.optim.lr_scheduler.StepLR(o, 1)
        save(
            "ck_" + oc,
            {
                "epoch": 3,
                "model": m.state_dict(),
                "optimizer": o.state_dict(),
                "sched": s.state_dict(),
                "loss": 0.1,
                "args": argparse.Namespace(lr=0.1),
                "rng": torch.get_rng_state(),
                "np": np.random.get_state(),
                "best": np.float64(1.0),
                "when": datetime.datetime.now(),
            },
        )
        save("opt_" + oc, o)
        save("sch_" + oc, s)
    except Exception as e:
        print(oc, repr(e)[:80])
T = {}
for d in (
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "complex64",
    "complex128",
    "complex32",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
):
    try:
        T[d] = torch.zeros(3, dtype=getattr(torch, d))
        save("t_" + d, T[d])
    except Exception as e:
        print(d, e)
save(
    "dtypes",
    [
        torch.float32,
        torch.device("cpu"),
        torch.Size([1, 2]),
        torch.strided,
        torch.sparse_coo,
        torch.int8,
        torch.per_tensor_affine,
        torch.contiguous_format,
        torch.channels_last,
        torch.Generator() if 0 else 1,
    ],
)
save(
    "sparse",
    [
        torch.eye(3).to_sparse(),
        torch.eye(3).to_sparse_csr(),
        torch.eye(4).to_sparse_csc(),
        torch.eye(4).to_sparse_bsr((2, 2)),
    ],
)
save(
    "q",
    [
        torch.quantize_per_tensor(torch.rand(4), 0.1, 0, torch.quint8),
        torch.quantize_per_channel(
            torch.rand(2, 2), torch.tensor([0.1, 0.1]), torch.tensor([0, 0]), 0, torch.qint8
        ),
    ],
)
save(
    "views",
    [
        torch.rand(4, 4).t(),
        torch.rand(4, 4)[1:],
        torch.rand(3).expand(2, 3),
        torch.rand(2, 2, dtype=torch.cfloat).conj(),
        torch.rand(2).neg(),
        torch.empty(0),
        torch.tensor(1.0),
    ],
)
save(
    "param",
    [
        nn.Parameter(torch.rand(2)),
        nn.Buffer(torch.rand(2)) if hasattr(nn, "Buffer") else 0,
        torch.rand(2, requires_grad=True),
    ],
)
save("meta", torch.empty(3, device="meta"))
save("storage", [torch.rand(3).untyped_storage(), torch.FloatStorage([1.0])])
try:
    save("nested", torch.nested.nested_tensor([torch.rand(2), torch.rand(3)]))
except Exception as e:
    print(e)
p = torch.nn.Parameter(torch.rand(2))
p.tag = "x"
save("paramstate", p)
t = torch.rand(2)
t.note = "y"
save("tstate", t)
from torch.nn.utils import parametrizations, rnn

save("packed", rnn.pack_sequence([torch.rand(3), torch.rand(2)]))
skip = set()
args = {"Linear": (3, 3), "Conv2d": (1, 2, 3)}
import inspect

for n in dir(nn):
    C = getattr(nn, n)
    if not (inspect.isclass(C) and issubclass(C, nn.Module)) or n in ("Module", "Container"):
        continue
    for a in (
        (),
        (3,),
        (3, 3),
        (4, 2, 3),
        (1, 2, 3),
        (2, 4),
        (2, 1, 1),
        ([4],),
        (nn.TransformerEncoderLayer(4, 2), 1),
    ):
        try:
            o = C(*a)
            save("mod_" + n, o)
            break
        except Exception:
            pass
    else:
        print("nomod", n)
save("seq", m)
save(
    "lst",
    nn.ModuleDict(
        {
            "a": nn.ModuleList([nn.Linear(2, 2)]),
            "p": nn.ParameterList([nn.Parameter(torch.rand(2))]),
            "d": nn.ParameterDict({"x": nn.Parameter(torch.rand(1))}),
        }
    ),
)
for w in ("weight_norm", "spectral_norm", "orthogonal"):
    try:
        save("par_" + w, getattr(parametrizations, w)(nn.Linear(3, 3)))
    except Exception as e:
        print(w, repr(e)[:90])
try:
    save("wn", torch.nn.utils.weight_norm(nn.Linear(3, 3)))
except Exception as e:
    print(e)
try:
    save("qdyn", torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 3)), {nn.Linear}))
except Exception as e:
    print(e)
save("distr", torch.distributions.Normal(0.0, 1.0))
try:
    save("swa", torch.optim.swa_utils.AveragedModel(m))
    save("scaler", torch.amp.GradScaler("cpu").state_dict())
except Exception as e:
    print(e)
save("ds", torch.utils.data.TensorDataset(torch.rand(2, 2)))


# torchscript
class Net(nn.Module):
    def __init__(s):
        super().__init__()
        s.l = nn.Linear(4, 4)
        s.e = nn.Embedding(10, 4)
        s.r = nn.GRU(4, 4)
        s.n = nn.LayerNorm(4)

    def forward(s, x: torch.Tensor, flag: bool = False) -> torch.Tensor:
        y = s.e(x)
        o, h = s.r(y)
        if flag:
            o = torch.relu(o)
        for i in range(2):
            o = s.n(s.l(o)) + o
        return torch.softmax(o, -1).mean()


torch.jit.script(Net()).save(f"{out}/ts_script.pt")
torch.jit.trace(m, torch.rand(1, 1, 28, 28)).save(f"{out}/ts_trace.pt")
torch.jit.trace(nn.TransformerEncoderLayer(8, 2, batch_first=True).eval(), torch.rand(1, 3, 8)).save(
    f"{out}/ts_tf.pt"
)
torch.jit.script(nn.LSTM(4, 4)).save(f"{out}/ts_lstm.pt")
torch.jit.freeze(torch.jit.script(m.eval())).save(f"{out}/ts_frozen.pt")
for n in ("GRU", "MultiheadAttention"):
    a = (4, 4) if n == "GRU" else (4, 2)
    try:
        torch.jit.script(getattr(nn, n)(*a)).save(f"{out}/ts_{n}.pt")
    except Exception as e:
        print(n, repr(e)[:100])


class S(nn.Module):
    def forward(s, x: torch.Tensor, names: list[str], d: dict[str, int]) -> tuple[str, torch.Tensor]:
        try_ = ""
        for n in names:
            try_ += n.upper().strip().replace("A", "b")
        if x.size(0) > 3:
            raise ValueError("bad size")
        for k, v in d.items():
            x = x + v
        x = torch.nn.functional.interpolate(x, scale_factor=2.0)
        x = torch.fft.rfft(x).abs()
        x = torch.linalg.norm(x, dim=-1)
        x = torch.special.expit(x)
        assert len(names) > 0
        return try_ + f"{len(names)}", x.sort()[0].cumsum(0)


torch.jit.script(S()).save(f"{out}/ts_str.pt")
print("files", len(os.listdir(out)))
