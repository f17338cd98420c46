"""How a Study takes on and gives back workers: it asks, uses what comes, yields, and does not go to and fro."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rayline.training.sharing import Share
from rayline.tuning.hiring import Count, Move, allowed, next_move, told


def test_on_a_cluster_without_nodes_workers_are_hired_all_the_same() -> None:
    nothing_yet = Share(now=0, most=4, per_node=2, grows=True)
    assert next_move(Count(), nothing_yet, 9, None) == Move(hire=4)
    assert told(0, 9, nothing_yet, 4) == "0 of 4 trials running: waiting for 2 nodes"
    half = Share(now=2, most=4, per_node=2, grows=True)
    assert told(2, 9, half, 2) == "2 of 4 trials running: waiting for 1 node"
    assert told(4, 9, Share(now=4, most=4, per_node=2), 0) == ""


def test_no_wait_is_silent() -> None:
    full = Share(now=0, most=0, kept=2.0)
    assert told(0, 3, full, 0) == (
        "0 of 3 trials running: the cluster has no room for one just now; 2 CPUs are left to services "
        "(cluster.reserve_cpus)"
    )
    assert told(0, 3, Share(now=2, most=2), 2) == ""  # they are starting
    assert told(0, 0, full, 0) == ""


def test_what_waits_for_a_node_leaves_alone_what_is_kept_here() -> None:
    guarded = Share(now=1, most=3, kept=1.0, per_node=2, grows=True)
    assert next_move(Count(), guarded, 9, None) == Move(hire=1, hire_apart=2)
    # Room has come up here: one of those who wait for a node is hired here instead.
    assert next_move(Count(busy=1, apart=2), Share(2, 3, 1.0, 2, True), 9, None) == Move(hire=1, drop_apart=1)


def test_on_a_fixed_cluster_no_more_than_fits_is_hired_but_for_a_number_that_was_asked_for() -> None:
    two = Share(now=2, most=2)
    assert next_move(Count(), two, 8, None) == Move(hire=2)
    assert next_move(Count(), two, 8, 4) == Move(hire=4)
    assert next_move(Count(), Share(now=1, most=1, kept=1.0), 8, 4) == Move(hire=1)


def test_a_worker_without_work_goes_after_a_moment_and_one_that_did_not_start_at_once() -> None:
    assert next_move(Count(busy=1, idle=2), Share(3, 3), 0, None) == Move()
    assert next_move(Count(busy=1, idle=2, bored=2), Share(3, 3), 0, None) == Move(drop_idle=2)
    assert next_move(Count(busy=1, starting=1, unplaced=1, apart=1), Share(3, 3), 0, None) == Move(
        drop_starting=1, drop_apart=1
    )


def test_a_service_that_waits_gets_the_place_of_an_idle_worker_and_busy_ones_end_their_trial() -> None:
    pressed = Share(now=1, most=1, pressed=True)
    count = Count(busy=1, idle=1)
    assert next_move(count, pressed, 5, None) == Move(drop_idle=1)
    assert next_move(Count(busy=2), pressed, 5, None) == Move()
    assert allowed(Count(busy=2), pressed) == 1  # the next of them to end gets no other trial


@given(
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 9),
    st.integers(0, 6),
    st.one_of(st.none(), st.integers(1, 8)),
    st.sampled_from([0.0, 2.0]),
    st.booleans(),
)
def test_after_a_few_moves_nothing_more_is_moved(
    busy: int, idle: int, starting: int, apart: int, waiting: int, room: int, most: int | None, kept: float, grows: bool
) -> None:
    """With the same room and the same work, hiring comes to rest, within what is allowed and wanted."""
    share = Share(room, room + 2 * grows, kept, 2, grows)
    count = Count(busy, idle, idle, starting, 0, apart)
    for _ in range(6):
        move = next_move(count, share, waiting, most)
        count = Count(
            count.busy,
            count.idle - move.drop_idle,
            count.idle - move.drop_idle,
            count.starting - move.drop_starting + move.hire,
            0,
            count.apart - move.drop_apart + move.hire_apart,
        )
        assert min(count.idle, count.starting, count.apart) >= 0
    assert next_move(count, share, waiting, most) == Move()
    if kept:
        assert count.here <= max(room, count.busy)
