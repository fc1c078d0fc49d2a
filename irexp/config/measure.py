"""The names of measures, as in ir_measures (https://ir-measur.es): nDCG@10, RR(rel=2)@10, AP, R@100."""

# mypy: untyped_calls_exclude=ir_measures

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Sequence

import ir_measures
from ir_measures.providers import FallbackProvider

from irexp.types import UserError

EXAMPLES = "nDCG@10, RR(rel=2)@10, AP, R@100"

# The engines, in order of preference. Not ir_measures.DefaultPipeline: it takes whatever happens to be installed, and
# its gdeval (Perl) and accuracy engines fail on ids that are not numbers and on queries without a relevant result.
ENGINE = FallbackProvider([ir_measures.pytrec_eval, ir_measures.judged, ir_measures.msmarco, ir_measures.compat])


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
        UserError: for a name that ir_measures does not know or our engines cannot compute.
    """
    base_name = re.split(r"[@(]", name, maxsplit=1)[0].strip()
    if base_name not in ir_measures.measures.registry:
        raise UserError(f"there is no measure {name!r}{_nearest(name, base_name)}; examples: {EXAMPLES}")
    try:
        measure = ir_measures.parse_measure(name)
    except (ValueError, SyntaxError):
        raise UserError(f"{name!r} is not of the form Measure(parameter=value)@cutoff; examples: {EXAMPLES}") from None
    try:
        measure.validate_params()
    except AssertionError:  # its words show the address of an object
        known = [f"{key} ({info.desc})" if info.desc else key for key, info in measure.SUPPORTED_PARAMS.items()]
        raise UserError(
            f"a parameter of {name!r} is wrong or missing; {base_name} has: {', '.join(known) or 'none'}; "
            f"a cutoff is written {base_name}@10"
        ) from None
    cutoff = measure.params.get("cutoff", 1)
    if cutoff is True or cutoff < 1:  # Python counts True as an integer, and so does ir_measures
        raise UserError(f"the cutoff of {name!r} must be a number of at least 1")
    if not any(engine.supports(measure) for engine in ENGINE.providers):  # ENGINE.supports imports numpy to answer
        engines = ", ".join(engine.NAME for engine in ENGINE.providers)
        raise UserError(f"none of the engines {engines} computes {name!r}; examples: {EXAMPLES}")
    return measure


def _nearest(name: str, base_name: str) -> str:
    """A suggestion: a name of trec_eval in ir_measures' spelling, or the nearest known name."""
    with contextlib.suppress(ValueError, IndexError):  # not a name, or a whole family, of trec_eval
        return f" (did you mean {ir_measures.parse_trec_measure(name)[0]}?)"
    known = list(ir_measures.measures.registry)
    same = [other for other in known if other.lower() == base_name.lower()]
    nearest = same or difflib.get_close_matches(base_name, known, n=1)
    return f" (did you mean {nearest[0]}{name[len(base_name) :]}?)" if nearest else ""
