"""Every option of `tfdist.plug` is checked, refused in a whole sentence, and documented."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from tests.options.test_strategy_options import ODD, defaults_of, described_in, refused_by
from tfdist.errors import PlugError
from tfdist.training.plug_options import FAMILY_OPTIONS, TrainingOptions, keywords_from

NAMES = [field.name for field in dataclasses.fields(TrainingOptions)]


def refused(what: Callable[[], Any]) -> str:
    with pytest.raises(PlugError) as caught:
        what()
    return str(caught.value)


# ---------------------------------------------------------------- one list of options


def test_the_signature_has_the_defaults_of_the_options() -> None:
    from tfdist.training.plugging import plug

    fields = {field.name: field.default for field in dataclasses.fields(TrainingOptions)}
    assert defaults_of(plug) == fields


def test_every_option_is_described_in_the_docstring() -> None:
    from tfdist.training.plugging import plug

    assert described_in(plug.__doc__) == ["model", *NAMES]


def test_every_option_belongs_to_one_family() -> None:
    of_families = [name for those in FAMILY_OPTIONS.values() for name in those]
    assert sorted(of_families) == sorted(NAMES)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("name", NAMES)
def test_whatever_an_option_is_given_it_is_taken_or_refused_by_its_name(name: str) -> None:
    for value in ODD:
        with refused_by(name, PlugError):
            TrainingOptions.from_keywords({name: value})


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_staleness": -1}, "max_staleness=-1: give a number of steps, 0 or more, or None"),
    (
        {"max_staleness": 4, "push_every": 2},
        (
            "max_staleness with fetch_every=1, push_every=2: a worker's own copy of the weights "
            "misses what others do; choose one of the two"
        ),
    ),
    ({"backup_workers": -1}, "backup_workers=-1: give a number of workers, 0 or more, or None"),
    ({"backup_workers": True}, "backup_workers=True: give a number of workers, 0 or more, or None"),
    *(
        (
            {"backup_workers": 0, name: value},
            (
                f"backup_workers with {name}: each batch is one update that workers make "
                "together, of embeddings that are whole; choose one of the two"
            ),
        )
        for name, value in {
            "fetch_every": 2,
            "push_every": 2,
            "local_learning_rate": 0.5,
            "warm_start": 2,
            "max_staleness": 0,
            "embedding_shards": 2,
            "exact_embeddings": True,
        }.items()
    ),
    (
        {"gradient_dtype": "float32"},
        "gradient_dtype='float32': give 'bfloat16', 'float16' or None",
    ),
    (
        {"error_feedback": True},
        (
            "error_feedback=True without a gradient_dtype: nothing is rounded, so there is nothing "
            "to feed back; give gradient_dtype='bfloat16' too, or leave it out"
        ),
    ),
    *(
        ({"local_steps": value}, f"local_steps={value!r}: give a number of steps, at least 1")
        for value in (0, -3, 2.0, True, "4")
    ),
    *(
        (
            {"virtual_replicas": 8, name: value},
            (
                f"virtual_replicas with {name}: what that exchanges depends on the number of "
                "workers; choose one of the two"
            ),
        )
        for name, value in (("local_steps", 4), ("gradient_dtype", "bfloat16"))
    ),
    *(
        (
            {"virtual_replicas": value},
            f"virtual_replicas={value!r}: give a number of at least 1, or None",
        )
        for value in (0, -1, 2.0, True)
    ),
    (
        {"local_steps": 2, "gradient_dtype": "bfloat16"},
        (
            "local_steps with a gradient_dtype: with local steps no gradients are exchanged; "
            "choose one of the two"
        ),
    ),
    *(
        (
            {"outer_learning_rate": rate, "outer_momentum": momentum},
            (
                f"outer_learning_rate={rate!r}, outer_momentum={momentum!r}: give a rate above 0 "
                "and a momentum from 0 to below 1"
            ),
        )
        for rate, momentum in ((0, 0.0), (-1.0, 0.5), (1.0, -0.1), (1.0, 1.0), (float("nan"), 0))
    ),
    *(
        ({name: value}, f"{name}={value!r}: give a number of steps, at least {least}")
        for name, least in (("fetch_every", 1), ("push_every", 1), ("warm_start", 0))
        for value in (least - 1, 1.5, True, None)
    ),
    *(
        ({name: value}, f"{name}={value!r}: give a number of at least 1, or None")
        for name in ("shard_embeddings_from", "embedding_shards")
        for value in (0, 2.5, False, "1")
    ),
    (
        {"exact_embeddings": True, "fetch_every": 2},
        (
            "exact_embeddings with fetch_every=2, push_every=1: local steps are not those of one "
            "process; choose one of the two"
        ),
    ),
    (
        {"exact_embeddings": True, "push_every": 3},
        (
            "exact_embeddings with fetch_every=1, push_every=3: local steps are not those of one "
            "process; choose one of the two"
        ),
    ),
    *(
        (
            {"local_learning_rate": rate},
            f"local_learning_rate={rate!r}: give a rate above 0, or None",
        )
        for rate in (0, -0.1, float("nan"))
    ),
    *(
        ({"memory_limit": size}, f"memory_limit={size!r}: give a number of bytes above 0, or None")
        for size in (0, -1.0)
    ),
]


@pytest.mark.parametrize(("keywords", "sentence"), WRONG)
def test_a_wrong_value_is_refused_in_one_sentence(keywords: dict[str, Any], sentence: str) -> None:
    assert refused(lambda: TrainingOptions.from_keywords(keywords)) == sentence


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"gradient_dtype": "float16"},
        {"gradient_dtype": "bfloat16", "error_feedback": True},
        {"local_steps": 2, "outer_learning_rate": 0.7, "outer_momentum": 0.9},
        {"outer_momentum": 0.0},
        {"fetch_every": 1, "push_every": 1, "warm_start": 0, "exact_embeddings": True},
        {"fetch_every": 4, "push_every": 4, "warm_start": 1},
        {"shard_embeddings_from": None, "embedding_shards": 1},
        {"shard_embeddings_from": 1, "embedding_shards": None},
        {"local_learning_rate": 1e-9, "memory_limit": 1},
        {"costs": {"dense": 0.1}},
    ],
)
def test_what_is_right_is_taken_as_it_is(keywords: dict[str, Any]) -> None:
    options = TrainingOptions.from_keywords(keywords)
    assert {name: getattr(options, name) for name in keywords} == keywords


def test_a_misspelt_option_is_refused_with_the_nearest() -> None:
    said = refused(lambda: TrainingOptions.from_keywords({"local_step": 2}))
    known = ", ".join(NAMES)
    assert said == f"plug has no option 'local_step'; did you mean 'local_steps'? it has {known}"


def test_an_option_that_is_like_no_other_is_refused_with_all() -> None:
    said = refused(lambda: TrainingOptions.from_keywords({"xyzzy": 2}))
    assert said == f"plug has no option 'xyzzy'; it has {', '.join(NAMES)}"


# ---------------------------------------------------------------- what means nothing

GIVEN: dict[str, Any] = {
    "gradient_dtype": "bfloat16",
    "error_feedback": True,
    "local_steps": 2,
    "outer_learning_rate": 0.5,
    "outer_momentum": 0.5,
    "cache_data": True,
    "data_on_device": True,
    "virtual_replicas": 8,
    "shard_optimizer": True,
    "fetch_every": 2,
    "push_every": 2,
    "local_learning_rate": 0.5,
    "warm_start": 2,
    "max_staleness": 3,
    "backup_workers": 1,
    "shard_embeddings_from": None,
    "embedding_shards": 2,
    "exact_embeddings": True,
    "costs": {"dense": 1.0},
    "memory_limit": 1e9,
}
"""Every option, with a value that is not its default."""
CALLED = {
    "synchronous": "synchronous",
    "parameter_server": "parameter server",
    "pipeline": "pipeline",
}


def test_every_option_is_tried_here() -> None:
    assert list(GIVEN) == NAMES


@pytest.mark.parametrize("family", FAMILY_OPTIONS)
@pytest.mark.parametrize("name", GIVEN)
def test_an_option_that_a_family_would_ignore_is_refused(name: str, family: str) -> None:
    options = dataclasses.replace(TrainingOptions(), **_with_its_own(name))
    if name in FAMILY_OPTIONS[family]:
        options.check_for(family)
        return
    only = next(one for one, those in FAMILY_OPTIONS.items() if name in those)
    named = "gradient_dtype" if name == "error_feedback" else name  # the first of the two
    assert refused(lambda: options.check_for(family)) == (
        f"{named} means nothing to the {CALLED[family]} strategy of this model, only to "
        f"{CALLED[only]} ones: leave it out"
    )


def _with_its_own(name: str) -> dict[str, Any]:
    """The option, with the one that it means nothing without."""
    return {
        name: GIVEN[name],
        **({"gradient_dtype": "float16"} if name == "error_feedback" else {}),
    }


def test_a_family_may_name_its_options_itself() -> None:
    options = TrainingOptions(warm_start=2)
    options.check_for("of_its_own", ("warm_start",))
    assert refused(lambda: options.check_for("of_its_own", ())) == (
        "warm_start means nothing to the of its own strategy of this model, only to parameter "
        "server ones: leave it out"
    )


# ---------------------------------------------------------------- as text


@pytest.mark.parametrize(
    ("text", "keywords"),
    [
        ("", {}),
        (" , ,", {}),
        ("local_steps=4", {"local_steps": 4}),
        (" outer-momentum = 0.9 , local-steps=4 ", {"outer_momentum": 0.9, "local_steps": 4}),
        (
            "gradient_dtype=bfloat16,error_feedback=True",
            {"gradient_dtype": "bfloat16", "error_feedback": True},
        ),
        ("cache_data=false", {"cache_data": False}),
        ("gradient_dtype=none", {"gradient_dtype": None}),
        ("shard_embeddings_from=None", {"shard_embeddings_from": None}),
        ("memory_limit=2e9", {"memory_limit": 2e9}),
        ("gradient_dtype='float16'", {"gradient_dtype": "float16"}),
    ],
)
def test_text_is_read_as_the_keywords_that_it_names_and_no_others(
    text: str, keywords: dict[str, Any]
) -> None:
    found = keywords_from(text)
    assert found == keywords
    assert list(map(type, found.values())) == list(map(type, keywords.values()))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("local_steps", "'local_steps' among plug's options; write name=value,name=value"),
        ("local_steps=", "'local_steps=' among plug's options; write name=value,name=value"),
        ("local_steps=2,local-steps=3", "local_steps twice among plug's options; give it once"),
        (
            "costs=3",
            "costs as text; measured costs can only be given in a script: plug(model, costs=...)",
        ),
        ("cache_data=1", "cache_data=1: give true or false"),
        ("exact_embeddings=yes", "exact_embeddings='yes': give true or false"),
        ("local_steps=two", "local_steps='two': give a number"),
        ("local_steps=true", "local_steps=True: give a number"),
        ("memory_limit=1GB", "memory_limit='1GB': give a number"),
        ("local_steps=0", "local_steps=0: give a number of steps, at least 1"),
    ],
)
def test_text_that_cannot_be_read_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    assert refused(lambda: keywords_from(text)) == sentence


def test_a_misspelt_name_in_text_is_refused_with_the_nearest() -> None:
    assert refused(lambda: keywords_from("warm-strat=2")).startswith(
        "plug has no option 'warm_strat'; did you mean 'warm_start'? it has gradient_dtype, "
    )
