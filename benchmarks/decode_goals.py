"""The best of several thread counts, and its comparison with the goals of a decode step."""

from __future__ import annotations

from typing import Any

_FLOOR_GOALS = {384: 1.4, 1024: 1.15}
_INT8_GOALS = {384: 2.0, 1024: 2.8}
# By hidden size and threads: the ratio of an int8 step to its own floor.
_INT8_FLOOR_GOALS = {(384, 1): 2.2, (1024, 1): 1.35, (1024, 2): 1.8}
_PEER_GOALS = {(384, "tight torch"): 3.0, (384, "single graph"): 1.0, (1024, "single graph"): 1.0}


def best(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per size and number of picked experts, over the thread counts: the best ratio to the floor at one thread count,
    and every peer's best time against our best. Each states its thread count, because the two can differ."""
    rows = []
    for hidden in dict.fromkeys(run["hidden"] for run in runs):
        of_size = [run for run in runs if run["hidden"] == hidden]
        for index, step in enumerate(of_size[0]["steps"]):
            there = [(run["steps"][index], run["threads"]) for run in of_size]
            timed = {peer: min((each["median_ms"][peer], of) for each, of in there) for peer in step["median_ms"]}
            times = {peer: time for peer, (time, _) in timed.items()}
            to_floor, floor_threads = min((each["to_floor"], of) for each, of in there)
            rows.append(
                {
                    "hidden": hidden,
                    "picked": step["picked"],
                    "to_floor": to_floor,
                    "to_floor_threads": floor_threads,
                    "floor_ms": min(each["floor_ms"] for each, _ in there),
                    "best_ms": times,
                    "best_threads": {peer: of for peer, (_, of) in timed.items()},
                    "to_ours": {peer: time / times["ours"] for peer, time in times.items() if peer != "ours"},
                }
            )
    return rows


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each goal against the worst of `best`'s rows. `ceiling`: the value that a step at the floor would reach there."""
    results = []
    for hidden in dict.fromkeys(row["hidden"] for row in rows):
        of_size = [row for row in rows if row["hidden"] == hidden]
        if goal := _FLOOR_GOALS.get(hidden):
            worst = max(of_size, key=lambda row: row["to_floor"])
            results.append(
                {
                    "name": f"hidden {hidden}: a step takes at most {goal} × the floor",
                    "worst": worst["to_floor"],
                    "picked": worst["picked"],
                    "met": worst["to_floor"] <= goal,
                }
            )
        if goal := _INT8_GOALS.get(hidden):
            worst = max(of_size, key=lambda row: row["to_ours"]["int8"])
            results.append(
                {
                    "name": f"hidden {hidden}: int8 at least {goal:g} × as fast as float32",
                    "worst": 1 / worst["to_ours"]["int8"],
                    "picked": worst["picked"],
                    "met": 1 / worst["to_ours"]["int8"] >= goal,
                }
            )
        for peer in of_size[0]["to_ours"]:
            if goal := _PEER_GOALS.get((hidden, peer)):
                worst = min(of_size, key=lambda row: row["to_ours"][peer])
                results.append(
                    {
                        "name": f"hidden {hidden}: at least {goal:g} × as fast as {peer}",
                        "worst": worst["to_ours"][peer],
                        "picked": worst["picked"],
                        "met": worst["to_ours"][peer] >= goal,
                        "ceiling": worst["best_ms"][peer] / worst["floor_ms"],
                    }
                )
    return results


def int8_floor_goals(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each run's worst ratio of an int8 step to its floor, against the goal for its size and thread count, if any."""
    results = []
    for run in runs:
        goal = _INT8_FLOOR_GOALS.get((run["hidden"], run["threads"]))
        if goal is not None:
            worst = max(run["steps"], key=lambda step: step["int8_to_floor"])
            where = f"hidden {run['hidden']}, {run['threads']} thread(s)"
            results.append(
                {
                    "name": f"{where}: int8 takes at most {goal} × its floor",
                    "worst": worst["int8_to_floor"],
                    "picked": worst["picked"],
                    "met": worst["int8_to_floor"] <= goal,
                }
            )
    return results
