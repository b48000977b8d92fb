"""Rules about HDF5, Keras, TensorFlow, TensorFlow Lite and Flax files."""

from __future__ import annotations

from garrison.artifacts.scanners.rule import Rule

_AGAIN = "get the file again from its author; a file that is written like this is not loaded"
_INSIDE = "store the weights in the file itself and save it again"
_STANDARD = "ask the author for a model of standard layers, or rebuild it from code you have reviewed"
_EXPORT = "export the model again without these operations, or ask the author for the weights"
_SAVE = "save the model again with the framework that wrote it"
_BUILTIN = "convert the model again with the built-in operators only"

FRAMEWORK_RULES: dict[str, Rule] = {
    # --- HDF5 ---
    "artifact.hdf5.structure": Rule(
        "an HDF5 file that contradicts itself",
        "An address, length or count does not fit the file, so two readers may see two files.",
        _AGAIN,
    ),
    "artifact.hdf5.external": Rule(
        "an HDF5 file that reads other files",
        "External files, external links and virtual data sets make the loader read a path of the author's choice.",
        _INSIDE,
    ),
    "artifact.hdf5.bomb": Rule(
        "a shape that fills the memory",
        "A data set says that it is far larger than what is stored of it; loading it takes all memory.",
        "ask the author; a shape like this fills the memory of whoever loads it",
    ),
    "artifact.hdf5.filter": Rule(
        "an HDF5 filter that is not in the library",
        "Reading the data loads a library that the file names by number; what it does is not known.",
        "save the file again without compression, or with gzip",
    ),
    "artifact.hdf5.trailing": Rule(
        "bytes behind an HDF5 file",
        "They belong to nothing that an HDF5 reader knows; another reader may load them.",
        _AGAIN,
    ),
    "artifact.hdf5.unsupported": Rule(
        "a part of HDF5 that is not read",
        "It is legal and rare. What it holds could not be judged.",
        "save the file again with h5py and its defaults",
    ),
    # --- Keras ---
    "artifact.keras.code": Rule(
        "a Keras layer that carries code",
        "Lambda layers and their like run functions or pickles that stand in the file when the model is built.",
        _STANDARD,
    ),
    "artifact.keras.import": Rule(
        "a Keras configuration that imports",
        "The module or function that it names is imported, and called, when the model is built.",
        _STANDARD,
    ),
    "artifact.keras.custom": Rule(
        "a custom class in a Keras model",
        "The class is registered by code of the author's own, which has to run before the model loads.",
        _STANDARD,
    ),
    "artifact.keras.class": Rule(
        "a Keras class or function that is not known",
        "It is not one of Keras; whoever loads the model has to bring code for it, which was not judged.",
        _STANDARD,
    ),
    "artifact.keras.operation": Rule(
        "a Keras layer that calls TensorFlow by name",
        "Building the model calls the operation; those that reach files or Python are among them.",
        _STANDARD,
    ),
    "artifact.keras.path": Rule(
        "a Keras configuration that reads a file or an address",
        "Vocabularies and weights given by path or URL are read from the machine that loads the model.",
        "put the vocabulary into the model, or beside it, and save it again",
    ),
    "artifact.keras.unsafe": Rule(
        "a Keras configuration that asks for unsafe loading",
        "It switches off the protection that the loader has against code in files.",
        _STANDARD,
    ),
    "artifact.keras.syntax": Rule(
        "a Keras configuration that is not strict JSON",
        "It could not be read, or says two things; readers disagree about it.",
        _SAVE,
    ),
    # --- TensorFlow ---
    "artifact.tensorflow.operation": Rule(
        "an operation that reaches outside the graph, or is not known",
        "A graph is a program. Operations that use files, Python, machines or commands are refused; those that "
        "are not TensorFlow's own need a library that was not judged.",
        _EXPORT,
    ),
    "artifact.tensorflow.text": Rule(
        "a graph as text that is not understood",
        "It is not the text form of a TensorFlow graph, or has fields that no graph has, so not all of it was judged.",
        "publish the binary form, or the weights alone",
    ),
    "artifact.tensorflow.unknown": Rule(
        "an operation that is not TensorFlow's and is named like a command",
        "It comes from a library of its own, and its name says that it runs or fetches something.",
        _EXPORT,
    ),
    "artifact.tensorflow.file": Rule(
        "a file's name written into a graph",
        "Saving, restoring and table operations take their file from the loader; here the author chose it.",
        _EXPORT,
    ),
    "artifact.tensorflow.asset": Rule(
        "an asset outside the model's directory",
        "The loader reads the asset by this path.",
        "export the model again with its assets inside its directory",
    ),
    "artifact.tensorflow.field": Rule(
        "a field that TensorFlow models do not have",
        "It could not be judged.",
        _SAVE,
    ),
    "artifact.tensorflow.structure": Rule(
        "a TensorFlow file that contradicts its definition",
        "A field is of another kind than TensorFlow writes, so readers disagree about what it says.",
        _AGAIN,
    ),
    "artifact.tensorflow.count": Rule(
        "more nodes than any model has",
        "Every list has a limit of length, so that no file can exhaust the machine that judges it.",
        _EXPORT,
    ),
    "artifact.tensorflow.checkpoint": Rule(
        "a checkpoint index that contradicts itself",
        "Its blocks, keys or tensors do not fit the file.",
        _AGAIN,
    ),
    "artifact.tensorflow.state": Rule(
        "a checkpoint list that points elsewhere or is not understood",
        "Whoever restores by this list reads the path that it names.",
        "write the plain name of the checkpoint, or leave the file out",
    ),
    # --- TensorFlow Lite ---
    "artifact.tflite.structure": Rule(
        "a TFLite model that contradicts itself",
        "An offset, a list or a tensor does not fit the file; the runtime may read memory that is not its own.",
        _AGAIN,
    ),
    "artifact.tflite.flex": Rule(
        "a TFLite model that runs TensorFlow operations",
        "Flex operators run any operation of TensorFlow, those with files included.",
        _BUILTIN,
    ),
    "artifact.tflite.custom": Rule(
        "a TFLite model with a custom operator",
        "Native code from elsewhere has to be registered under this name before the model runs.",
        _BUILTIN,
    ),
    "artifact.tflite.version": Rule(
        "a TFLite model of an unknown version",
        "Its structure could not be judged.",
        _BUILTIN,
    ),
    "artifact.tflite.trailing": Rule(
        "bytes behind a TFLite model",
        "They belong to nothing that the runtime reads; another reader may load them.",
        _AGAIN,
    ),
    # --- Flax ---
    "artifact.msgpack.structure": Rule(
        "a MessagePack file that contradicts itself",
        "A length, key or shape does not fit the file.",
        _AGAIN,
    ),
    "artifact.msgpack.code": Rule(
        "a text like a program among the weights",
        "Weights have names and numbers; a program there waits for a reader that runs it.",
        "ask the author for the weights as safetensors, which cannot carry code",
    ),
    "artifact.msgpack.object": Rule(
        "an array of Python objects among the weights",
        "Restoring it takes addresses or pickles from the file.",
        "save the parameters again with flax.serialization.to_bytes",
    ),
    "artifact.msgpack.extension": Rule(
        "a MessagePack extension that Flax does not write",
        "What it makes is decided by the program that reads it.",
        "save the parameters again with flax.serialization.to_bytes",
    ),
    "artifact.msgpack.trailing": Rule(
        "bytes behind a MessagePack value",
        "They belong to nothing that the reader knows; another reader may load them.",
        _AGAIN,
    ),
}
