"""Writes harmless pickles of scikit-learn, numpy, pandas, scipy, joblib and the boosters into a folder.

Run by `statements.py` in an environment that has the frameworks; never part of the test suite. A statement that
fails (an estimator that another version lacks) is skipped.
"""

import os
import pickle
import sys
import time
import warnings

warnings.filterwarnings("ignore")
out = sys.argv[1]
os.makedirs(out, exist_ok=True)
import joblib
import numpy as np
import scipy.sparse as sp
from sklearn.utils import all_estimators

rng = np.random.RandomState(0)
X = np.abs(rng.rand(40, 5))
y = (X[:, 0] > 0.5).astype(int)
yr = X[:, 0] * 2 + X[:, 1]
Y2 = np.c_[y, 1 - y]
texts = ["some words here %d" % i for i in range(40)]


def save(name, obj, protos=(2, 4, 5), jl=False):
    for p in protos:
        try:
            data = pickle.dumps(obj, protocol=p)
        except Exception as e:
            print("cannot", name, p, repr(e)[:80])
            return
        open(f"{out}/{name}.p{p}.pkl", "wb").write(data)
    if jl:
        joblib.dump(obj, f"{out}/{name}.joblib")


from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier

special = {
    "ColumnTransformer": lambda C: C(
        [("a", __import__("sklearn.preprocessing").preprocessing.StandardScaler(), [0, 1])],
        remainder="passthrough",
    ),
    "Pipeline": lambda C: C(
        [
            ("s", __import__("sklearn.preprocessing").preprocessing.StandardScaler()),
            ("m", LogisticRegression()),
        ]
    ),
    "FeatureUnion": lambda C: C([("s", __import__("sklearn.preprocessing").preprocessing.StandardScaler())]),
    "GridSearchCV": lambda C: C(LogisticRegression(), {"C": [0.1, 1]}, cv=2),
    "RandomizedSearchCV": lambda C: C(
        LogisticRegression(), {"C": __import__("scipy.stats").stats.uniform(0, 1)}, n_iter=2, cv=2
    ),
    "HalvingGridSearchCV": lambda C: C(LogisticRegression(), {"C": [0.1, 1]}, cv=2),
    "HalvingRandomSearchCV": lambda C: C(
        LogisticRegression(), {"C": __import__("scipy.stats").stats.loguniform(0.1, 1)}, cv=2
    ),
    "StackingClassifier": lambda C: C([("a", LogisticRegression()), ("b", DecisionTreeClassifier())], cv=2),
    "StackingRegressor": lambda C: C([("a", Ridge()), ("b", LinearRegression())], cv=2),
    "VotingClassifier": lambda C: C([("a", LogisticRegression()), ("b", DecisionTreeClassifier())]),
    "VotingRegressor": lambda C: C([("a", Ridge()), ("b", LinearRegression())]),
    "SparseCoder": lambda C: C(np.eye(5)),
    "FunctionTransformer": lambda C: C(np.log1p),
}
os.environ["X"] = "1"
for name, C in all_estimators():
    t = time.time()
    try:
        if name in special:
            e = special[name](C)
        else:
            try:
                e = C()
            except TypeError:
                kw = {}
                import inspect

                ps = inspect.signature(C).parameters
                if "estimators" in ps:
                    continue
                k = "estimator" if "estimator" in ps else "base_estimator"
                e = C(Ridge() if "Regress" in name else LogisticRegression())
        for par, v in (("n_estimators", 3), ("max_iter", 5), ("n_components", 2), ("cv", 2)):
            if par in e.get_params() and name not in special:
                try:
                    e.set_params(**{par: v})
                except Exception:
                    pass
        ok = False
        for a in (
            (X, y),
            (X, yr),
            (X, Y2),
            (X,),
            (X[:, 0], yr),
            (y,),
            (texts,),
            (texts, y),
            ([{"a": 1, "b": 2}] * 4,),
            (X, X[:, :2]),
            (np.eye(5),),
            ([[1, 2], [3]],),
        ):
            try:
                e.fit(*a)
                ok = True
                break
            except Exception as ex:
                last = ex
        save(("fit_" if ok else "raw_") + name, e, jl=ok)
        if not ok:
            print("unfit", name, repr(last)[:100])
    except Exception as ex:
        print("skip", name, repr(ex)[:100])
    if time.time() - t > 8:
        print("slow", name)
from sklearn import datasets, ensemble, metrics, neighbors, svm
from sklearn import gaussian_process as gp
from sklearn import model_selection as ms
from sklearn.gaussian_process import kernels as K

