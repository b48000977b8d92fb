"""Writes harmless pickles of imbalanced-learn, category_encoders, CatBoost and hmmlearn, as `make_more.py` does.

Run by `statements.py` in an environment that has them; never part of the test suite.
"""

import inspect
import os
import pickle
import sys
import warnings

import numpy

warnings.filterwarnings("ignore")
out = sys.argv[1]
os.makedirs(out, exist_ok=True)
rng = numpy.random.RandomState(0)
X = rng.rand(60, 4)
y = (X[:, 0] > 0.5).astype(int)


def save(name, value, protocols=(2, 4)):
    for protocol in protocols:
        with open(f"{out}/{name}.p{protocol}.pkl", "wb") as stream:
            pickle.dump(value, stream, protocol=protocol)


def fitted(kind, *data, **options):
    """An estimator, fitted when the data suit it."""
    model = kind(**options)
    if "n_estimators" in model.get_params():
        model.set_params(n_estimators=3)
    try:
        model.fit(*data)
    except Exception as error:
        print(kind.__name__, repr(error)[:80], file=sys.stderr)
    return model


from imblearn.utils.testing import all_estimators

for name, kind in all_estimators():
    if all(p.default is not p.empty or p.kind > 2 for p in inspect.signature(kind).parameters.values()):
        save(f"imb_{name}", fitted(kind, X, y))
from imblearn import pipeline
from imblearn.over_sampling import SMOTE, SMOTENC
from sklearn.linear_model import LogisticRegression

save("imb_Pipeline", fitted(pipeline.Pipeline, X, y, steps=[("a", SMOTE()), ("m", LogisticRegression())]))
save("imb_SMOTENC", fitted(SMOTENC, X, y, categorical_features=[0]))

import category_encoders
import pandas

table = pandas.DataFrame({"a": list("xyz" * 20), "b": range(60)})
for name in category_encoders.__all__:
    kind = getattr(category_encoders, name)
    if inspect.isclass(kind):
        save(f"ce_{name}", fitted(kind, table, y, cols=["a"]))

from catboost import CatBoost, CatBoostClassifier, CatBoostRanker, CatBoostRegressor

quiet = {"iterations": 3, "verbose": 0, "allow_writing_files": False}
save("cat_CatBoost", CatBoost(quiet).fit(X, y))
save("cat_CatBoostClassifier", CatBoostClassifier(**quiet).fit(X, y))
save("cat_CatBoostRegressor", CatBoostRegressor(**quiet).fit(X, X[:, 1]))
save("cat_CatBoostRanker", CatBoostRanker(**quiet).fit(X, y, group_id=[0] * 60))

from hmmlearn import hmm

for name in ("GaussianHMM", "GMMHMM", "CategoricalHMM", "PoissonHMM", "MultinomialHMM"):
    save(
        f"hmm_{name}",
        fitted(getattr(hmm, name), (X * 9).astype(int) if name[0] in "CPM" else X, n_components=2),
    )
