"""Stage, progress and remaining time, from events alone; and what a follower reads of them."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rayline.cli.job_screen import JobScreen, duration, saved, words
from rayline.events import Epoch, Event, Finished, Notice, Resumed, RolloutMoved, Started, TrialEnded
from rayline.ledger import Ledger, Record
from rayline.progress import JOB_VARIABLE, MARK, Course, Progress, Reporter, in_job, latest, read_line, reporter

STEPS = ("features", "train", "evaluate", "release")


def course(past: dict[str, float] | None = None) -> Course:
    return Course("p", STEPS, past or {})


def test_epochs_tell_what_is_left_of_a_step_and_past_runs_of_the_others() -> None:
    at = course({"evaluate": 5.0, "release": 20.0})
    at.hear(Finished("features", 30.0, True, ""), 0.0)
    at.hear(Started("train"), 0.0)
    at.hear(Epoch(10, 40, {}), 10.0)
    seen = at.progress(10.0)
    assert (seen.stage, seen.step, seen.steps, seen.done, seen.of, seen.unit) == ("train", 2, 4, 10, 40, "epoch")
    assert seen.stage_eta_s == 30.0
    assert seen.eta_s == 55.0
    assert seen.cached == ("features",)
    assert seen.saved_s == 30.0


def test_a_resumed_training_counts_its_own_epochs_only() -> None:
    at = course()
    at.hear(Started("train"), 0.0)
    at.hear(Resumed("train", 30, 40), 1.0)
    at.hear(Epoch(35, 40, {}), 5.0)
    assert at.progress(5.0).stage_eta_s == 5.0
    assert at.progress(5.0).eta_s is None, "nothing is known of the steps after it"


def test_without_units_the_last_time_tells() -> None:
    at = course({"features": 8.0, "train": 10.0, "evaluate": 1.0, "release": 1.0})
    at.hear(Started("features"), 100.0)
    assert at.progress(103.0).eta_s == 17.0
    assert at.progress(200.0).stage_eta_s == 0.0


def test_trials_and_traffic_are_counted() -> None:
    at = Course("p", ("tune", "release"), {})
    at.hear(Started("tune"), 0.0)
    for number in (3, 0):
        at.hear(TrialEnded(number, 4, "finished", {}, "loss 0.1"), 6.0)
    seen = at.progress(6.0)
    assert (seen.done, seen.of, seen.unit, seen.stage_eta_s) == (2, 4, "trial", 6.0)
    at.hear(Finished("tune", 9.0, False, ""), 9.0)
    at.hear(Started("release"), 9.0)
    at.hear(RolloutMoved("Progressing", 1, 2, 20, "analysis"), 10.0)
    seen = at.progress(10.0)
    assert (seen.stage, seen.done, seen.of, seen.text) == ("release", 20, 100, "analysis")


EVENTS = st.one_of(
    st.builds(Started, st.sampled_from(STEPS)),
    st.builds(Finished, st.sampled_from(STEPS), st.floats(0, 1e4), st.booleans(), st.text(max_size=20)),
    st.builds(Epoch, st.integers(1, 50), st.just(50), st.just({})),
    st.builds(Resumed, st.sampled_from(STEPS), st.integers(0, 50), st.just(50)),
    st.builds(RolloutMoved, st.just("Progressing"), st.just(1), st.just(2), st.integers(0, 100), st.text(max_size=20)),
    st.builds(Notice, st.text(max_size=20)),
)


@given(
    st.lists(st.tuples(EVENTS, st.floats(0, 100)), max_size=30),
    st.dictionaries(st.sampled_from(STEPS), st.floats(0, 1e4)),
)
def test_whatever_happens_a_line_reads_back_and_no_time_is_negative(
    heard: list[tuple[Event, float]], past: dict[str, float]
) -> None:
    at, now = course(past), 0.0
    for event, later in heard:
        now += later
        at.hear(event, now)
        seen = at.progress(now)
        assert read_line(seen.line()) == seen
        assert "\n" not in seen.line()
        assert all(eta is None or eta >= 0 for eta in (seen.stage_eta_s, seen.eta_s))
        assert words(seen)


def test_a_log_tells_the_latest_of_many_lines() -> None:
    lines = ["Running entrypoint", *(Progress("p", stage, 1, 2).line() for stage in STEPS), "a trace", MARK + "{broken"]
    found = latest("\n".join(lines))
    assert found is not None
    assert found.stage == "release"
    assert latest("nothing here\n@rayline") is None


def test_lines_are_told_within_a_job_only_and_times_are_kept_for_the_next_run(tmp_path: Path) -> None:
    assert in_job({JOB_VARIABLE: json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}})})
    for other in ("", "{}", "null", "[]", '{"metadata": {}}'):
        assert not in_job({JOB_VARIABLE: other})
    now, lines, heard = [0.0], [], []
    at = Reporter(heard.append, course(), tmp_path / "ledger" / "timings.json", lines.append, lambda: now[0])
    at(Started("train"))
    for number in range(1, 41):
        now[0] += 0.1
        at(Epoch(number, 40, {}))
    at(Finished("train", 4.0, False, "done"))
    at.ended()
    assert len(heard) == 42
    assert 5 <= len(lines) <= 9, "not a line for each of the epochs"
    last = latest("\n".join(lines))
    assert last is not None
    assert last.stage == "done"
    silent = reporter(heard.append, "p", STEPS, tmp_path / "ledger")
    assert silent._course.past == {"train": 4.0}
    (tmp_path / "ledger" / "timings.json").write_text("{broken")
    assert reporter(heard.append, "p", STEPS, tmp_path / "ledger")._course.past == {}
    Ledger(tmp_path / "ledger").write(Record("features", "0" * 16, 7.5, {}))
    assert reporter(heard.append, "p", STEPS, tmp_path / "ledger")._course.past == {"features": 7.5}


def test_a_follower_sees_ordinary_lines_and_not_the_marked_ones() -> None:
    console = Console(record=True, width=200)
    screen = JobScreen(console)
    screen.sent("raysubmit_1", 1)
    text = f"hello\n{Progress('p', 'train', 2, 7, 3, 40, 'epoch', 12.0, 50.0).line()}\nworld [bold]\nand no end"
    for place in range(0, len(text), 7):
        screen.printed(text[place : place + 7])
    screen.resting()
    said = console.export_text()
    assert "hello\nworld [bold]\nand no end" in said
    assert MARK not in said
    assert screen.last is not None
    assert words(screen.last) == "step 2 of 7, epoch 3 of 40, about 50 s left"


def test_what_was_saved_is_told() -> None:
    done = Progress("p", "done", 7, 7, cached=("features", "train"), saved_s=124.0)
    assert saved(done) == "2 of 7 steps were cached (features, train): 2 min 04 s saved"
    assert saved(Progress("p", "done", 7, 7)) == ""
    assert [duration(each) for each in (0, 3.21, 12.3, 125, 7300)] == [
        "0 s",
        "3.2 s",
        "12 s",
        "2 min 05 s",
        "2 h 01 min",
    ]