save(
    "gp_kernels",
    gp.GaussianProcessRegressor(
        K.ConstantKernel() * K.RBF()
        + K.WhiteKernel()
        + K.Matern() * K.RationalQuadratic()
        + K.ExpSineSquared()
        + K.DotProduct(),
        optimizer=None,
    ).fit(X, yr),
)
for l in ("squared_error", "absolute_error", "poisson", "quantile", "gamma"):
    try:
        save(
            "hgb_" + l,
            ensemble.HistGradientBoostingRegressor(
                loss=l, max_iter=3, **({"quantile": 0.5} if l == "quantile" else {})
            ).fit(X, yr + 1),
            jl=True,
        )
    except Exception as ex:
        print(ex)
for l in ("squared_error", "absolute_error", "huber", "quantile"):
    try:
        save("gbr_" + l, ensemble.GradientBoostingRegressor(loss=l, n_estimators=3).fit(X, yr), jl=True)
    except Exception as ex:
        print(ex)
for l in ("log_loss", "exponential"):
    save("gbc_" + l, ensemble.GradientBoostingClassifier(loss=l, n_estimators=3).fit(X, y))
save("gbc_multi", ensemble.GradientBoostingClassifier(n_estimators=3).fit(X, (X[:, 0] * 3).astype(int)))
save(
    "hgbc_multi",
    ensemble.HistGradientBoostingClassifier(max_iter=3, early_stopping=True).fit(
        X, (X[:, 0] * 3).astype(int)
    ),
)
from sklearn.linear_model import SGDClassifier

for l in (
    "hinge",
    "log_loss",
    "modified_huber",
    "squared_hinge",
    "perceptron",
    "squared_error",
    "huber",
    "epsilon_insensitive",
    "squared_epsilon_insensitive",
):
    save("sgd_" + l, SGDClassifier(loss=l).fit(X, y))
for c in ("gini", "entropy", "log_loss"):
    save("tree_" + c, DecisionTreeClassifier(criterion=c, random_state=np.random.RandomState(1)).fit(X, y))
for met in (
    "euclidean",
    "manhattan",
    "chebyshev",
    "minkowski",
    "haversine",
    "canberra",
    "braycurtis",
    "hamming",
    "jaccard",
    "dice",
    "rogerstanimoto",
    "russellrao",
    "sokalsneath",
    "seuclidean",
    "mahalanobis",
):
    for algo in ("kd_tree", "ball_tree", "brute"):
        kw = (
            {"metric_params": {"V": np.ones(5)}}
            if met == "seuclidean"
            else {"metric_params": {"VI": np.eye(5)}}
            if met == "mahalanobis"
            else {}
        )
        XX = X[:, :2] if met == "haversine" else X
        try:
            save(
                f"nn_{met}_{algo}",
                neighbors.NearestNeighbors(metric=met, algorithm=algo, **kw).fit(XX),
                protos=(4,),
                jl=True,
            )
        except Exception:
            pass
from sklearn.feature_selection import (
    SelectKBest,
    chi2,
    f_classif,
    f_regression,
    mutual_info_classif,
)

for f in (chi2, f_classif, f_regression, mutual_info_classif):
    save("skb_" + f.__name__, SelectKBest(f, k=2).fit(X, y))
for s in ("accuracy", "f1", "roc_auc", "neg_mean_squared_error", "r2", "neg_log_loss"):
    try:
        save("scorer_" + s, metrics.get_scorer(s))
        save(
            "gs_" + s,
            ms.GridSearchCV(
                RandomForestClassifier(3), {"max_depth": [1, 2]}, scoring=s, cv=ms.StratifiedKFold(2)
            ).fit(X, y),
            jl=True,
        )
    except Exception as ex:
        print(s, repr(ex)[:80])
save("make_scorer", metrics.make_scorer(metrics.fbeta_score, beta=2))
for n in ("load_iris", "load_wine", "load_diabetes", "load_breast_cancer", "load_digits"):
    save("ds_" + n, getattr(datasets, n)(), protos=(4,), jl=n == "load_iris")
from sklearn.compose import (
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    OneHotEncoder,
    StandardScaler,
)

save(
    "tfidf_pipe",
    make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression()).fit(texts, y),
    jl=True,
)
save("ttr", TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1).fit(X, yr))
for sv in ("SVC", "SVR", "NuSVC", "LinearSVC", "OneClassSVM"):
    save("svm_" + sv, getattr(svm, sv)().fit(X, y))
