"""An extension of griffe for the API page: signatures show the value of a constant, where the code has its name."""

from typing import Any

import griffe


class ConstantValues(griffe.Extension):
    """Replaces defaults that are the name of a constant by its value, if the value is a literal."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        """Visit every function and field once the whole package is read, so that imported names are known."""
        visit(pkg, loader.modules_collection)


def visit(scope: griffe.Object, known: griffe.ModulesCollection) -> None:
    """Replace the defaults in a module, class or function, and in what it holds."""
    if isinstance(scope, griffe.Function):
        for parameter in scope.parameters:
            parameter.default = literal(parameter.default, known)
    elif isinstance(scope, griffe.Attribute) and scope.parent is not None and scope.parent.is_class:
        scope.value = literal(scope.value, known)
    for member in scope.members.values():
        if isinstance(member, griffe.Object):  # no alias: it is visited where it is defined
            visit(member, known)


def literal(default: Any, known: griffe.ModulesCollection) -> Any:
    """The literal that a name stands for; anything else as it is."""
    if not isinstance(default, griffe.ExprName):
        return default
    try:
        constant = known[default.canonical_path]
    except KeyError:  # None, True, or a name of another package
        return default
    value = literal(constant.value, known) if constant.is_attribute else default
    return value if isinstance(value, str) else default  # a computed value says less than its name
