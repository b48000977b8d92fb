"""Makes `real/`: small harmless models as their own libraries write them.

Needs xgboost-cpu<3, lightgbm, catboost, skops, scikit-learn, rdata, openvino, nyoka and coremltools, in an
environment of its own: `python -m tests.vectors.artifacts.real DIR`. No test runs it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any


def trees(directory: Path, data: Any, label: Any) -> None:
    import catboost
    import lightgbm
    import pandas
    import xgboost

    matrix = xgboost.DMatrix(data, label)
    for objective, booster, ending in (
        ("binary:logistic", "gbtree", "json"),
        ("binary:logistic", "dart", "ubj"),
        ("count:poisson", "gblinear", "deprecated"),
        ("multi:softprob", "dart", "deprecated"),
    ):
        options = {"objective": objective, "booster": booster, "max_depth": 2}
        options |= {"num_class": 3} if objective.startswith("multi") else {}
        name = f"xgb_{objective.replace(':', '_')}_{booster}.{ending}"
        xgboost.train(options, matrix, 3).save_model(directory / name)
    frame = pandas.DataFrame(data, columns=list("abcd"))
    frame["c"] = pandas.Categorical(["x", "y", "z"] * 20)
    quiet = {"verbose": -1}
    lightgbm.train(quiet | {"objective": "binary"}, lightgbm.Dataset(frame, label), 2).save_model(
        directory / "lgb_cat.txt"
    )
    lightgbm.train(
        quiet | {"objective": "regression", "linear_tree": True}, lightgbm.Dataset(data, data[:, 1]), 2
    ).save_model(directory / "lgb_linear.txt")
    model = catboost.CatBoostRegressor(iterations=3, depth=2, verbose=0, allow_writing_files=False)
    model.fit(frame, data[:, 1], cat_features=["c"]).save_model(str(directory / "cat_c.cbm"))


def graphs(directory: Path, data: Any, label: Any) -> None:
    import coremltools
    import numpy
    import openvino
    from coremltools.converters.mil import Builder
    from coremltools.models import datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder
    from nyoka import skl_to_pmml
    from openvino import opset13
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    network = NeuralNetworkBuilder([("x", datatypes.Array(4))], [("y", datatypes.Array(2))])
    network.add_inner_product("ip", numpy.zeros((2, 4)), numpy.zeros(2), 4, 2, True, "x", "h")
    network.add_activation("a", "RELU", "h", "y")
    coremltools.utils.save_spec(network.spec, directory / "nn.mlmodel")

    @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 64))])
    def program(x: Any) -> Any:
        weight = numpy.random.rand(32, 64).astype(numpy.float32)
        return Builder.relu(x=Builder.linear(x=x, weight=weight, bias=numpy.zeros(32, numpy.float32)))

    package = directory / "m.mlpackage"
    coremltools.convert(program, convert_to="mlprogram", skip_model_load=True).save(package)
    inside = package / "Data" / "com.apple.CoreML"
    (package / "Manifest.json").rename(directory / "Manifest.json")
    (inside / "model.mlmodel").rename(directory / "program.mlmodel")
    (inside / "weights" / "weight.bin").rename(directory / "weight.bin")
    shutil.rmtree(package)
    given = opset13.parameter([1, 4], numpy.float32, name="x")
    out = opset13.relu(opset13.matmul(given, opset13.constant(data[:4].astype(numpy.float32)), False, True))
    openvino.save_model(openvino.Model([opset13.result(out)], [given], "m"), directory / "ov.xml")
    (directory / "ov.bin").unlink()
    steps = Pipeline([("s", StandardScaler()), ("m", LogisticRegression())]).fit(data, label)
    skl_to_pmml(steps, list("abcd"), "y", directory / "nyoka2.pmml")


def tables(directory: Path, data: Any) -> None:
    import numpy
    import pandas
    import rdata
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from skops.io import dump

    positive = numpy.abs(data)
    dump(
        make_pipeline(FunctionTransformer(numpy.log1p), Ridge()).fit(positive, data[:, 0]),
        directory / "ft.skops",
    )
    texts = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(["aa bb cc", "bb cc dd"], [0, 1])
    dump(texts, directory / "tfidf.skops")
    frame = pandas.DataFrame(
        {"a": [1, 2, 3], "b": ["x", "y", None], "f": pandas.Categorical(["u", "v", "u"])}
    )
    for form in ("xdr", "ascii"):
        rdata.write_rds(directory / f"df_{form}_gzip.rds", frame, file_format=form, compression="gzip")
    rdata.write_rda(directory / "lst.rda", {"lst": {"a": 1, "b": [1, 2.5, "x"], "c": True}})


if __name__ == "__main__":
    import numpy

    values = numpy.random.default_rng(0).normal(size=(60, 4))
    target = (values[:, 0] > 0).astype(int)
    place = Path(sys.argv[1])
    trees(place, values, target)
    graphs(place, values, target)
    tables(place, values)