try:
    import pandas as pd

    df = pd.DataFrame(
        {
            "a": [1.0, 2, 3] * 4,
            "b": ["x", "y", None] * 4,
            "c": pd.Categorical(["u", "v", "u"] * 4),
            "d": pd.date_range("2020-01-01", periods=12, tz="UTC"),
            "e": pd.array([1, None, 3] * 4, dtype="Int64"),
            "f": pd.array(["a", "b", None] * 4, dtype="string"),
            "g": pd.array([True, None, False] * 4, dtype="boolean"),
            "h": pd.timedelta_range("1D", periods=12),
            "i": pd.period_range("2020-01", periods=12, freq="M"),
            "j": pd.interval_range(0, 12),
            "k": pd.arrays.SparseArray([0, 0, 1] * 4),
            "l": pd.array([1.5, None, 2] * 4, dtype="Float32"),
        }
    )
    save("df_all", df, jl=True)
    for c in df.columns:
        save("ser_" + c, df[c])
        save("idx_" + c, df.set_index(c))
        save("val_" + c, df[c].iloc[0])
    save("df_multi", df.set_index(["a", "b"]))
    save("df_grp", df.pivot_table(index="b", columns="c", values="a"))
    save("df_num", pd.DataFrame(rng.rand(10, 3).astype("f4")), jl=True)
    save("ts", pd.Timestamp("2020-01-01", tz="Europe/Paris"))
    save("td", pd.Timedelta("1D"))
    save("nat", pd.NaT)
    save("na", pd.NA)
    save(
        "off",
        [
            pd.offsets.BDay(),
            pd.offsets.MonthEnd(),
            pd.offsets.Hour(2),
            pd.offsets.Week(weekday=1),
            pd.offsets.QuarterEnd(),
            pd.offsets.YearEnd(),
            pd.DateOffset(days=1),
            pd.offsets.BusinessHour(),
            pd.offsets.Minute(1),
            pd.offsets.CustomBusinessDay(),
            pd.offsets.BMonthEnd(),
            pd.offsets.SemiMonthEnd(),
        ],
    )
    save("mixed", pd.concat([df[["a"]], df[["b"]]], axis=1))
    save("dtypes", df.dtypes)
    ct = make_column_transformer(
        (OneHotEncoder(), make_column_selector(dtype_include=object)), (SimpleImputer(), ["a"])
    )
    save(
        "ct_pd", make_pipeline(ct, LogisticRegression()).fit(df[["a", "b"]].fillna("x"), [0, 1] * 6), jl=True
    )
    save("ct_sel", make_column_selector(pattern="a"))
except ImportError:
    pass
save(
    "np_all",
    {
        k: np.zeros(2, dtype=k)
        for k in (
            "f2",
            "f4",
            "f8",
            "c8",
            "c16",
            "i1",
            "i2",
            "i4",
            "i8",
            "u1",
            "u2",
            "u4",
            "u8",
            "?",
            "S3",
            "U3",
            "M8[s]",
            "m8[ns]",
            "O",
            ">f8",
            "V5",
            "longdouble",
        )
    },
    jl=True,
)
save("np_struct", np.zeros(3, dtype=[("a", "f4"), ("b", "i4", (2,)), ("c", "O")]))
save("np_struct2", np.zeros(3, dtype=[("a", "f4"), ("b", "i4", (2,))]), jl=True)
save(
    "np_scalars",
    [
        np.float32(1),
        np.float64(2),
        np.int64(3),
        np.bool_(1),
        np.str_("a"),
        np.bytes_(b"a"),
        np.datetime64("2020"),
        np.timedelta64(1, "s"),
        np.complex64(1),
        np.void(b"ab"),
        np.longdouble(1),
    ],
)
save("np_rec", np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]))
save("np_ma", np.ma.array([1, 2], mask=[0, 1]))
save("np_mat", np.matrix([[1, 2]]))
save("np_f", np.asfortranarray(rng.rand(3, 4)), jl=True)
save(
    "np_rng",
    [
        np.random.default_rng(0),
        np.random.RandomState(1),
        np.random.Generator(np.random.Philox(1)),
        np.random.SFC64(1),
        np.random.PCG64DXSM(1),
        np.random.SeedSequence(1),
    ],
)
save("np_ufuncs", [np.log1p, np.exp, np.add, np.maximum])
save("np_types", [np.float32, np.int64, np.dtype("f4"), np.ndarray])
save("np_funcs", [np.mean, np.median, np.std, np.max, np.argmax])
save("np_poly", np.poly1d([1, 2]))
save("np_fromd", np.arange(3, dtype="f4").reshape(1, 3)[:, ::2])
for f in ("csr", "csc", "coo", "bsr", "dia", "dok", "lil"):
    save("sp_" + f, getattr(sp, f + "_matrix")(X > 0.5), jl=True)
    if hasattr(sp, f + "_array"):
        save("spa_" + f, getattr(sp, f + "_array")(X > 0.5))
