"""Makes `framework_files/`: small files as h5py, Keras, TensorFlow and Flax write them, harmless and harmful.

Needs h5py, keras, tensorflow-cpu, flax and msgpack in an environment of its own:
`python -m tests.vectors.artifacts.frameworks_real DIR`. No test runs it. What is harmful is called `bad_`; payloads
only say `echo garrison-test`, and nothing is ever loaded.
"""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

PICKLE = b"\x80\x02cposix\nsystem\nX\x12\x00\x00\x00echo garrison-test\x85R."
LAMBDA = (
    '{"class_name":"Sequential","config":[{"class_name":"Lambda",'
    '"config":{"function":["4wAA",null,null],"function_type":"lambda"}}]}'
)


def harmless_hdf5(directory: Path, version: str) -> None:
    """Everything that h5py writes for weights: near and dense groups, filters, texts, types, loops of links."""
    import h5py
    import numpy

    with h5py.File(directory / f"weights_{version}.h5", "w", libver=version) as file:
        group = file.create_group("model_weights")
        for index in range(12):
            group.create_dataset(f"w{index}", data=numpy.zeros(2, "f4")).attrs["x"] = index
            file.attrs[f"a{index}"] = f"text number {index}"
        file.attrs["names"] = ["x", "yy"]
        file.attrs["empty"] = h5py.Empty("f4")
        file.create_dataset("gz", data=numpy.zeros((8, 8)), compression="gzip", shuffle=True, fletcher32=True)
        file.create_dataset("lzf", data=numpy.zeros((8, 8)), compression="lzf")
        file.create_dataset("text", data=["hello", "world"])
        file.create_dataset("fixed", data=numpy.array([b"ab", b"c"]))
        file.create_dataset("members", data=numpy.zeros(2, dtype=[("a", "f4", (3,)), ("name", "S8")]))
        file.create_dataset("complex", data=numpy.zeros(2, "c8"))
        file.create_dataset("unwritten", shape=(1000, 1000), dtype="f4")
        file["soft"] = h5py.SoftLink("/gz")
        file["model_weights/loop"] = file["/"]
        file["kind"] = numpy.dtype("f8")
        file.create_dataset("named", data=numpy.zeros(2), dtype=file["kind"])
    with h5py.File(directory / f"userblock_{version}.h5", "w", libver=version, userblock_size=512) as file:
        file["x"] = numpy.arange(4.0)


def harmful_hdf5(directory: Path, version: str) -> None:
    import h5py
    import numpy

    def opened(name: str) -> Any:
        return h5py.File(directory / f"bad_{name}_{version}.h5", "w", libver=version)

    with opened("link") as file:
        for index in range(2 if version == "earliest" else 12):
            file[f"x{index}"] = index
        file["e"] = h5py.ExternalLink("/etc/other.h5", "/x")
    with opened("file_list") as file:
        file.create_dataset("x", (4,), "u1", external=[("/etc/passwd", 0, 4)])
    with opened("attribute_pickle") as file:
        for index in range(2 if version == "earliest" else 12):
            file.attrs[f"b{index}"] = index
        file.attrs["p"] = numpy.void(PICKLE)
    with opened("packed_pickle") as file:
        file.create_dataset("x", data=numpy.frombuffer(PICKLE, "u1"), compression="gzip")
    with opened("elements_pickle") as file:
        data = file.create_dataset("x", (1,), dtype=h5py.vlen_dtype(numpy.uint8))
        data[0] = numpy.frombuffer(PICKLE, "u1")
    with opened("lambda") as file:
        file.attrs["model_config"] = LAMBDA
    with opened("bomb") as file:
        file.create_dataset("x", (10**6, 10**6), "f4", chunks=(1000, 1000))
    if version != "earliest":
        with opened("virtual") as file:
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource("/etc/o.h5", "x", (4,))
            file.create_virtual_dataset("v", layout)


def keras_models(directory: Path) -> None:
    import keras

    layers = keras.layers
    given = keras.Input((4,))
    hidden = layers.Dense(2, activation="relu", kernel_regularizer="l2")(given)
    hidden = layers.Add()([hidden, layers.Dropout(0.1)(hidden)]) * 2.0
    model = keras.Model(given, layers.Activation(keras.activations.gelu)(hidden))
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.MeanSquaredError(), metrics=["mae"])
    model.save(directory / "model.keras")
    model.save_weights(directory / "model.weights.h5")
    small = keras.Sequential([given, layers.Dense(2)])
    small.save(directory / "model.h5")
    texts = layers.TextVectorization(vocabulary=["a", "b", "http://x"])
    line = keras.Input((1,), dtype="string")
    keras.Model(line, layers.Embedding(8, 2)(texts(line))).save(directory / "texts.keras")


