"""The order of a graph's tasks, the reach of a failure, and the estimate of the end, on plain names and functions."""

from __future__ import annotations

import random

import pytest

from irexp.sweep.schedule import Schedule
from irexp.sweep.status import seconds_left

#: Two models that share nothing, one of them searched in two ways, and a fusion of two runs.
NEEDS: dict[str, list[str]] = {
    "fit a": [],
    "encode a": ["fit a"],
    "run a1": ["encode a", "fit a"],
    "run a2": ["encode a", "fit a"],
    "run b": [],
    "fused": ["run a1", "run b"],
}


def test_a_task_is_ready_once_all_that_it_needs_is_done() -> None:
    """Tasks without needs are ready at once, a task with two needs after the second."""
    schedule = Schedule(NEEDS)
    assert schedule.ready() == ["fit a", "run b"]
    for key in ("fit a", "run b"):
        schedule.start(key)
    assert schedule.ready() == []
    schedule.finish("run b", 1.0)
    assert schedule.ready() == []
    schedule.finish("fit a", 1.0)
    assert schedule.ready() == ["encode a"]
    for key in ("encode a", "run a1"):
        schedule.start(key)
        schedule.finish(key, 1.0)
    assert schedule.ready() == ["run a2", "fused"]


def test_the_longest_chain_of_tasks_begins_first() -> None:
    """A training that a search waits for is not left to the end; tasks of equal chains keep their order."""
    needs = {
        "evaluate a": [],
        "index b": [],
        "run b": ["index b"],
        "fit c": [],
        "encode c": ["fit c"],
        "run c": ["encode c"],
    }
    assert Schedule(needs).ready() == ["fit c", "index b", "evaluate a"]
    assert Schedule({"a": [], "b": [], "c": []}).ready() == ["a", "b", "c"]


@pytest.mark.parametrize("seed", range(20))
def test_in_any_order_of_endings_each_task_is_begun_once_after_its_needs(seed: int) -> None:
    """With two at a time and random endings all tasks are done, none begins early, none begins twice."""
    chance, schedule, begun = random.Random(seed), Schedule(NEEDS), list[str]()
    while not schedule.is_over:
        for key in schedule.ready():
            if len(schedule.running) < 2:
                assert all(need in schedule.done for need in NEEDS[key])
                schedule.start(key)
                begun.append(key)
        schedule.finish(chance.choice(sorted(schedule.running)), 1.0)
    assert sorted(begun) == sorted(NEEDS)


def test_a_failure_takes_only_those_that_need_the_failed_task() -> None:
    """What needs it at any depth is failed with the task whose error it is; the rest is made."""
    schedule = Schedule(NEEDS)
    schedule.start("fit a")
    schedule.start("run b")
    assert schedule.fail("fit a") == ["encode a", "run a1", "run a2", "fused"]
    assert set(schedule.failed.values()) == {"fit a"}
    assert not schedule.is_over and schedule.running == {"run b"}
    schedule.finish("run b", 1.0)
    assert schedule.is_over and schedule.done == {"run b": 1.0}


def test_a_cluster_is_given_all_tasks_at_once_in_order() -> None:
    """It keeps the order by itself; a failure then takes tasks that were handed over."""
    schedule = Schedule(NEEDS)
    assert schedule.ready(early=True) == list(NEEDS)
    for key in NEEDS:
        schedule.start(key)
    assert schedule.ready(early=True) == []
    schedule.finish("fit a", 1.0)
    assert schedule.fail("encode a") == ["run a1", "run a2", "fused"]
    assert schedule.running == {"run b"}


@pytest.mark.parametrize(("workers", "seconds"), [(1, 48.0), (2, 24.0), (8, 12.0), (None, 12.0)])
def test_the_end_is_estimated_from_the_tasks_of_the_same_stage(workers: int | None, seconds: float) -> None:
    """The workers share two more fits of 10 s, and two tasks of an unknown stage, as long as the longest: 14 s."""
    stages = {"1": "fit", "2": "encode", "3": "fit", "4": "fit", "5": "search", "6": "search"}
    assert seconds_left(stages, {"1": 10.0, "2": 14.0}, workers) == seconds
    assert seconds_left(stages, {}, workers) is None
