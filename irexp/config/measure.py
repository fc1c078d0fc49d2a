"""The names of measures, as in ir_measures (https://ir-measur.es): nDCG@10, RR(rel=2)@10, AP, R@100."""

# mypy: untyped_calls_exclude=ir_measures

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any

import ir_measures
from ir_measures.providers import FallbackProvider

from irexp.types import MOST_RELEVANT, UserError

EXAMPLES = "nDCG@10, RR(rel=2)@10, AP, R@100"

# The engines, in order of preference. Not ir_measures.DefaultPipeline: it takes whatever happens to be installed, and
# its gdeval (Perl) and accuracy engines fail on ids that are not numbers and on queries without a relevant result.
ENGINE = FallbackProvider([ir_measures.pytrec_eval, ir_measures.judged, ir_measures.msmarco, ir_measures.compat])


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most  # Python counts True as an integer, and so does ir_measures


#: The values of each parameter that the engines can compute; for others they fail, or silently return something else.
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "cutoff": (lambda value: _is_whole(value, 1, 2**31 - 1), "a number of at least 1"),
    "rel": (lambda value: _is_whole(value, 1, MOST_RELEVANT), "a grade of at least 1"),
    "recall": (lambda value: 0 <= value <= 1 and round(value, 2) == value, "from 0 to 1, with at most two digits"),
    "beta": (lambda value: 0 <= value <= 1000, "from 0 to 1000"),
    "p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "gains": (
        lambda value: all(_is_whole(gain, 0, MOST_RELEVANT) for pair in value.items() for gain in pair),
        "a whole number for each grade",
    ),
}


def parse_measures(names: Sequence[str]) -> list[ir_measures.Measure]:
    """The measures of these names, in their order.

    Raises:
        UserError: for a name that ir_measures does not know or our engines cannot compute, and for a name given twice.
    """
    if isinstance(names, str) or not names:
        raise UserError(f"measures must be a list with at least one name such as {EXAMPLES}; got {names!r}")
    name_of: dict[ir_measures.Measure, str] = {}
    for name in names:
        measure = parse_measure(name)
        if measure in name_of:
            raise UserError(f"{name_of[measure]!r} and {name!r} are the same measure; leave one out")
        name_of[measure] = name
    return list(name_of)


def parse_measure(name: str) -> ir_measures.Measure:
    """The measure of a name.

    Raises:
        UserError: for a name that ir_measures does not know or our engines cannot compute, and for what is not a name.
    """
    if not isinstance(name, str):
        hint = f"; write {str(name)!r}" if isinstance(name, ir_measures.Measure) else ""
        raise UserError(f"a measure is given by its name, such as {EXAMPLES}, not by an object such as {name!r}{hint}")
    base_name = re.split(r"[@(]", name, maxsplit=1)[0].strip()
    if base_name not in ir_measures.measures.registry:
        raise UserError(f"there is no measure {name!r}{_nearest(name, base_name)}; examples: {EXAMPLES}")
    try:
        measure = ir_measures.parse_measure(name)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise UserError(
            f"{name[:80]!r} is not of the form Measure(parameter=value)@cutoff; examples: {EXAMPLES}"
        ) from None
    try:
        measure.validate_params()
    except AssertionError:  # its words show the address of an object
        known = [f"{key} ({info.desc})" if info.desc else key for key, info in measure.SUPPORTED_PARAMS.items()]
        raise UserError(
            f"a parameter of {name!r} is wrong or missing; {base_name} has: {', '.join(known) or 'none'}; "
            f"{_how_written(measure)}"
        ) from None
    for parameter, (is_right, words) in _RANGES.items():
        if parameter in measure.params and not is_right(measure.params[parameter]):
            raise UserError(f"the {parameter} of {name!r} must be {words}")
    if not _is_computed(measure):
        engines = ", ".join(engine.NAME for engine in ENGINE.providers)
        raise UserError(f"none of the engines {engines} computes {name!r}; examples: {EXAMPLES}")
    return measure


def _how_written(measure: ir_measures.Measure) -> str:
    """How a wrong parameter is written: those that are fractions need a decimal point."""
    fractions = [key for key, info in measure.SUPPORTED_PARAMS.items() if info.dtype is float]
    whole = [f"{key}={value:.1f}" for key, value in measure.params.items() if key in fractions and type(value) is int]
    if whole:
        return f"with a decimal point: {', '.join(whole)}"
    return f"a cutoff is written {measure.NAME}@10"


def leaves_grade_open(measure: ir_measures.Measure) -> bool:
    """Whether a measure is binary, and its name does not show the grade from which documents are relevant.

    >>> [leaves_grade_open(parse_measure(name)) for name in ("RR@10", "RR(rel=2)@10", "nDCG@10")]
    [True, False, False]
    """
    info = measure.SUPPORTED_PARAMS.get("rel")
    return info is not None and info.default == 1 and measure.params.get("rel", 1) == 1


def leaves_out_unjudged(measure: ir_measures.Measure) -> bool:
    """Whether a measure is computed as if unjudged documents were not in the run.

    >>> [leaves_out_unjudged(parse_measure(name)) for name in ("Bpref", "nDCG(judged_only=True)@10", "nDCG@10")]
    [True, True, False]
    """
    return measure.NAME == "Bpref" or bool(measure.params.get("judged_only"))


def counting_from(measure: ir_measures.Measure, relevance: int) -> ir_measures.Measure:
    """The measure; if it is binary and names no grade, documents of at least grade `relevance` are relevant for it.

    Raises:
        UserError: if the measure names grade 1, which its name does not show, or cannot count from another grade.
    """
    if not _is_whole(relevance, 1, MOST_RELEVANT):
        raise UserError(f"dataset.test.relevance={relevance}: the smallest relevant grade is at least 1")
    if not leaves_grade_open(measure) or relevance == 1:
        return measure
    if "rel" in measure.params:
        raise UserError(
            f"{measure} counts from grade 1, which its printed name omits, but this collection counts from grade "
            f"{relevance}; set dataset.test.relevance=1 to count from grade 1 in all measures"
        )
    graded: ir_measures.Measure = measure(rel=relevance)
    if not _is_computed(graded):
        raise UserError(f"{measure} cannot count from grade {relevance}, as this collection does; leave it out")
    return graded


def _is_computed(measure: ir_measures.Measure) -> bool:
    return any(engine.supports(measure) for engine in ENGINE.providers)  # ENGINE.supports imports numpy to answer


def _nearest(name: str, base_name: str) -> str:
    """A suggestion: a name of trec_eval in ir_measures' spelling, or the nearest known name."""
    with contextlib.suppress(ValueError, IndexError):  # not a name, or a whole family, of trec_eval
        return f" (did you mean {ir_measures.parse_trec_measure(name)[0]}?)"
    known = list(ir_measures.measures.registry)
    same = [other for other in known if other.lower() == base_name.lower()]
    nearest = same or difflib.get_close_matches(base_name, known, n=1)
    return f" (did you mean {nearest[0]}{name[len(base_name) :]}?)" if nearest else ""