def tensorflow_models(directory: Path) -> None:
    import tensorflow as tf

    work = directory / "work"
    vocabulary = directory / "vocabulary.txt"
    vocabulary.write_text("a\nb\n")

    class Module(tf.Module):
        def __init__(self) -> None:
            initializer = tf.lookup.TextFileInitializer(
                str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, -1
            )
            self.table = tf.lookup.StaticHashTable(initializer, -1)
            self.variable = tf.Variable([1.0, 2.0])

    module = Module()
    spec = tf.TensorSpec([None], tf.string)
    function = tf.function(lambda x: tf.cast(module.table.lookup(x), tf.float32) + module.variable[0])
    module.run = function
    tf.saved_model.save(module, str(work), signatures=function.get_concrete_function(spec))
    shutil.rmtree(directory / "saved", ignore_errors=True)
    shutil.move(work, directory / "saved")
    vocabulary.unlink()
    # One graph after another with an operation in it, frozen as `.pb`.
    for name in ("read_file", "write_file", "py_function", "matching_files", "save", "plain"):
        with tf.Graph().as_default() as graph:
            _harmful(tf, name)
            prefix = "" if name == "plain" else "bad_"
            (directory / f"{prefix}{name}.pb").write_bytes(graph.as_graph_def().SerializeToString())


def _harmful(tf: Any, name: str) -> None:
    x = tf.compat.v1.placeholder(tf.float32, (None, 2), name="x")
    tf.nn.softmax(tf.matmul(x, tf.constant([[1.0], [2.0]])))
    if name == "read_file":
        tf.io.read_file("/etc/passwd")
    elif name == "write_file":
        tf.io.write_file("/tmp/garrison-test", "echo garrison-test")
    elif name == "py_function":
        tf.compat.v1.py_func(len, [x], tf.int64)
    elif name == "matching_files":
        tf.io.matching_files("/etc/*")
    elif name == "save":
        tf.raw_ops.SaveV2(prefix="/tmp/garrison-test", tensor_names=["x"], shape_and_slices=[""], tensors=[x])


def lite_models(directory: Path) -> None:
    import tensorflow as tf

    spec = tf.TensorSpec([1, 2], tf.float32)

    def converted(function: Any, *, flex: bool) -> bytes:
        concrete = tf.function(function).get_concrete_function(spec)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
        if flex:
            operators = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
            converter.target_spec.supported_ops = operators
        return bytes(converter.convert())

    plain = converted(lambda x: tf.nn.softmax(tf.matmul(x, [[1.0, 2.0], [3.0, 4.0]])), flex=False)
    (directory / "model.tflite").write_bytes(plain)
    (directory / "with_labels.tflite").write_bytes(plain)
    with zipfile.ZipFile(directory / "with_labels.tflite", "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
    flexed = converted(lambda x: tf.raw_ops.Tan(x=x), flex=True)
    (directory / "bad_flex.tflite").write_bytes(flexed)


def flax_models(directory: Path) -> None:
    import flax.serialization
    import msgpack
    import numpy

    zeros = numpy.zeros((4, 8), "f4")
    tree = {"params": {"dense": {"kernel": zeros}}, "step": 3, "c": 1 + 2j, "s": numpy.float32(2.5)}
    (directory / "model.msgpack").write_bytes(flax.serialization.to_bytes(tree))
    flax.serialization.MAX_CHUNK_SIZE = 64
    (directory / "chunked.msgpack").write_bytes(flax.serialization.to_bytes({"w": numpy.zeros((5, 5))}))
    for name, value in {
        "pickle": PICKLE,
        "code": "__import__('os').system('echo garrison-test')",
        "extension": msgpack.ExtType(42, PICKLE),
        "shape": msgpack.ExtType(1, msgpack.packb(((1 << 40,), "float32", b"abcd"))),
        "object": msgpack.ExtType(1, msgpack.packb(((1,), "object", PICKLE))),
    }.items():
        (directory / f"bad_{name}.msgpack").write_bytes(msgpack.packb({"params": {"w": value}}))


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for version in ("earliest", "latest"):
        harmless_hdf5(directory, version)
        harmful_hdf5(directory, version)
    keras_models(directory)
    tensorflow_models(directory)
    lite_models(directory)
    flax_models(directory)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main(Path(sys.argv[1]))
