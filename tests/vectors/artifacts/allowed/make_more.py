"""Writes harmless pickles of the standard library, scipy's distributions, torch's and torchvision's smaller parts.

Run by `statements.py` in an environment that has the frameworks, as `make_sklearn.py` is; never part of the test
suite. A statement that fails (a framework that is not installed) is skipped.
"""

import collections
import ipaddress
import math
import os
import pickle
import random
import re
import statistics
import sys

out = sys.argv[1]
os.makedirs(out, exist_ok=True)


def save(name, value, protocols=(2, 4)):
    for protocol in protocols:
        with open(f"{out}/{name}.p{protocol}.pkl", "wb") as stream:
            pickle.dump(value, stream, protocol=protocol)


ERRORS = [ArithmeticError, AssertionError, AttributeError, Exception, IndexError, KeyError, LookupError]
ERRORS += [NotImplementedError, OSError, OverflowError, RuntimeError, StopIteration, TypeError, ValueError]
ERRORS += [ZeroDivisionError]
save("errors", [kind("x") for kind in ERRORS])
save("functions", [len, abs, round, sum, any, all, str.lower, str.split, str.upper])
save(
    "math",
    [
        getattr(math, n)
        for n in "ceil cos exp expm1 fabs floor log log10 log1p log2 sin sqrt tan tanh".split()
    ],
)
save("users", [collections.UserDict(a=1), collections.UserList([1]), collections.UserString("a")])
ADDRESSES = ["10.0.0.0/8", "fe80::/10"]
save(
    "networks", [kind(text) for kind in (ipaddress.ip_network, ipaddress.ip_interface) for text in ADDRESSES]
)
save("others", [random.Random(3), re.RegexFlag.I, statistics.NormalDist(0, 1)])

import numpy as np

save("numpy_functions", [np.clip, np.nan_to_num, np.percentile, np.quantile, np.unique, np.diff, np.cumsum])
save("numpy_more", [np.argsort, np.sort, np.concatenate, np.zeros_like, np.ones_like, np.char.array(["a"])])
POLYNOMIALS = [np.polynomial.Polynomial, np.polynomial.Chebyshev, np.polynomial.Legendre]
POLYNOMIALS += [np.polynomial.Hermite, np.polynomial.HermiteE, np.polynomial.Laguerre]
save("polynomials", [kind([1, 2]) for kind in POLYNOMIALS])

import scipy.stats as stats

DISTRIBUTIONS = (stats.rv_continuous, stats.rv_discrete)
ALL = [each for each in vars(stats).values() if isinstance(each, DISTRIBUTIONS)]
save("distributions", [each for each in ALL if each.name != "levy_stable"])  # a module of its own

from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - makes the next import possible
from sklearn.impute import IterativeImputer

save("imputer", IterativeImputer().fit(np.array([[1.0, np.nan], [2.0, 3.0], [3.0, 4.0]])))

import torch
from torch import nn

layer = nn.Linear(2, 2)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
schedulers = torch.optim.lr_scheduler
torch.save(torch.float4_e2m1fn_x2, f"{out}/float4.pt")
torch.save(torch.optim.Muon([layer.weight], lr=0.1), f"{out}/muon.pt")
torch.save(torch.optim.SparseAdam(list(layer.parameters()), lr=0.1), f"{out}/sparse_adam.pt")
torch.save(schedulers.CosineAnnealingWarmRestarts(optimizer, 5), f"{out}/warm.pt")
torch.save(schedulers.PolynomialLR(optimizer), f"{out}/polynomial.pt")
steps = [schedulers.LinearLR(optimizer), schedulers.StepLR(optimizer, 1)]
torch.save(schedulers.SequentialLR(optimizer, steps, [2]), f"{out}/sequential.pt")
torch.save(schedulers.ChainedScheduler(steps), f"{out}/chained.pt")
torch.save(nn.AdaptiveLogSoftmaxWithLoss(4, 5, [2]), f"{out}/adaptive.pt")
torch.save(nn.utils.spectral_norm(nn.Linear(2, 2)), f"{out}/spectral.pt")

import torch.nn.utils.prune as prune

torch.save(prune.l1_unstructured(nn.Linear(2, 2), "weight", 0.5), f"{out}/l1.pt")
torch.save(prune.random_unstructured(nn.Linear(2, 2), "weight", 0.5), f"{out}/random.pt")
torch.save(prune.ln_structured(nn.Linear(2, 2), "weight", 0.5, n=2, dim=0), f"{out}/ln.pt")
torch.save(prune.random_structured(nn.Linear(2, 2), "weight", 0.5, dim=0), f"{out}/structured.pt")
torch.save(prune.identity(nn.Linear(2, 2), "weight"), f"{out}/identity.pt")
torch.save(prune.custom_from_mask(nn.Linear(2, 2), "weight", torch.ones(2, 2)), f"{out}/mask.pt")
twice = prune.l1_unstructured(prune.l1_unstructured(nn.Linear(2, 2), "weight", 0.5), "weight", 0.5)
torch.save(twice, f"{out}/twice.pt")

from torchvision import transforms

shapes = [
    transforms.CenterCrop(2),
    transforms.Pad(1),
    transforms.RandomCrop(2),
    transforms.RandomResizedCrop(2),
]
shapes += [transforms.RandomHorizontalFlip(), transforms.RandomRotation(3), transforms.RandomVerticalFlip()]
values = [
    transforms.ConvertImageDtype(torch.float),
    transforms.Grayscale(),
    transforms.Normalize([0.5], [0.5]),
]
values += [transforms.PILToTensor(), transforms.ToPILImage(), transforms.ToTensor(), transforms.Resize(4)]
torch.save(transforms.Compose(shapes + values), f"{out}/transforms.pt")
