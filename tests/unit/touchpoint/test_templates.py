"""The words of a touch: checked before anything is sent, rendered in a sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.errors import BadInput
from kernel.work import Content
from touchpoint.templates import NotForHer, check_content, render, user_fields

FIELDS = ("user.city", "user.first_name")
VALUES: dict[str, Any] = {
    "benefit": "Ten & off", "goal": "Buy", "code": "C-1", "channel": "email", "task": "t",
    "date": "2026-03-02", "workspace": "Tea", "unsubscribe": "", "user": {"city": "Köln", "first_name": None},
}  # fmt: skip


def content(**parts: str) -> Content:
    said = {"name": "hello", "goals": ["g"], "touchpoints": ["p"], **parts}
    return Content.model_validate(said)


def test_the_first_form_stays_valid_and_other_braces_stay_text() -> None:
    words = render(content(text="{benefit} for you {smile} in {{ user.city }}"), VALUES)
    assert words.text == "Ten & off for you {smile} in Köln"


def test_html_is_escaped_and_text_is_not() -> None:
    words = render(content(text="{{ benefit }}", html="<p>{{ benefit }}</p>"), VALUES)
    assert (words.text, words.html) == ("Ten & off", "<p>Ten &amp; off</p>")


def test_a_subject_is_one_line() -> None:
    assert render(content(subject="a\r\nBcc: x\n{{ code }}"), VALUES).subject == "a Bcc: x C-1"


def test_a_value_that_is_not_known_is_not_written() -> None:
    with pytest.raises(NotForHer, match="content hello, text"):
        render(content(text="Dear {{ user.first_name }}"), VALUES)
    assert render(content(text="Dear {{ user.first_name or 'friend' }}"), VALUES).text == "Dear friend"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ benefitt }}", r"line 1: variable = 'benefitt': unknown variable; did you mean 'benefit'"),
        ("\n{{ user.town }}", r"line 2: variable = 'user.town': unknown variable; did you mean 'user.city'"),
        ("{{ user['town'] }}", "variable = 'user.town'"),
        ("{% if nope %}x{% endif %}", "variable = 'nope'"),
        ("{{ user }}", "name a field"),
        ("{{ code.upper }}", "has no parts"),
        ("{{ code | shout }}", "unknown filter"),
        ("{{ code", "does not parse"),
        ("{% include 'x' %}", "has no place in a content"),
        ("{% macro f() %}{% endmacro %}", "has no place in a content"),
    ],
)
def test_what_nobody_knows_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        check_content(content(text=text), FIELDS)


def test_names_of_a_loop_and_of_set_are_its_own() -> None:
    said = "{% set town = user.city %}{% for letter in town %}{{ letter }}{{ loop.index }}{% endfor %}"
    check_content(content(text=said), FIELDS)
    with pytest.raises(BadInput, match="loop"):
        check_content(content(text="{{ loop.index }}"), FIELDS)


def test_every_part_is_checked_and_tells_its_fields() -> None:
    both = content(subject="{{ user.city }}", html="{{ user['first_name'] }}")
    assert user_fields(both) == {"user.city", "user.first_name"}
    with pytest.raises(BadInput, match="content hello, html, line 1"):
        check_content(both, ("user.city",))


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'x' * 10000000000 }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{{ code.__class__.__mro__ }}",
        "{% for a in range(1000000) %}x{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ code + 1 }}",
    ],
)
def test_a_template_cannot_do_harm(text: str) -> None:
    with pytest.raises(NotForHer):
        render(content(text=text), VALUES)


def test_words_that_are_too_long_are_not_sent() -> None:
    with pytest.raises(NotForHer, match="is longer than"):
        render(content(text="{{ 'x' * 99999 }}{{ 'x' * 99999 }}{{ 'x' * 99999 }}"), VALUES)
