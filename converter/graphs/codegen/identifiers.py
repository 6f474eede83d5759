"""Makes Python identifiers from the names in a graph: ASCII letters, digits and underscores only."""

from __future__ import annotations

import keyword
import re

MAX_WORDS = 8  # of a name
MAX_WORD_CHARACTERS = 24
GLUON_SUFFIX = "fwd"  # of the nodes of Gluon's layers

# The attributes of nn.Module, and the names of the generated modules themselves.
RESERVED = frozenset(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double
    dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half
    ipu load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
    register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to
    to_empty train training type xpu zero_grad self super torch nn functional load print open range zip len
    tuple int map slice bool
    """.split()  # noqa: SIM905 - a list of quoted names has eighty lines
)

# The names in a generated module that look like those of classes.
RESERVED_CLASSES = ("Network", "Tensor", "F", "None", "True", "False")


def words(name: str) -> tuple[str, ...]:
    """Return the words of a name, each an identifier in lower case; there may be none.

    A word that begins with a digit is joined to the one before: ``conv_1_weight`` is ``conv_1``, ``weight``.
    """
    found: list[str] = []
    for part in re.findall(r"[A-Za-z0-9]+", name[: MAX_WORDS * MAX_WORD_CHARACTERS]):
        word = part[:MAX_WORD_CHARACTERS].lower()
        if word[0].isdigit():
            word = f"{found.pop()}_{word}" if found else f"layer_{word}"
        found.append(word)
    return tuple(found[:MAX_WORDS])


def join(parts: tuple[str, ...], default: str) -> str:
    """Return words as one identifier that is neither a keyword nor a name that a module has."""
    name = "_".join(parts) or default
    return f"{name}_" if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in RESERVED else name


def common_start(names: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the words with which all names begin."""
    start: tuple[str, ...] = min(names, default=())
    last = max(names, default=())
    count = next((at for at, word in enumerate(start) if last[at : at + 1] != (word,)), len(start))
    return start[:count]


def unique(name: str, taken: dict[str, int], separator: str = "_") -> str:
    """Return the name, with a number if it is taken, and mark it as taken.

    Args:
        name: the wanted name.
        taken: the names that exist, with the last number that each got.
        separator: what comes before the number.
    """
    chosen, number = name, taken.get(name, 1)
    while chosen in taken:
        number += 1
        chosen = f"{name}{separator}{number}"
    taken[name] = number
    taken.setdefault(chosen, 1)
    return chosen


def class_name(scope: str) -> str:
    """Return the name of a scope's class: ``unit1`` is an instance of ``Unit``."""
    parts = [part for part in re.split(r"[_0-9]+", scope) if part]
    return "".join(part.capitalize() for part in parts) or "Block"


def quoted(text: str) -> str:
    """Return a text of a file for a docstring: ASCII, without anything that could end the docstring."""
    limit = MAX_WORDS * MAX_WORD_CHARACTERS
    return ascii(text[:limit]).replace('"', r"\"")
