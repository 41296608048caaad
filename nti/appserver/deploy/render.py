"""From a system, a variant and options to the text of its files.

Jinja renders the templates, with no undefined name allowed and nothing of the
machine read: the same options give the same text everywhere. Nothing here
waits or switches.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

import jinja2

from nti.appserver.deploy.options import by_name, check_together
from nti.appserver.deploy.systems import SYSTEMS, System, Variant
from nti.appserver.errors import ConfigurationError


@cache
def environment() -> jinja2.Environment:
    """Templates of this package; an unknown name in one is an error, not an empty text."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("nti.appserver.deploy"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # configuration files, not HTML; options are checked by kind
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def find_system(name: str) -> System:
    """The system of that name.

    :raises ConfigurationError: there is none; the nearest name is given.
    """
    found = {system.name: system for system in SYSTEMS}
    if name in found:
        return found[name]
    raise _unknown("system", name, tuple(found))


def find_variant(system: System, name: str = "") -> Variant:
    """The variant of that name; the system's first for the empty one.

    :raises ConfigurationError: there is none; the nearest name is given.
    """
    found = {variant.name: variant for variant in system.variants}
    if not name:
        return system.variants[0]
    if name in found:
        return found[name]
    raise _unknown(f"variant of {system.name}", name, tuple(found))


def render(system_name: str, variant_name: str = "", /, **given: object) -> dict[str, str]:
    """The files of one variant: their names and texts.

    :param given: options by name; None counts as not given.
    :raises ConfigurationError: an unknown system, variant or option, or a value that
        is not of its kind; it says what was seen and what was expected.
    """
    system = find_system(system_name)
    variant = find_variant(system, variant_name)
    values = option_values(system, variant, given)
    context = {**values, "variant": variant.name, "system": system.name}
    return {
        file.name: environment().get_template(file.template).render(context, file=file)
        for file in variant.files
    }


def option_values(system: System, variant: Variant, given: Mapping[str, object]) -> dict[str, Any]:
    """Every option of the variant with its checked value.

    :raises ConfigurationError: an option that the variant does not take, or a bad value.
    """
    options, texts = by_name(), dict(variant.defaults)
    values: dict[str, Any] = {
        name: options[name].parse(texts.get(name, options[name].default))
        for name in variant.options
    }
    for name, value in given.items():
        if value is None:
            continue
        if name not in values:
            raise _not_taken(system, variant, name)
        values[name] = options[name].parse(value)
    check_together(values, ConfigurationError)
    _check_backends(values, variant)
    return values


def _check_backends(values: Mapping[str, Any], variant: Variant) -> None:
    if len(values.get("app", ())) > 1 and variant.name != "several":
        raise ConfigurationError(
            f"{len(values['app'])} addresses for --app in the variant {variant.name}",
            "one address: without a stick table a Socket.IO session meets the wrong machine",
            "use `nti-appserver config haproxy --variant several`",
        )


def _not_taken(system: System, variant: Variant, name: str) -> ConfigurationError:
    flags = [by_name()[option].flag for option in variant.options]
    flag = "--" + name.replace("_", "-")
    takers = [other.name for other in system.variants if name in other.options]
    if not takers:
        return _unknown(f"option of {system.name}", flag, tuple(flags))
    return ConfigurationError(
        f"{flag} with {system.name}'s variant {variant.name}",
        "one of " + ", ".join(flags),
        f"give --variant {' or '.join(takers)}, or leave it out",
    )


def _unknown(what: str, name: str, known: tuple[str, ...]) -> ConfigurationError:
    near = get_close_matches(name, known, 1)
    return ConfigurationError(
        f"unknown {what}: {name!r}",
        "one of " + ", ".join(known),
        f"did you mean {near[0]}?" if near else "",
    )