from scipy import interpolate, spatial, stats

save("st", [stats.norm(0, 1), stats.uniform(0, 1), stats.loguniform(0.1, 1), stats.randint(1, 5)])
save("st2", stats.gaussian_kde(X.T[:2]))
save(
    "interp",
    [
        interpolate.interp1d(X[:, 0], yr),
        interpolate.UnivariateSpline(np.arange(10), np.arange(10)),
        interpolate.CubicSpline(np.arange(10), np.arange(10)),
        interpolate.BSpline([0, 1, 2, 3, 4, 5], [1, 2, 3], 2),
        interpolate.PchipInterpolator(np.arange(10), np.arange(10)),
        interpolate.RegularGridInterpolator((np.arange(3), np.arange(3)), np.eye(3)),
        interpolate.NearestNDInterpolator(X[:, :2], yr),
    ],
)
save("spatial", [spatial.cKDTree(X), spatial.KDTree(X)])
save("rot", spatial.transform.Rotation.from_euler("x", 1))
save("opt", __import__("scipy.optimize").optimize.minimize(lambda v: float((v**2).sum()), [1.0, 1.0]))
import argparse
import array
import collections
import datetime
import decimal
import fractions
import functools
import ipaddress
import itertools
import operator
import pathlib
import re
import types
import uuid

save(
    "std",
    [
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        collections.Counter("aab"),
        collections.deque([1], 3),
        datetime.datetime.now(),
        datetime.datetime.now(datetime.timezone.utc),
        datetime.date.today(),
        datetime.time(1),
        datetime.timedelta(1),
        decimal.Decimal("1.5"),
        fractions.Fraction(1, 2),
        pathlib.Path("a/b"),
        pathlib.PurePosixPath("a"),
        uuid.uuid4(),
        types.SimpleNamespace(a=1),
        array.array("f", [1]),
        argparse.Namespace(a=1),
        range(3),
        slice(1, 2),
        frozenset([1]),
        bytearray(b"a"),
        complex(1, 2),
        Ellipsis,
        NotImplemented,
        type(None),
        int,
        re.compile("a+", re.I),
        ipaddress.ip_address("1.2.3.4"),
        functools.partial(int, base=2),
        collections.ChainMap({1: 2}),
        itertools.chain,
        operator.itemgetter(1),
        datetime.timezone(datetime.timedelta(hours=1)),
        collections.UserDict(a=1),
    ],
    protos=(0, 1, 2, 3, 4, 5),
)
import zoneinfo

save("zone", zoneinfo.ZoneInfo("UTC"))
for c in (0, 3, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3), ("lz4", 3)):
    try:
        joblib.dump(
            {
                "a": rng.rand(300),
                "m": LogisticRegression().fit(X, y),
                "s": np.array(["a", None], dtype=object),
            },
            f"{out}/comp_{c if isinstance(c, int) else c[0]}.joblib",
            compress=c,
        )
    except Exception as ex:
        print(c, repr(ex)[:80])
try:
    import xgboost as xgb

    m = xgb.XGBClassifier(n_estimators=3).fit(X, y)
    save("xgb_c", m, jl=True)
    save("xgb_r", xgb.XGBRegressor(n_estimators=3).fit(X, yr))
    save("xgb_b", m.get_booster())
    save("xgb_pipe", make_pipeline(StandardScaler(), xgb.XGBRegressor(n_estimators=2)).fit(X, yr))
    save("xgb_rf", xgb.XGBRFClassifier(n_estimators=3).fit(X, y))
    save("xgb_rank", xgb.XGBRanker(n_estimators=2).fit(X, y, group=[20, 20]))
except ImportError:
    pass
try:
    import lightgbm as lgb

    m = lgb.LGBMClassifier(n_estimators=3, verbose=-1).fit(X, y)
    save("lgb_c", m, jl=True)
    save("lgb_r", lgb.LGBMRegressor(n_estimators=3, verbose=-1).fit(X, yr))
    save("lgb_b", m.booster_)
except (ImportError, OSError) as ex:
    print(ex)
save("iso_date", datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc))
print("files", len(os.listdir(out)))
