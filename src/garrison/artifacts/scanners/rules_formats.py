"""The rules of the formats other than pickles, tensors and templates: trees, graphs, data of R, XML, YAML.

Part of `rules.py`, which has the whole catalogue.
"""

from __future__ import annotations

from garrison.artifacts.scanners.rule import Rule

_AGAIN = "get the file again from its author; a file that is written like this is not loaded"
_SAVE = "save the model again with a current release of its library"
_CODE = "ask the author for the weights as safetensors, which cannot carry code"
_PLAIN = "convert the model again without custom parts, or serve it with a runtime that you trust with them"
_INSIDE = "keep what the model refers to inside its directory, and name it by a relative path"
_TREES = "The library that reads the file trusts its numbers and follows them out of its memory."
_SECOND = "What two readers read differently cannot be judged: one of them sees something else."
_BEHIND = "Bytes that belong to nothing can be another file, for a reader that looks for one."
_NEW = "It may be a newer release of the format, or something hidden; neither can be called safe."

FORMAT_RULES: dict[str, Rule] = {
    # --- programs, pictures ---
    "artifact.code.binary": Rule(
        "a program in binary form",
        "ELF, PE, Mach-O, byte code and object archives are programs. Nothing that loads a model needs one here.",
        "publish weights without programs; a server that needs this code has to ship it itself",
    ),
    "artifact.image.active": Rule(
        "a picture that acts",
        "SVG can run scripts and fetch files when somebody opens it.",
        "use a PNG instead",
    ),
    "artifact.image.damaged": Rule(
        "a picture that is not one",
        "It begins like a picture and then contradicts the format.",
        "save the picture again, or leave it out",
    ),
    "artifact.image.trailing": Rule(
        "bytes behind a picture", _BEHIND, "save the picture again, or leave it out"
    ),
    # --- XML, OpenVINO, PMML ---
    "artifact.xml.doctype": Rule(
        "XML with a document type",
        "A document type defines entities, which read files, reach the network and grow without end.",
        "remove the document type; no model format needs it",
    ),
    "artifact.xml.entity": Rule(
        "XML that defines an entity",
        "Entities read files, reach the network and grow without end.",
        "remove the entity; no model format needs it",
    ),
    "artifact.xml.include": Rule(
        "XML that includes or transforms", "XInclude and XSLT read other files and run.", _INSIDE
    ),
    "artifact.xml.instruction": Rule(
        "XML with an instruction for a program",
        "Style sheets and scripts hang on processing instructions.",
        _AGAIN,
    ),
    "artifact.xml.syntax": Rule(
        "XML that cannot be read", "It is damaged, too deep or too large.", "repair the file"
    ),
    "artifact.openvino.library": Rule(
        "a graph that names a library",
        "A shared library is a program; loading it runs it.",
        _PLAIN,
    ),
    "artifact.openvino.operation": Rule(
        "an operation that is not standard",
        "An operation outside the standard sets needs a library that implements it, which is a program.",
        _PLAIN,
    ),
    "artifact.openvino.code": Rule(
        "code in a graph", "An element that is no part of a graph and is named code.", _PLAIN
    ),
    "artifact.openvino.reference": Rule(
        "a graph that refers outside", "It would be fetched or read from there.", _INSIDE
    ),
    "artifact.openvino.bounds": Rule("a constant that leaves its data", _TREES, _AGAIN),
    "artifact.openvino.version": Rule("an unknown version of OpenVINO IR", _NEW, _SAVE),
    "artifact.pmml.extension": Rule(
        "a PMML extension with code",
        "Evaluators hand extensions to scripts and classes of their own.",
        "remove the extension and evaluate the model without it",
    ),
    "artifact.pmml.function": Rule(
        "a PMML function that is a class",
        "Java evaluators load the class that a dotted function name names.",
        "use PMML's built-in functions, or define the function in the model",
    ),
    "artifact.pmml.code": Rule(
        "a program in PMML", "Text written like a program, which an evaluator may run.", _CODE
    ),
    "artifact.pmml.reference": Rule(
        "PMML that refers outside", "It would be fetched or read from there.", _INSIDE
    ),
    # --- YAML, configurations, OCI, tar ---
    "artifact.yaml.bomb": Rule(
        "YAML whose aliases grow without end",
        "A few lines of aliases become billions of values in memory.",
        "write the values out, or as JSON",
    ),
    "artifact.yaml.syntax": Rule(
        "YAML that is not understood",
        "Parsers of YAML differ; what this one does not read, another may.",
        "write it as JSON, or with fewer features of YAML",
    ),
    "artifact.config.mlflow_code": Rule(
        "an MLflow model with code of its own",
        "MLflow imports the loader module, and puts the model's code on the path, before anything is checked.",
        "log the model with one of MLflow's own flavours and without code paths",
    ),
    "artifact.modelfile.reference": Rule(
        "a Modelfile that loads from outside",
        "It would be read from there.",
        _INSIDE,
    ),
    "artifact.modelfile.line": Rule("a line that is no instruction of a Modelfile", _NEW, "remove the line"),
    "artifact.oci.digest": Rule(
        "a blob that is not what it is called",
        "Images name their blobs by SHA-256. This one was changed or swapped.",
        "fetch the image again",
    ),
    "artifact.tar.disagree": Rule("a tar archive that says two things", _SECOND, "pack the archive again"),
    # --- Core ML ---
    "artifact.coreml.custom": Rule(
        "a custom model, layer or operation of Core ML",
        "The application looks the class up by name and runs it.",
        _PLAIN,
    ),
    "artifact.coreml.linked": Rule(
        "a Core ML model that is another file", "What is judged is not what is loaded.", _INSIDE
    ),
    "artifact.coreml.reference": Rule(
        "Core ML weights outside the package", "They would be read from there.", _INSIDE
    ),
    "artifact.coreml.operation": Rule("an unknown operation of Core ML", _NEW, _PLAIN),
    "artifact.coreml.field": Rule("an unknown part of a Core ML model", _NEW, _PLAIN),
    "artifact.coreml.limit": Rule(
        "a Core ML model that is too deep", "It exhausts whoever reads it.", _AGAIN
    ),
    "artifact.coreml.weights": Rule("Core ML weights that overlap or leave the file", _TREES, _AGAIN),
    "artifact.coreml.trailing": Rule("bytes behind Core ML weights", _BEHIND, _AGAIN),
    # --- trees ---
    "artifact.catboost.size": Rule("a CatBoost model of the wrong size", _TREES, _SAVE),
    "artifact.catboost.table": Rule("a CatBoost model whose offsets leave it", _TREES, _SAVE),
    "artifact.catboost.version": Rule("an unknown version of CatBoost's format", _NEW, _SAVE),
    "artifact.catboost.part": Rule("an unknown part of a CatBoost model", _NEW, _SAVE),
    "artifact.catboost.trailing": Rule("bytes behind a CatBoost model", _BEHIND, _SAVE),
    "artifact.lightgbm.cut": Rule(
        "a LightGBM model without its trees", "The rest of it is not known.", _SAVE
    ),
    "artifact.lightgbm.line": Rule("a line that LightGBM does not write", _NEW, _SAVE),
    "artifact.lightgbm.objective": Rule(
        "a LightGBM objective that is none", "Objectives are names of the library.", _SAVE
    ),
    "artifact.lightgbm.size": Rule("a LightGBM model whose sizes are wrong", _TREES, _SAVE),
    "artifact.lightgbm.tree": Rule("a LightGBM tree that leaves its arrays", _TREES, _SAVE),
    "artifact.xgboost.objective": Rule(
        "an XGBoost objective that is none", "Objectives are names of the library.", _SAVE
    ),
    "artifact.xgboost.booster": Rule(
        "an XGBoost booster that is none", "Boosters are names of the library.", _SAVE
    ),
    "artifact.xgboost.count": Rule("an XGBoost model that miscounts", _TREES, _SAVE),
    "artifact.xgboost.tree": Rule("an XGBoost tree that leaves its arrays", _TREES, _SAVE),
    "artifact.xgboost.trailing": Rule("bytes behind an XGBoost model", _BEHIND, _SAVE),
    "artifact.ubjson.syntax": Rule("UBJSON that contradicts itself", _SECOND, _SAVE),
    "artifact.ubjson.trailing": Rule("bytes behind UBJSON", _BEHIND, _SAVE),
    # --- R ---
    "artifact.r.code": Rule(
        "R data that R would evaluate",
        "Promises run when a value is first used; functions, byte code and calls run when the model is.",
        "ask the author for the data as CSV or Parquet, or save plain vectors and data frames only",
    ),
    "artifact.r.item": Rule("R data of an unknown kind", _NEW, "save plain vectors and data frames only"),
    "artifact.r.length": Rule("R data with an impossible length", _TREES, _AGAIN),
    "artifact.r.limit": Rule("R data that is too deep", "It exhausts whoever reads it.", _AGAIN),
    "artifact.r.reference": Rule("R data that refers to nothing", _TREES, _AGAIN),
    "artifact.r.syntax": Rule("R data that contradicts itself", _SECOND, _AGAIN),
    "artifact.r.trailing": Rule("bytes behind R data", _BEHIND, _AGAIN),
}
