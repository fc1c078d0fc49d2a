"""Signatures read from source, equal to what `inspect.signature` returns for the imported class or function."""

from __future__ import annotations

import ast
import functools
from inspect import Parameter, Signature
from typing import Any

from irexp.config.annotation import Annotation
from irexp.config.source import Definition, Module, UnreadableError, ancestry, qualify

#: Decorators that leave a signature as it is.
_HARMLESS = {"abc.abstractmethod", "typing.final", "typing.override", "typing.runtime_checkable"}


@functools.cache
def signature_of(definition: Definition) -> Signature:
    """The signature of a function or a constructor; annotations are `Annotation`, defaults expressions.

    Raises:
        UnreadableError: if it is created at run time.
    """
    if isinstance(definition.node, ast.FunctionDef):
        return Signature(_parameters(definition.node, definition.module))
    if not isinstance(definition.node, ast.ClassDef):
        raise UnreadableError(f"{definition.path} is defined neither as a class nor as a function")
    for ancestor in ancestry(definition):
        options = _dataclass_options(ancestor)
        methods = {node.name: node for node in ancestor.class_node.body if isinstance(node, ast.FunctionDef)}
        if "__new__" in methods or ancestor.class_node.keywords:
            raise UnreadableError(f"{ancestor.path} has a constructor other than `__init__`")
        if "__init__" in methods:
            return Signature(_parameters(methods["__init__"], ancestor.module)[1:])
        if options is not None and options.get("init", True):
            return Signature(_fields(ancestor))
    return Signature()


def _parameters(function: ast.FunctionDef, module: Module) -> list[Parameter]:
    if any(_path(decorator, module) not in _HARMLESS for decorator in function.decorator_list):
        raise UnreadableError(f"{module.name}.{function.name} is decorated")
    args = function.args
    positional = args.posonlyargs + args.args
    kinds = [Parameter.POSITIONAL_ONLY] * len(args.posonlyargs) + [Parameter.POSITIONAL_OR_KEYWORD] * len(args.args)
    defaults = [*[None] * (len(positional) - len(args.defaults)), *args.defaults]
    keywords = [Parameter.KEYWORD_ONLY] * len(args.kwonlyargs)
    found = [
        *zip(positional, kinds, defaults, strict=True),
        *((argument, Parameter.VAR_POSITIONAL, None) for argument in [args.vararg] if argument),
        *zip(args.kwonlyargs, keywords, args.kw_defaults, strict=True),
        *((argument, Parameter.VAR_KEYWORD, None) for argument in [args.kwarg] if argument),
    ]
    return [_parameter(a.arg, kind, default, a.annotation, module) for a, kind, default in found]


def _dataclass_options(definition: Definition) -> dict[str, Any] | None:
    """The constant arguments of `@dataclass`; None for a class that is not a dataclass."""
    options = None
    for decorator in definition.class_node.decorator_list:
        path = _path(decorator, definition.module)
        if path == "dataclasses.dataclass":
            options = _arguments(decorator)
        elif path not in _HARMLESS:
            raise UnreadableError(f"{definition.path} is decorated")
    return options


def _fields(definition: Definition) -> list[Parameter]:
    """The constructor's parameters of a dataclass, from its fields and those of its bases."""
    fields: dict[str, Parameter | None] = {}
    for ancestor in reversed(list(ancestry(definition))):
        options = _dataclass_options(ancestor)
        if options is None:
            continue
        is_keyword = options.get("kw_only", False)
        for node in ancestor.class_node.body:
            if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
                continue
            kind = _path(node.annotation, ancestor.module)
            if kind == "dataclasses.KW_ONLY":
                is_keyword = True
            elif kind != "typing.ClassVar":
                fields[node.target.id] = _field(node, node.target.id, ancestor.module, is_keyword=is_keyword)
    found = [parameter for parameter in fields.values() if parameter]
    return sorted(found, key=lambda parameter: parameter.kind)


def _field(node: ast.AnnAssign, name: str, module: Module, *, is_keyword: bool) -> Parameter | None:
    """The parameter of a field; None for one that the constructor does not take."""
    default: ast.expr | None = node.value
    options: dict[str, Any] = {}
    if isinstance(default, ast.Call) and _path(default, module) == "dataclasses.field":
        options = _arguments(default)
        default = next((k.value for k in default.keywords if k.arg in ("default", "default_factory")), None)
    if options.get("init") is False:
        return None
    kind = Parameter.KEYWORD_ONLY if options.get("kw_only", is_keyword) else Parameter.POSITIONAL_OR_KEYWORD
    return _parameter(name, kind, default, node.annotation, module)


def _parameter(
    name: str, kind: Any, default: ast.expr | None, annotation: ast.expr | None, module: Module
) -> Parameter:
    return Parameter(
        name,
        kind,
        default=Parameter.empty if default is None else default,
        annotation=Annotation(annotation, module) if annotation else Parameter.empty,
    )


def _path(expression: ast.expr, module: Module) -> str | None:
    """The dotted path of a name, also where it is called or subscripted: `dataclass(frozen=True)`, `ClassVar[int]`."""
    if isinstance(expression, ast.Call):
        expression = expression.func
    return qualify(expression.value if isinstance(expression, ast.Subscript) else expression, module)


def _arguments(expression: ast.expr) -> dict[str, Any]:
    """The keyword arguments of a call that are constants."""
    keywords = expression.keywords if isinstance(expression, ast.Call) else []
    return {k.arg: k.value.value for k in keywords if k.arg and isinstance(k.value, ast.Constant)}
