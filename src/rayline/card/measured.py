"""The parts of a card that come of measuring: scores, slices, plots, calibration, threshold, gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayline.card.document import Block, Cell, Part, Picture, Table, Text, Tone, facts, part, section
from rayline.card.source import CardSource
from rayline.evaluation.gates import Judged, Judgement
from rayline.evaluation.scores import MAIN, printed

TONES: dict[str, Tone] = {"passed": "good", "failed": "bad", "inconclusive": "open"}
MEANINGS = {
    "accuracy": "share of rows with the right label",
    "balanced_accuracy": "mean over the classes of the share that was found",
    "f1": "harmonic mean of precision and recall of the second class",
    "f1_macro": "mean over the classes of each one's F1",
    "precision": "share that is right of the rows said to be of the second class",
    "recall": "share that was found of the rows of the second class",
    "top_3_accuracy": "share of rows whose label is among the three likeliest",
    "log_loss": "mean of minus the logarithm of the true class's probability",
    "brier": "mean squared error of the probability",
    "roc_auc": "chance that a row of the second class ranks above one of the first",
    "average_precision": "precision averaged over all recalls",
    "roc_auc_ovr": "mean over the classes of the area under the ROC curve of each against the rest",
    "rmse": "root of the mean squared error, in the target's own unit",
    "mae": "mean absolute error, in the target's own unit",
    "median_absolute_error": "half of the rows are off by less, in the target's own unit",
    "mape": "mean error as a share of the truth",
    "r2": "share of the target's variance that is explained",
    "bias": "mean of prediction minus truth",
}
MOST_SLICES = 40


def badges(source: CardSource) -> tuple[Cell, ...]:
    """Return what one should see first: blessed or not, the main score, how many rows it was measured on."""
    judgement = source.judgement
    found = [Cell("blessed", "good") if judgement.blessed else Cell("not blessed", "bad")]
    scores = source.evaluation.get("scores", {})
    main = MAIN[source.bundle.task]
    if main in scores:
        found.append(Cell(f"{main} {_bounds(main, scores[main])}"))
    if source.evaluation.get("rows"):
        found.append(Cell(f"{source.evaluation['rows']:,} test rows"))
    return tuple(found)


def metrics(source: CardSource) -> tuple[Part, ...]:
    """Return how it was measured: intervals, threshold."""
    evaluation = source.evaluation
    confidence = evaluation.get("confidence")
    if not evaluation.get("scores") or confidence is None:
        return ()
    words = (
        f"Brackets hold {confidence:.0%} intervals, from {source.config.evaluate.bootstrap:,} resamples of the rows."
    )
    return section("Metrics", part("Threshold", *_threshold(evaluation), level=3), blocks=(Text(words),))


def _threshold(evaluation: Mapping[str, Any]) -> tuple[Block, ...]:
    found = evaluation.get("threshold")
    if not found:
        return ()
    rule = {"f1": "for the best F1", "youden": "for the largest sum of recall and specificity"}.get(
        found["rule"], f"by {found['rule']}"
    )
    text = f"A suggestion {rule}, chosen on {found['rows']:,} rows of the validation part: {found['value']:.3g}."
    names = [name for name in found["at_half"] if name in found["at_value"]]
    rows = tuple(
        (name, _bounds(name, found["at_half"][name]), _bounds(name, found["at_value"][name])) for name in names
    )
    header = ("on the test part", "at 0.5", f"at {found['value']:.3g}")
    return (Text(text), *((Table(header, rows, frozenset({1, 2})),) if rows else ()))


def analyses(source: CardSource) -> tuple[Part, ...]:
    """Return the scores, on all rows and by slice, with plots, and how the gates came out."""
    evaluation = source.evaluation
    return section(
        "Quantitative analyses",
        part("All test rows", *_scores(evaluation), level=3),
        part("By slice", *_slices(source), level=3),
        part("Calibration", *_calibration(evaluation), level=3),
        part("Plots", *_plots(source), level=3),
        part("Serving", *_serving(evaluation), level=3),
        part("Gates", *_gates(source.judgement), level=3),
        part("Behavioural tests", *_judged(source.judgement.behaviour, "test"), level=3),
    )


def _scores(evaluation: Mapping[str, Any]) -> tuple[Block, ...]:
    scores: Mapping[str, Any] = evaluation.get("scores", {})
    rows = tuple((name, _bounds(name, each), MEANINGS.get(name, "")) for name, each in scores.items())
    return (Table(("score", "value", "what it is"), rows, frozenset({1})),) if rows else ()


def _slices(source: CardSource) -> tuple[Block, ...]:
    every = source.evaluation.get("slices", [])
    worse = {each["name"] for each in every if each.get("found")}
    found = list({each["name"]: each for each in reversed(every)}.values())[::-1]  # one that is named and found once
    main = MAIN[source.bundle.task]
    measures = [name for name in dict.fromkeys((main, *_second(source.bundle.task))) if _has(found, name)]
    if not found or not measures:
        return ()
    rows = tuple(
        (
            each["name"],
            f"{each['rows']:,}",
            *(_bounds(name, each["scores"].get(name)) for name in measures),
            Cell("worse than the rest", "open") if each["name"] in worse else "",
        )
        for each in found[:MOST_SLICES]
    )
    header = ("slice", "rows", *measures, "")
    numbers = frozenset(range(1, 2 + len(measures)))
    rest = (Text(f"and {len(found) - MOST_SLICES:,} more slices."),) if len(found) > MOST_SLICES else ()
    return (Table(header, rows, numbers), *rest)


def _second(task: str) -> tuple[str, ...]:
    return ("bias",) if task == "regression" else ("accuracy", "log_loss")


def _has(slices: list[Any], name: str) -> bool:
    return any(name in each["scores"] for each in slices)


def _calibration(evaluation: Mapping[str, Any]) -> tuple[Block, ...]:
    found = evaluation.get("calibration")
    if not found:
        return ()
    return facts(
        [
            ("Mean gap", f"{found['error']:.3g} between what is said and what is so"),
            ("Largest gap", f"{found['largest']:.3g}"),
        ]
    )


def _plots(source: CardSource) -> tuple[Block, ...]:
    return tuple(
        Picture(name.replace("_", " "), f"{name}.png", content) for name, content in sorted(source.plots.items())
    )


def _serving(evaluation: Mapping[str, Any]) -> tuple[Block, ...]:
    found = evaluation.get("infrastructure")
    if not found:
        return ()
    if found["failure"]:
        return (Text(f"It does not serve in a process of its own: {found['failure']}"),)
    pairs: list[tuple[str, str | None]] = []
    for name, each in (("One row", found.get("one")), ("A batch", found.get("batch"))):
        if each:
            of = "" if each["rows"] == 1 else f" for {each['rows']:,} rows"
            pairs.append((name, f"{each['p50_ms']:.3g} ms, 99 of 100 within {each['p99_ms']:.3g} ms{of}"))
    memory = found.get("memory_mb")
    pairs += [
        ("Memory", f"{memory:,.0f} MiB of a process that serves it alone" if memory else None),
        ("Start", f"{found['seconds']:.2g} s to load and answer first" if found.get("seconds") else None),
        ("On disk", f"{found['size_mb']:.3g} MiB"),
    ]
    return facts(pairs)


def _gates(judgement: Judgement) -> tuple[Block, ...]:
    against = (
        "No baseline: when this version was judged, there was no champion to compare it with."
        if judgement.baseline is None
        else f"Compared with champion v{judgement.baseline} on the same rows."
    )
    if not judgement.gates:
        return (Text("No gates were asked."),)
    return (Text(against), *_judged(judgement.gates, "gate"), *(Text(note) for note in judgement.notes))


def _judged(judged: tuple[Judged, ...], what: str) -> tuple[Block, ...]:
    if not judged:
        return ()
    rows = tuple(
        (
            each.what + (f" on {each.where}" if each.where else ""),
            "" if each.rows is None else f"{each.rows:,}",
            Cell(each.verdict, TONES[each.verdict]),
            each.reason,
        )
        for each in judged
    )
    return (Table((what, "rows", "verdict", "why"), rows, frozenset({1})),)


def _bounds(name: str, each: Mapping[str, Any] | None) -> str:
    if each is None or each.get("value") is None:
        return ""
    if each.get("low") is None or each.get("high") is None:
        return printed(name, each["value"])
    return f"{printed(name, each['value'])} [{printed(name, each['low'])}, {printed(name, each['high'])}]"
