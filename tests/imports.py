"""What modules import, held against what was asked to be installed."""

import ast
import sys
from importlib.metadata import packages_distributions

from packaging.utils import canonicalize_name


def imported(path):
    """Return the top-level names that a module imports anywhere, but for those that only a type checker sees."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    nodes = list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"mh_support"}


def distributions(names):
    """Return by each imported name the distributions that bring it."""
    owners = packages_distributions()
    return {name: {*map(canonicalize_name, owners.get(name, []))} for name in names}


def undeclared(names, declared):
    """Return those imported names that none of the declared distributions brings, with those that would."""
    return {name: owners for name, owners in distributions(names).items() if not owners & set(declared)}
