"""``schema.yaml``: it gives back its schema, names what is mistyped, and keeps what a person wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayline.config import Config, DataConfig, FeaturesConfig, ValidateConfig
from rayline.errors import ConfigError, NotFoundError
from rayline.features.reading.canonical import level_order, level_text
from rayline.features.schemas.schema import ColumnSchema, Schema
from rayline.features.schemas.schema_file import configured_schema, parsed_schema, read_schema
from rayline.features.schemas.schema_text import revised_text, schema_text

BASE = """\
# ours
format: 2
target: y
task: binary
max_missing: 0.1  # agreed with sales
columns:
  # in the order of the form
  size: {kind: numeric, integer: true, min: 0, max: 12, median: 6}  # centimetres
  colour:
    kind: categorical
    domain: [blue, red]

  when: {kind: datetime, min: 2011-01-01, max: 2012-12-31T23:00:00}
  y: {kind: categorical, domain: [no, 'yes'], environments: [TRAINING]}
"""

SHARES = st.none() | st.integers(0, 100).map(lambda share: share / 100)
NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cn")), min_size=1, max_size=12
)
LEVELS = (
    st.lists(
        st.one_of(
            st.integers().map(str),
            st.floats(allow_nan=False, allow_infinity=False).map(str),
            NAMES,
            st.booleans().map(str),
        ),
        min_size=2,
        max_size=60,
    )
    .map(lambda texts: {level_text(text) for text in texts})
    .map(lambda texts: tuple(sorted(texts, key=level_order)))
    .filter(lambda texts: len(texts) > 1)
)
STATED = st.fixed_dictionaries(
    {
        "nullable": st.booleans(),
        "required": st.booleans(),
        "unique": st.booleans(),
        "max_missing": SHARES,
        "environments": st.sampled_from([("TRAINING",), ("SERVING",), ("TRAINING", "SERVING")]),
    }
)


@st.composite
def columns(draw: st.DrawFn) -> ColumnSchema:
    kind = draw(st.sampled_from(["numeric", "categorical", "boolean", "datetime", "text", "vector", "image"]))
    own: dict[str, object] = {}
    if kind == "categorical":
        own["levels"] = draw(st.none() | LEVELS)
    elif kind in ("numeric", "datetime"):
        whole = st.integers(-62_000_000_000_000_000, 4_000_000_000_000_000).map(float)
        number = whole if kind == "datetime" else st.floats(-1e90, 1e90) | st.integers(-99, 99).map(float)
        low, middle, high = sorted(draw(st.tuples(number, number, number)))
        own |= {"minimum": low, "center": middle, "maximum": high}
        own["integer"] = kind == "numeric" and draw(st.booleans())
    elif kind in ("vector", "image"):
        own["shape"] = tuple(draw(st.lists(st.integers(1, 64), min_size=1, max_size=3)))
    return ColumnSchema(draw(NAMES), kind, **own, **draw(STATED))


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    inputs = draw(st.lists(columns(), max_size=5, unique_by=lambda column: column.name))
    target = draw(NAMES.filter(lambda name: name not in {each.name for each in inputs}))
    limits = {"min_rows": draw(st.integers(0, 9)), "max_duplicates": draw(SHARES), "max_missing": draw(SHARES)}
    if draw(st.booleans()):
        answer = draw(st.none() | st.just(ColumnSchema(target, "numeric", True, False, None, 1.0, 9.0, 4.0)))
        return Schema(tuple(inputs), target, "regression", (), answer, **limits)
    return Schema(tuple(inputs), target, "multiclass", draw(LEVELS), **limits)


@settings(deadline=None)
@given(schemas())
def test_a_schema_comes_back_from_its_file_and_from_json(schema: Schema) -> None:
    assert parsed_schema(schema_text(schema)) == schema
    assert Schema.from_json(schema.to_json()) == schema


@settings(deadline=None, max_examples=50)
@given(schemas(), schemas())
def test_a_changed_file_says_the_changed_schema(before: Schema, after: Schema) -> None:
    kept = {each.name: each for each in before.columns}
    changed = tuple({**kept, **{each.name: each for each in after.columns if each.name != before.target}}.values())
    wanted = replace(before, columns=changed, max_missing=after.max_missing or before.max_missing)
    assert parsed_schema(revised_text(schema_text(before), wanted)) == replace(
        wanted, columns=tuple(each for each in changed)
    )


def test_what_a_person_wrote_stays() -> None:
    schema = parsed_schema(BASE)
    assert revised_text(BASE, schema) == BASE
    size, colour, when = schema.columns
    changed = replace(
        schema,
        columns=(replace(size, maximum=13.0), replace(colour, levels=("blue", "green", "red")), when),
        max_duplicates=0.02,
        max_missing=0.2,
    )
    text = revised_text(BASE, changed)
    assert parsed_schema(text) == changed
    assert "  size: {kind: numeric, integer: true, min: 0, max: 13, median: 6}  # centimetres\n" in text
    assert "  colour: {kind: categorical, domain: [blue, green, red]}\n\n  when:" in text
    assert "# ours\n" in text
    assert "  # in the order of the form\n" in text
    assert "max_missing: 0.2  # share of rows" in text
    assert text.count("max_duplicates: 0.02") == 1


def test_a_file_whose_columns_share_lines_is_written_anew() -> None:
    text = (
        "{format: 2, target: y, task: regression, columns: {x: {kind: numeric, min: 0, max: 1},\n"
        " y: {kind: numeric, environments: [TRAINING]}}}"
    )
    schema = parsed_schema(text)
    assert revised_text(text, schema) == text
    (column,) = schema.columns
    wider = replace(schema, columns=(replace(column, maximum=2.0), ColumnSchema("z", "boolean")))
    assert parsed_schema(revised_text(text, wider)) == wider


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("integer: true", "intger: true", r"unknown schema key 'columns.size.intger'. Did you mean 'integer'\?"),
        ("max_missing", "max_misssing", r"unknown schema key 'max_misssing'. Did you mean 'max_missing'\?"),
        (
            "kind: numeric",
            "kind: numerical",
            r"schema key 'columns.size.kind' is 'numerical'. Did you mean 'numeric'\?",
        ),
        ("[TRAINING]", "[TRAINNG]", r"'columns.y.environments\[0\]' is 'TRAINNG'. Did you mean 'TRAINING'\?"),
        ("task: binary", "task: binry", r"'task' is 'binry'. Did you mean 'binary'\?"),
        ("target: y", "target: z", "'target' names 'z', which is not among 'columns'"),
        ("min: 0", "min: 99", r"'columns.size.min' \(99.0\) is above its max"),
        ("min: 0", "min: small", "'columns.size.min' is 'small', and must be a number"),
        ("min: 2011-01-01", "min: soon", "'columns.when.min' is 'soon', and must be an ISO 8601 date"),
        ("max_missing: 0.1", "max_missing: 10", "'max_missing'"),
        ("{kind: numeric,", "{kind: boolean,", "does not belong to a column of the kind 'boolean'"),
        ("[no, 'yes']", "[no, 'yes', maybe]", "lists 3 levels: a binary task needs the two classes"),
        ("domain: [blue, red]", "domain: [blue, '']", "lists an empty text"),
        ("format: 2", "format: 9", "'format' is 9: this Rayline reads formats 1 to 2"),
        ("columns:", "columns: [", "not valid YAML"),
    ],
)
def test_a_mistyped_file_names_the_key_and_the_way_out(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "schema.yaml"
    file.write_text(BASE.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as raised:
        read_schema(file)
    assert str(file) in str(raised.value)


def test_the_configuration_and_its_schema_must_agree(tmp_path: Path) -> None:
    def config(**features: object) -> Config:
        checks = ValidateConfig(schema=str(tmp_path / "schema.yaml"))
        declared = FeaturesConfig(**{"target": "y", **features})  # type: ignore[arg-type]
        return Config(name="t", data=DataConfig(source="t.csv"), features=declared, validate=checks)

    with pytest.raises(NotFoundError, match="rayline init"):
        configured_schema(config())
    (tmp_path / "schema.yaml").write_text(BASE)
    whole, fewer = configured_schema(config()), configured_schema(config(drop=("when",)))
    assert whole is not None
    assert fewer is not None
    assert whole.names == ("size", "colour", "when")
    assert fewer.names == ("size", "colour")
    with pytest.raises(ConfigError, match="has the target 'y', the configuration 'z'"):
        configured_schema(config(target="z"))
    with pytest.raises(ConfigError, match="has the task 'binary', the configuration 'regression'"):
        configured_schema(config(task="regression"))


@pytest.mark.parametrize("form", [1, 2])
def test_an_older_schema_loads(form: int) -> None:
    column = {"name": "x", "kind": "numeric", "integer": False, "nullable": True, "levels": None}
    raw = {"format": form, "target": "y", "task": "regression", "classes": [], "columns": [column]}
    schema = Schema.from_json(raw)
    assert schema.columns == (ColumnSchema("x", "numeric", nullable=True),)
    assert (schema.answer, schema.max_missing, schema.min_rows) == (None, None, 0)
