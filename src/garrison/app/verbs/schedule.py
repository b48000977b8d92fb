"""Verbs about periodic work: what there is, and one job now."""

from __future__ import annotations

from typing import Any

from garrison.app import jobs, schedule
from garrison.app.house import House
from garrison.app.verbs.base import Call, Verb, authorise
from garrison.core.actions import Action


def schedule_list(house: House, call: Call) -> dict[str, Any]:
    authorise(house, call.subject, Action.POSTURE_READ, "schedule")
    return {
        "schema": "garrison.schedule/1",
        "jobs": [state.as_json() for state in schedule.states(house)],
    }


def schedule_run(house: House, call: Call) -> dict[str, Any]:
    job = jobs.find(call.text("job"))
    authorise(house, call.subject, Action.SCHEDULE_RUN, job.name)
    return schedule.run(house, job, call.subject.actor)


SCHEDULE_VERBS = (
    Verb("schedule.list", Action.POSTURE_READ, schedule_list),
    Verb("schedule.run", Action.SCHEDULE_RUN, schedule_run),
)
