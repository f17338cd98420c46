"""What every storage must do, for whoever works with it from any node: the conformance suite of the seam.

A suite's ``storage`` is the URI or folder; ``node`` makes what follows run as on another node, with a disk of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rayline import storage as seam
from rayline.errors import CheckFailed
from rayline.ledger import Ledger, Record

Node = Callable[[str], Path]
"""Go to the node of a name; returns the folder through which the storage is used there."""


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def filled(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        written(folder / name, text)
    return folder


def held_by(folder: Path) -> dict[str, str]:
    return {each.relative_to(folder).as_posix(): each.read_text() for each in folder.rglob("*") if each.is_file()}


class StorageSuite:
    """Subclasses give the fixture ``node``."""

    def test_a_file_that_one_node_keeps_is_fetched_by_another(self, node: Node) -> None:
        seam.keep(written(node("a") / "runs" / "run.json", "one"))
        root = node("b")
        assert seam.exists(root / "runs" / "run.json")
        assert seam.fetch(root / "runs" / "run.json").read_text() == "one"

    def test_a_file_that_was_changed_elsewhere_is_refreshed_and_a_newer_one_here_stays(self, node: Node) -> None:
        seam.keep(written(node("a") / "f.json", "one"))
        assert seam.refresh(node("b") / "f.json").read_text() == "one"
        written(node("b") / "f.json", "not kept yet")
        assert seam.refresh(node("b") / "f.json").read_text() == "not kept yet"
        seam.keep(written(node("a") / "f.json", "two"))
        assert seam.refresh(node("b") / "f.json").read_text() == "two"

    def test_a_folder_comes_whole_with_its_folders_and_without_drafts(self, node: Node) -> None:
        files = {"manifest.json": "m", "train/0.arrow": "t", "deep/er/x": "x"}
        folder = filled(node("a") / "features" / "k", files)
        seam.keep(folder)
        assert held_by(seam.fetch(node("b") / "features" / "k")) == files

    def test_a_folder_that_is_replaced_is_the_new_one_for_whoever_refreshes(self, node: Node) -> None:
        folder = filled(node("a") / "bundle", {"a": "1", "only-before": "1"})
        seam.keep(folder)
        seam.fetch(node("b") / "bundle")
        (node("a") / "bundle" / "only-before").unlink()
        seam.keep(filled(node("a") / "bundle", {"a": "2"}))
        assert held_by(seam.refresh(node("b") / "bundle")) == {"a": "2"}

    def test_what_is_nowhere_is_not_there_and_no_error(self, node: Node) -> None:
        root = node("a")
        assert not seam.exists(root / "nothing")
        assert not seam.fetch(root / "nothing").exists()
        assert not seam.refresh(root / "nothing.json").exists()
        assert seam.names(root / "nothing") == []
        assert seam.files_below(root / "nothing") == []
        seam.keep(root / "nothing")
        assert not seam.exists(root / "nothing")

    def test_names_are_of_whole_files_and_folders_wherever_they_were_made(self, node: Node) -> None:
        for epoch in (1, 2):
            seam.keep(filled(node("a") / "run" / f"epoch-{epoch}", {"weights": "w", "more/x": "x"}))
        seam.keep(written(node("a") / "run" / "run.json", "r"))
        assert seam.names(node("b") / "run") == ["epoch-1", "epoch-2", "run.json"]
        assert seam.names(node("a") / "run") == ["epoch-1", "epoch-2", "run.json"]

    def test_files_below_are_found_at_any_depth(self, node: Node) -> None:
        for name in ("1/2026-01-01/a.parquet", "2/2026-01-01/b.parquet"):
            seam.keep(written(node("a") / "capture" / name, name))
        found = seam.files_below(node("b") / "capture")
        assert [each.relative_to(node("b") / "capture").as_posix() for each in found] == [
            "1/2026-01-01/a.parquet",
            "2/2026-01-01/b.parquet",
        ]
        assert [seam.fetch(each).read_text() for each in found] == ["1/2026-01-01/a.parquet", "2/2026-01-01/b.parquet"]

    def test_a_part_of_a_folder_is_fetched_alone(self, node: Node) -> None:
        seam.keep(filled(node("a") / "parts", {"train/0": "zero", "train/1": "one", "parts.json": "{}"}))
        assert seam.fetch_part(node("b") / "parts", "train/1").read_text() == "one"
        assert seam.fetch_parts(node("b") / "parts", lambda name: False) == {"train/0", "train/1", "parts.json"}
        seam.fetch_parts(node("b") / "parts")
        assert held_by(node("b") / "parts") == {"train/0": "zero", "train/1": "one", "parts.json": "{}"}

    def test_a_finished_step_is_found_on_another_node_with_its_places_there(self, node: Node) -> None:
        here = node("a")
        result = {"path": str(here / "features" / "k"), "uri": "runs:/1", "many": [{"at": str(here / "x")}]}
        Ledger(here / "ledger", here).write(Record("features", "k", 1.0, result))
        there = node("b")
        found = Ledger(there / "ledger", there).find("features", "k")
        assert found is not None
        assert found.result == {
            "path": str(there / "features" / "k"),
            "uri": "runs:/1",
            "many": [{"at": str(there / "x")}],
        }

    def test_a_second_driver_is_told_who_holds_a_project_and_comes_in_when_that_one_ends(self, node: Node) -> None:
        first, second = Ledger(node("a") / "ledger" / "churn"), Ledger(node("b") / "ledger" / "churn")
        with (
            first.held("churn"),
            pytest.raises(CheckFailed, match=r"project 'churn' is being run by process \d+ on \S+, since 20.* UTC"),
            second.held("churn"),
        ):
            pytest.fail("two at once")
        with second.held("churn"):
            pass

    def test_of_many_who_come_at_once_one_holds_it(self, node: Node) -> None:
        file, inside, refused = node("a") / "lock", list[int](), list[int]()
        done, ready = threading.Event(), threading.Barrier(4)

        def come(number: int) -> None:
            ready.wait()
            try:
                with seam.held(file, "it"):
                    inside.append(number)
                    done.wait(60)
            except CheckFailed:
                refused.append(number)
                if len(refused) == 3:
                    done.set()

        threads = [threading.Thread(target=come, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(inside), len(refused)) == (1, 3)
