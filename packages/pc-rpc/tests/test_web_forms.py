"""Forms from method lists, and arguments from typed texts: without a server."""

from typing import Literal

import pytest
from pc_rpc._exposure import find_methods
from pc_rpc._method_list import method_list
from pc_rpc.web._forms import Field, Form, arguments, forms_of


class Laser:
    """A laser."""

    def set_power(self, power: float, ramp: bool = False, mode: Literal["slow", "fast"] = "slow"):
        """Set the power.

        Parameters
        ----------
        power : float
            In watts,
            at most 1.
        ramp, mode
            How.

        Returns
        -------
        float
        """

    def plain(self, anything, n=3, x=0.5, *more, name="", options=None, **rest):
        pass


def listed(target):
    return method_list(target, find_methods(target), builtin_terminate=False, version=2)


def test_a_form_has_a_field_for_each_parameter():
    form = forms_of(listed(Laser()))["set_power"]
    power, ramp, mode = form.fields
    assert (power.kind, power.required, power.help) == ("float", True, "In watts, at most 1.")
    assert (ramp.kind, ramp.required, ramp.default, ramp.help) == ("bool", False, "False", "How.")
    assert (mode.kind, mode.choices) == ("choice", ["slow", "fast"])
    assert form.doc.startswith("Set the power.")


def test_without_annotations_the_default_decides_the_kind():
    form = forms_of(listed(Laser()))["plain"]
    kinds = [(one.name, one.kind, one.place) for one in form.fields]
    assert kinds == [
        ("anything", "pyon", "argument"),
        ("n", "int", "argument"),
        ("x", "float", "argument"),
        ("more", "pyon", "arguments"),
        ("name", "str", "keyword"),
        ("options", "pyon", "keyword"),
        ("rest", "pyon", "keywords"),
    ]


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"methods": None},
        {"methods": []},
        {"methods": {"f": None}},
        {"methods": {"f": [1, 2, 3]}},
        {"methods": {"f": ["x", 7]}},
        {"methods": {"f": [{"args": 7, "defaults": 7, "annotations": [], "kwonlyargs": {}}, None]}},
        {"methods": {"f": [{"args": ["self", 1], "defaults": (1, 2, 3, 4)}, None]}},
        {
            "methods": {
                "f": [{"args": ["self", "a"], "annotations": {"a": "Literal[__import__]"}}, ""]
            }
        },
    ],
)
def test_a_malformed_method_list_gives_forms_for_its_methods(nonsense):
    for form in forms_of(nonsense).values():
        form.as_dict()


def test_a_method_list_of_html_stays_text():
    html = "<img src=x onerror=alert(1)>"
    spec = {"args": ["self", html], "annotations": {html: html}, "defaults": (html,)}
    form = forms_of({"methods": {html: [spec, html]}})[html]
    assert form.as_dict()["fields"][0]["name"] == html


def test_typed_texts_become_arguments():
    form = forms_of(listed(Laser()))["plain"]
    typed = {"anything": "[1, (2, 3)]", "n": "4", "x": "1", "more": "[5, 6]", "name": "text"}
    assert arguments(form, {**typed, "options": "{'a': 1}", "rest": "{'b': 2}"}) == (
        [[1, (2, 3)], 4, 1.0, 5, 6],
        {"name": "text", "options": {"a": 1}, "b": 2},
    )


def test_an_empty_field_stands_for_the_default():
    form = forms_of(listed(Laser()))["plain"]
    assert arguments(form, {"anything": "1"}) == ([1], {})
    assert arguments(form, {"anything": "1", "x": "2"}) == ([1], {"x": 2.0})
    with pytest.raises(ValueError, match="n: a value is needed, as there are more"):
        arguments(form, {"anything": "1", "more": "[1]"})


def test_a_text_that_is_needed_may_be_empty():
    assert arguments(Form("f", "", [Field("a", "str")]), {"a": ""}) == ([""], {})


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("float", "fast", "a: expected a number, got 'fast'"),
        ("float", "", "a: a value is needed"),
        ("int", "1.5", "a: expected a whole number"),
        ("int", "true", "a: expected a whole number"),
        ("bool", "1", "a: expected a PYON value"),
        ("choice", "7", "a: expected a PYON value"),
        ("pyon", "text", 'a text needs quotes: "text"'),
        ("pyon", "__import__('os')", "a: expected a PYON value"),
    ],
)
def test_an_invalid_text_is_an_error_that_names_the_parameter(kind, text, message):
    with pytest.raises(ValueError, match="a: ") as raised:
        arguments(Form("f", "", [Field("a", kind, choices=["x"])]), {"a": text})
    assert message in str(raised.value)
