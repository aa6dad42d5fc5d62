"""Who gets what: rules read from TOML and applied to events."""

from __future__ import annotations

import string
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from approval_mail.addresses import Recipient, is_address
from approval_mail.errors import InvalidEvent, InvalidRoutes, InvalidSettings
from approval_mail.events import EVENT_TYPES, ApprovalEvent
from approval_mail.fields import MAX_RECIPIENTS
from approval_mail.routing import BY_THE_EVENT, DEFAULT_ROUTE, Choice, Routes, Routing
from approval_mail.routing.syntax import MAX_NAME

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
DEFAULT = ("operator@example.com", "deputy@example.com")


def make(event_type: str = "approval_requested", **data: Any) -> ApprovalEvent:
    fields = {"request_id": "abc12345", "user_id": "kim", "tool_name": "payout_eu", "fraction": "0.5", **data}
    return ApprovalEvent.from_dict(
        event_type, fields, now=NOW, localise=lambda naive: naive.replace(tzinfo=timezone.utc)
    )


def rules(*bodies: str) -> Routes:
    """Each body a rule; one without a name is called r1, r2 and so on."""
    names = [
        f'name = "r{number}"\n' if "name =" not in body.replace("tool_name =", "") else ""
        for number, body in enumerate(bodies, 1)
    ]
    return Routes.parse(
        "".join(f"[[rule]]\n{name}{body}\n" for name, body in zip(names, bodies, strict=True)), "routes.toml"
    )


def told(routing: Routing) -> list[tuple[str, str]]:
    """Address and rule of everybody who gets a mail."""
    assert (routing.state, routing.reason, routing.phase) == ("open", "", "")
    return [(choice.recipient.address, choice.rule) for choice in routing.choices]


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidRoutes) as caught:
        Routes.parse(text, "routes.toml")
    return list(caught.value.problems)


# --- deciding


def test_without_rules_the_default_route_is_taken() -> None:
    assert not Routes()
    assert not Routes.parse("# nothing yet\n", "routes.toml")
    expected = Routing(tuple(Choice(Recipient(address), DEFAULT_ROUTE) for address in DEFAULT))
    assert Routes().route(make(), DEFAULT) == expected
    assert rules('type = "approval_timeout"\nto = "x@example.com"').route(make(), DEFAULT) == expected


def test_the_first_rule_that_matches_decides_unless_it_goes_on() -> None:
    first, second, third = 'to = "a@example.com"', 'to = "b@example.com"', 'to = "c@example.com"'
    assert told(rules(first, second).route(make(), DEFAULT)) == [("a@example.com", "r1")]
    found = rules(f"{first}\ngo_on = true", second, third).route(make(), DEFAULT)
    assert told(found) == [("a@example.com", "r1"), ("b@example.com", "r2")]


def test_a_rule_says_language_and_zone_and_the_first_one_counts_for_an_address() -> None:
    found = rules(
        'to = "a@example.com"\nlanguage = "en"\ntimezone = "Europe/Berlin"\ngo_on = true',
        'to = ["A@Example.com", "b@example.com"]\nlanguage = "ko"',
    ).route(make(), DEFAULT)
    assert found.choices == (
        Choice(Recipient("a@example.com", "en", "Europe/Berlin"), "r1"),
        Choice(Recipient("b@example.com", "ko"), "r2"),
    )


def test_a_rule_without_to_sends_to_the_default_in_its_words() -> None:
    found = rules('language = "en"\ntimezone = "Asia/Tokyo"').route(make(), DEFAULT)
    assert found.choices == tuple(Choice(Recipient(address, "en", "Asia/Tokyo"), "r1") for address in DEFAULT)


def test_but_one_that_goes_on_names_nobody_itself() -> None:
    without = 'leave_out = "{user_id}@example.com"\ngo_on = true'
    found = rules(without, 'to = ["finance@example.com", "kim@example.com"]').route(make(), DEFAULT)
    assert told(found) == [("finance@example.com", "r2")]
    assert told(rules(without).route(make(), DEFAULT)) == [(address, "") for address in DEFAULT]
    worded = rules(without, 'language = "en"').route(make(email_to="host@example.com"), DEFAULT)
    assert worded.choices == (Choice(Recipient("host@example.com", "en"), BY_THE_EVENT),)


@pytest.mark.parametrize(
    ("condition", "event", "matches"),
    [
        ('type = "approval_requested"', {}, True),
        ('type = ["approval_timeout", "approval_requested"]', {}, True),
        ('type = "approval_timeout"', {}, False),
        ('tool_name = "payout_*"', {}, True),
        ('tool_name = ["refund", "payout_??"]', {}, True),
        ('tool_name = "payout"', {}, False),
        ('tool_name = "PAYOUT_*"', {}, False),
        ('tool_name = "[!p]*"', {}, False),
        ('tool_name = "[[]"', {"tool_name": "["}, True),
        ('tool_name = "[]]x"', {"tool_name": "]x"}, True),
        ('tool_name = "[!]]x"', {"tool_name": "]x"}, False),
        ('tool_name = "x]"', {"tool_name": "x]"}, True),
        ('user_id = "k?m"', {}, True),
        ('user_id = "bot-*"', {}, False),
        ('user_id = "kim"\ntool_name = "x"', {}, False),
        ('extra = { environment = "prod*" }', {"environment": "production"}, True),
        ('extra.environment = ["test", "prod*"]', {"environment": "production"}, True),
        ('extra = { environment = "prod*" }', {"environment": "test"}, False),
        ('extra = { environment = "*" }', {}, False),
        ('extra = { environment = "*" }', {"environment": None}, False),
        ('extra = { environment = "3" }', {"environment": 3}, False),
        ('extra = { environment = "prod*" }', {"environment": {"prod": 1}}, False),
        ('extra = { environment = "prod*" }', {"environment": ["test", "prod"]}, True),
        ('extra = { environment = "prod*" }', {"environment": [["prod"]]}, False),
        ("extra = { amount = 3 }", {"amount": 3}, True),
        ("extra = { amount = 3 }", {"amount": 3.0}, True),
        ("extra = { amount = 3.5 }", {"amount": 3.5}, True),
        ("extra = { amount = [2, 3] }", {"amount": 3}, True),
        ("extra = { amount = 3 }", {"amount": "3"}, False),
        ("extra = { amount = 1 }", {"amount": True}, False),
        ("extra = { amount = true }", {"amount": 1}, False),
        ("extra = { amount = true }", {"amount": True}, True),
        ("extra = { amount = false }", {"amount": False}, True),
        ("extra = { amount = false }", {"amount": True}, False),
        ("extra = { amount = 3 }", {"amount": [1, 3]}, True),
        ('extra = { amount = 3, environment = "x" }', {"amount": 3}, False),
    ],
)
def test_conditions(condition: str, event: dict[str, Any], matches: bool) -> None:
    found = rules(f'{condition}\nto = "a@example.com"').route(make(**event), DEFAULT)
    assert told(found) == ([("a@example.com", "r1")] if matches else [(address, "") for address in DEFAULT])


@pytest.mark.parametrize(
    ("entry", "event", "addresses", "warning"),
    [
        ("{user_id}@example.com", {}, ["kim@example.com"], ""),
        ("{user_id}+{request_id}@example.com", {}, ["kim+abc12345@example.com"], ""),
        ("x@{region}.example.com", {"region": "eu"}, ["x@eu.example.com"], ""),
        ("{responder_id}@example.com", {"responder_id": "lee"}, ["lee@example.com"], ""),
        ("{user_id}", {"user_id": "kim@example.com"}, ["kim@example.com"], ""),
        ("{담당자}", {"담당자": "kim@example.com"}, ["kim@example.com"], ""),
        ("{approvers}", {"approvers": "a@example.com, b@example.com"}, ["a@example.com", "b@example.com"], ""),
        ("{approvers}", {"approvers": ["a@example.com", "b@example.com"]}, ["a@example.com", "b@example.com"], ""),
        (
            "{approvers}",
            {"approvers": ["a@example.com", 7]},
            ["a@example.com"],
            "approvers has a int, which is not an address",
        ),
        (
            "{approvers}",
            {"approvers": "a@example.com,nobody"},
            ["a@example.com"],
            "approvers has 'nobody', which is not an address",
        ),
        ("{approvers}", {}, [], "the event has no approvers"),
        ("{approvers}", {"approvers": None}, [], "the event has no approvers"),
        ("{approvers}", {"approvers": " , "}, [], "approvers is empty"),
        ("{approvers}", {"approvers": []}, [], "approvers is empty"),
        ("{approvers}", {"approvers": {"a@example.com": 1}}, [], "approvers has a dict, which is not an address"),
        ("{responder_id}@example.com", {}, [], "the event has no responder_id"),
        (
            "{user_id}@example.com",
            {"user_id": "kim@evil.example,x"},
            [],
            "user_id is 'kim@evil.example,x', which cannot be part of an address",
        ),
        ("{user_id}@example.com", {"user_id": "김"}, [], "user_id is '김', which cannot be part of an address"),
        ("{user_id}@example.com", {"user_id": "a..b"}, [], "'a..b@example.com' is not an address"),
        ("{user_id}@example.com", {"user_id": "x" * 65}, [], f"'{'x' * 60}'… is not an address"),
        ("{team}@example.com", {"team": 7}, [], "team is a int, which cannot be part of an address"),
        ("{team}@example.com", {"team": ["a"]}, [], "team is a list, which cannot be part of an address"),
        ("{team}@example.com", {"team": "{user_id}"}, [], "team is '{user_id}', which cannot be part of an address"),
    ],
)
def test_placeholders(entry: str, event: dict[str, Any], addresses: list[str], warning: str) -> None:
    found = rules(f"to = '{entry}'").route(make(**event), DEFAULT)
    named = [(address, "r1") for address in addresses] or [(address, "") for address in DEFAULT]
    assert told(found) == named
    assert found.warnings == ((f"rule 'r1': to '{entry}': {warning}",) if warning else ())


def test_one_entry_that_gives_nobody_leaves_the_others_alone() -> None:
    found = rules('to = ["{approvers}", "b@example.com"]').route(make(), DEFAULT)
    assert told(found) == [("b@example.com", "r1")]
    assert len(found.warnings) == 1


def test_who_is_left_out_is_not_told_whoever_names_them() -> None:
    found = rules(
        'to = ["Kim@example.com", "a@example.com"]\ngo_on = true',
        'to = "b@example.com"\nleave_out = "{user_id}@EXAMPLE.com"\ngo_on = true',
        'to = ["KIM@example.com", "c@example.com"]',
    ).route(make(), DEFAULT)
    assert told(found) == [("a@example.com", "r1"), ("b@example.com", "r2"), ("c@example.com", "r3")]
    assert found.warnings == ()


@pytest.mark.parametrize("user_id", ["kim@example.com", "kim lee", "kim,"])
def test_a_request_is_told_to_nobody_while_it_is_not_known_whom_to_leave_out(user_id: str) -> None:
    routes = rules('to = "kim@example.com"\nleave_out = "{user_id}@example.com"')
    found = routes.route(make(user_id=user_id), DEFAULT)
    assert (found.state, found.phase) == ("dead", "routing")
    assert found.reason == (
        f"rule 'r1': leave_out '{{user_id}}@example.com': user_id is '{user_id}', which cannot be part of an address, "
        "so whom to leave out is not known; mend that, then: approval-mail dead retry EVENT_ID"
    )
    told_later = routes.route(make("approval_approved", user_id=user_id), DEFAULT)
    assert told(told_later) == [("kim@example.com", "r1")], "who is told of an outcome decides nothing by that"
    assert len(told_later.warnings) == 1


def test_who_is_left_out_of_the_default_route_is_not_told_either() -> None:
    found = rules('to = "{nobody}"\nleave_out = "Operator@example.com"').route(make(), DEFAULT)
    assert told(found) == [("deputy@example.com", "")]


def test_if_nobody_is_left_the_mails_are_dead_with_the_rule_and_the_mend() -> None:
    found = rules('to = "kim@example.com"\nlanguage = "en"\nleave_out = "{user_id}@example.com"').route(make(), DEFAULT)
    reason = "rule 'r1' leaves out everyone who would be told; let a rule name somebody else, "
    choices = (Choice(Recipient("kim@example.com", "en"), "r1"),)
    assert found == Routing(choices, "dead", f"{reason}then: approval-mail dead retry EVENT_ID", "routing")
    both = rules(
        'to = "a@example.com"\nleave_out = "b@example.com"\ngo_on = true',
        'to = "b@example.com"\nleave_out = "a@example.com"',
    ).route(make(), DEFAULT)
    assert both.reason.startswith("rules 'r2' and 'r1' leave out everyone")


def test_an_event_that_names_its_recipients_goes_there_in_the_first_rules_words() -> None:
    event = make(email_to="host@example.com, kim@example.com")
    found = rules('to = "a@example.com"\nlanguage = "en"\ngo_on = true', 'language = "ko"\ntimezone = "Asia/Seoul"')
    assert found.route(event, DEFAULT).choices == (
        Choice(Recipient("host@example.com", "en"), BY_THE_EVENT),
        Choice(Recipient("kim@example.com", "en"), BY_THE_EVENT),
    )
    assert told(rules('to = "{nobody}"\nleave_out = "{user_id}@example.com"').route(event, DEFAULT)) == [
        ("host@example.com", BY_THE_EVENT)
    ]
    assert told(Routes().route(event, DEFAULT)) == [(address, BY_THE_EVENT) for address in event.email_to]
    everybody = rules('leave_out = ["host@example.com", "kim@example.com"]').route(event, DEFAULT)
    assert (everybody.state, len(everybody.choices)) == ("dead", 2)


def test_what_is_switched_off_is_suppressed_for_whom_it_would_be_by_default() -> None:
    routes = rules(
        'to = "a@example.com"\nleave_out = "{nobody}"\ngo_on = true',
        'name = "quiet"\noff = true',
        'to = "b@example.com"',
    )
    found = routes.route(make(), DEFAULT)
    choices = tuple(Choice(Recipient(address), DEFAULT_ROUTE) for address in DEFAULT)
    assert found == Routing(choices, "suppressed", "switched off by rule 'quiet'")
    found = routes.route(make(email_to="host@example.com"), DEFAULT)
    assert found.choices == (Choice(Recipient("host@example.com"), BY_THE_EVENT),)
    assert found.state == "suppressed"


def test_no_more_are_told_than_an_event_may_have_recipients() -> None:
    many = ", ".join(f'"a{number}@example.com"' for number in range(MAX_RECIPIENTS))
    routes = rules(f"to = [{many}]\ngo_on = true", 'to = "last@example.com"')
    found = routes.route(make(), DEFAULT)
    assert [address for address, _ in told(found)] == [f"a{number}@example.com" for number in range(MAX_RECIPIENTS)]
    assert found.warnings == (f"the rules name {MAX_RECIPIENTS + 1} recipients; the first {MAX_RECIPIENTS} are told",)
    fewer = rules(f"to = [{many}]\nleave_out = 'a3@example.com'\ngo_on = true", 'to = "last@example.com"')
    assert told(fewer.route(make(), DEFAULT))[-1] == ("last@example.com", "r2")


def test_rules_name_their_languages() -> None:
    routes = rules(
        'to = "b@example.com"\nlanguage = "en"\ngo_on = true', 'to = "a@example.com"\ngo_on = true', 'language = "en"'
    )
    assert (routes.languages, len(routes)) == ({"en"}, 3)


# --- reading


GOOD = 'name = "a"\nto = "a@example.com"\n'


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[[rule]]\nname = x", 2, "Invalid value in column 8; write it as TOML"),
        ("[[rule]]\n\nname = [", 3, "Invalid value; write it as TOML"),
        (f"[[rule]]\n{GOOD}to = 'b@example.com'", 4, "Cannot overwrite a value"),
        (f"\n[[rules]]\n{GOOD}", 2, "'rules' is not a key of this file; did you mean [[rule]]?"),
        (f"x = 1\n[[rule]]\n{GOOD}", 1, "'x' is not a key of this file; a file has [[rule]] alone"),
        (f"[rule]\n{GOOD}", 1, "'rule' is a table; begin each rule with [[rule]]"),
        ("\nrule = 3", 2, "'rule' is a whole number; begin each rule with [[rule]]"),
        ("rule = [3]", 1, "'rule' is a list; begin each rule with [[rule]]"),
        ('[[rule]]\nto = "a@example.com"', 1, "rule number 1: it has no name; add name ="),
        (f"[[rule]]\n{GOOD}[[rule]]\nname = ' b'\nto = 'b@example.com'", 5, "rule number 2: name is ' b'; use 1 to 80"),
        (f"[[rule]]\nname = '{'x' * (MAX_NAME + 1)}'\nto = 'b@example.com'", 2, "use 1 to 80"),
        ('[[rule]]\nname = "a\\u202eb"\nto = "b@example.com"', 2, "use 1 to 80 printable"),
        ('[[rule]]\nname = "a\\nb"\nto = "b@example.com"', 2, "use 1 to 80 printable"),
        ('[[rule]]\nname = ""\nto = "b@example.com"', 2, "use 1 to 80 printable"),
        ("[[rule]]\nname = 3\nto = 'b@example.com'", 2, "name is a int"),
        ('[[rule]]\nname = "email_to"\nto = "b@example.com"', 2, "which stands for the event's own choice"),
        (
            f"[[rule]]\n{GOOD}[[ rule ]] # too\n\n{GOOD}",
            6,
            "rule 'a': the name is that of line 2 as well; choose another",
        ),
        (f"[[rule]]\n{GOOD}tool = 'x'", 4, "rule 'a': 'tool' is not a key of a rule; did you mean tool_name?"),
        (f"[[rule]]\n{GOOD}languge = 'x'", 4, "did you mean language?"),
        (f"[[rule]]\n{GOOD}environment = 'x'", 4, "other fields go into extra"),
        (
            f"[[rule]]\n{GOOD}type = 'approval_request'",
            4,
            "'approval_request' is unknown; did you mean approval_requested?",
        ),
        (f"[[rule]]\n{GOOD}type = ''", 4, "'' is unknown; use approval_requested, approval_timeout"),
        (f"[[rule]]\n{GOOD}type = []", 4, "type is an empty list; fill it, or take it out"),
        (f"[[rule]]\n{GOOD}tool_name = 3", 4, "tool_name is a whole number; use a text, in quotes, or a list of texts"),
        (f"[[rule]]\n{GOOD}user_id = ['x', true]", 4, "user_id has true or false; use texts alone"),
        (f"[[rule]]\n{GOOD}user_id = '{'*' * 4001}'", 4, "is longer than any field"),
        (f"[[rule]]\n{GOOD}tool_name = ['x', 'git_[ab']", 4, "'git_[ab' has a [ without its ]; add it, or write [[]"),
        (f"[[rule]]\n{GOOD}user_id = '[!'", 4, "has a [ without its ]"),
        (f"[[rule]]\n{GOOD}user_id = '[z-a]*'", 4, "has a range that runs backwards"),
        (f"[[rule]]\n{GOOD}extra.f = '[]'", 4, "has a [ without its ]"),
        ("[[rule]]\nname = 'a'\nto = []", 3, "to is an empty list"),
        (
            "[[rule]]\nname = 'a'\nto = [\n'a@example.com',\n# 'nobody'\n'nobody',\n]",
            6,
            "to 'nobody' is not an address",
        ),
        ("[[rule]]\nname = 'a'\nto = 'a@example.com, b@example.com'", 3, "is not an address"),
        ("[[rule]]\nname = 'a'\nto = 'kim <kim@example.com>'", 3, "is not an address"),
        ("[[rule]]\nname = 'a'\nto = '{a}{b}'", 3, "is not an address"),
        ("[[rule]]\nname = 'a'\nto = ''", 3, "is not an address"),
        *(
            (f"[[rule]]\nname = 'a'\nleave_out = '{text}'", 3, "has braces that are no placeholder")
            for text in (
                "{}",
                "{user_id.x}",
                "{user_id!r}@a.b",
                "{user_id:>9}@a.b",
                "{user_id[0]}",
                "{{user_id}}",
                "{user_id@a.b",
                "}@a.b",
                "{ user_id }",
            )
        ),
        *(
            (f"[[rule]]\nname = 'a'\nto = '{{{name}}}'", 3, "names a field that gives no address")
            for name in ("email_to", "reason", "requested_at", "expires_at", "type", "event_id")
        ),
        (f"[[rule]]\n{GOOD}language = 'de'", 4, "language 'de' is unknown; use ko or en"),
        (f"[[rule]]\n{GOOD}language = ['en']", 4, "language is a list; use a text, in quotes"),
        *(
            (f"[[rule]]\n{GOOD}timezone = '{zone}'", 4, "is unknown; use a zone of the IANA database")
            for zone in ("Mars", "", "../../etc/passwd", "Europe", "/etc/localtime", "x" * 5000)
        ),
        (f"[[rule]]\n{GOOD}go_on = 'true'", 4, "go_on is a text; use true or false, without quotes"),
        (f"[[rule]]\n{GOOD}go_on = 1", 4, "go_on is a whole number; use true or false"),
        ("[[rule]]\nname = 'a'\noff = 'yes'", 3, "off is a text; use true or false"),
        *(
            (
                f"[[rule]]\nname = 'a'\noff = true\n{more}",
                3,
                f"off = true sends no mail, so {more.split()[0]} would have",
            )
            for more in ("to = 'a@b.c'", "leave_out = 'a@b.c'", "language = 'en'", "timezone = 'UTC'", "go_on = true")
        ),
        (
            "[[rule]]\nname = 'a'\ntimezone = 'UTC'\ngo_on = true",
            3,
            "timezone is for nobody where a rule goes on without to; give it to",
        ),
        ("[[rule]]\nname = 'a'\ntype = 'approval_timeout'\ngo_on = true", 1, "it does nothing; give it to, leave_out,"),
        ("[[rule]]\nname = 'a'\noff = false", 1, "it does nothing"),
        (f"[[rule]]\n{GOOD}extra = 3", 4, "extra is a whole number; use fields of the event"),
        (f"[[rule]]\n{GOOD}extra = {{}}", 4, "extra is an empty table; use fields of the event"),
        (f"[[rule]]\n{GOOD}extra = {{ a = [] }}", 4, "extra 'a' is an empty list"),
        (f"[[rule]]\n{GOOD}\n[rule.extra]", 5, "extra is an empty table; use fields of the event"),
        (
            f"[[rule]]\n{GOOD}extra.a = 1979-05-27",
            4,
            "extra 'a' is a date or a time; use texts, numbers, true or false",
        ),
        (f"[[rule]]\n{GOOD}[rule.extra]\na = 1\nb = nan", 6, "extra 'b' is a float nan"),
        (f"[[rule]]\n{GOOD}extra = {{ a = {{ b = 1 }} }}", 4, "extra 'a' is a table"),
        (f"[[rule]]\n{GOOD}extra = {{ a = [[1]] }}", 4, "extra 'a' is a list"),
        (
            f"[[rule]]\n{GOOD}extra = {{ user_id = 'x' }}",
            4,
            "extra has user_id, which is not a further field; write user_id = ... beside it",
        ),
        (
            f"[[rule]]\n{GOOD}extra = {{ reason = 'x' }}",
            4,
            "extra has reason, which is not a further field; no rule can ask for it",
        ),
        # What looks like a header, or a key, and is none.
        (
            '[[rule]]\nname = "a"\ntool_name = """\n[[rule]]\nlanguage = 1\n"""\nto = "#"\n# user_id = 1\nuser_id = 1',
            9,
            "user_id is a whole number",
        ),
        ("rule = [{ name = 'a', to = 'nobody' }]", 1, "rule 'a': to 'nobody' is not an address"),
        ("[['rule']]\n\"name\" = 'a'\r\n'to' = 'nobody'", 3, "rule 'a': to 'nobody' is not an address"),
    ],
)
def test_each_fault_is_told_with_its_line_and_the_mend(text: str, line: int, says: str) -> None:
    found = problems(text)
    assert any(problem.startswith(f"routes.toml, line {line}: ") and says in problem for problem in found), found
    assert all("\n" not in problem and ("; " in problem or "did you mean" in problem) for problem in found)


def test_every_problem_is_told_at_once() -> None:
    found = problems("[[rule]]\nname = 'a'\nto = ['x', 'y']\nlanguage = 'de'\n[[rule]]\n")
    assert [problem.partition(": ")[2][:30] for problem in found] == [
        "rule 'a': to 'x' is not an add",
        "rule 'a': to 'y' is not an add",
        "rule 'a': language 'de' is unk",
        "rule number 2: it has no name;",
        "rule number 2: it does nothing",
    ]
    with pytest.raises(InvalidSettings, match=r"'x' is not an address.*\n.*'y' is not an address"):
        Routes.parse("[[rule]]\nname = 'a'\nto = ['x', 'y']", "routes.toml")


def test_a_flood_of_problems_is_cut() -> None:
    found = problems("[[rule]]\n" * 100)
    assert len(found) == 51
    assert found[-1] == "routes.toml has more problems than these; mend these first"


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000])
def test_what_the_parser_gives_up_on_is_refused(value: str) -> None:
    [problem] = problems(f"x = {value}")
    assert problem.startswith("routes.toml")
    assert "take it out" in problem or "Invalid value" in problem


def test_more_entries_than_recipients_are_refused() -> None:
    entries = ", ".join(f"'a{number}@example.com'" for number in range(MAX_RECIPIENTS + 1))
    [problem] = problems(f"[[rule]]\nname = 'a'\nto = [{entries}]")
    assert problem.startswith("routes.toml, line 3: rule 'a': to has 51 entries; the most is 50")


# --- whatever comes


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["a@example.com", "a@example.com,b@example.com", "kim", "x@y@z", "a@example.com\n", "%x", "3"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = (
    st.sampled_from(["kim", "bot-7", "kim@example.com", "a..b", ".", "김", "x" * 300, "{user_id}", "a b"]) | st.text()
)
entries = st.sampled_from(
    [
        "a@example.com",
        "A@example.com",
        "{user_id}",
        "{user_id}@example.com",
        "{f}",
        "{g}",
        "{f}@example.com",
        "x@{f}",
        "{f}@{g}",
        "{responder_id}",
        "{request_id}@example.com",
        "{tool_name}.{f}@example.com",
    ]
)
globs = st.sampled_from(["*", "k*", "[[]", "[!a]", "?", "**", "[]]", "\\", "a@*"]) | st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="["), max_size=10
)


def quoted(text: str) -> str:
    escaped = "".join(
        character if character in string.ascii_letters + string.digits else f"\\U{ord(character):08x}"
        for character in text
    )
    return f'"{escaped}"'


def listed(texts: list[str]) -> str:
    return f"[{', '.join(map(quoted, texts))}]"


optional = {
    "type": st.lists(st.sampled_from(list(EVENT_TYPES)), min_size=1, max_size=2).map(listed),
    "tool_name": st.lists(globs, min_size=1, max_size=2).map(listed),
    "user_id": globs.map(quoted),
    "extra": st.dictionaries(
        st.sampled_from(["f", "g"]),
        globs.map(quoted) | st.integers().map(str) | st.just("true") | st.just("1.5") | st.just('["*", 3, false]'),
        min_size=1,
    ).map(lambda wanted: "{ " + ", ".join(f"{key} = {value}" for key, value in wanted.items()) + " }"),
    "to": st.lists(entries, min_size=1, max_size=4).map(listed),
    "leave_out": st.lists(entries, min_size=1, max_size=4).map(listed),
    "language": st.sampled_from(['"en"', '"ko"']),
    "timezone": st.sampled_from(['"UTC"', '"Asia/Seoul"']),
    "go_on": st.sampled_from(["true", "false"]),
    "off": st.just("true"),
}
bodies = st.lists(st.fixed_dictionaries({}, optional=optional), max_size=4)


def is_meant_well(body: dict[str, str]) -> bool:
    words = body.keys() & {"language", "timezone"}
    if words and body.get("go_on") == "true" and "to" not in body:
        return False
    if "off" in body:
        return not body.keys() & {"to", "leave_out", "language", "timezone", "go_on"}
    return bool(words or body.keys() & {"to", "leave_out"})


@given(
    bodies.map(lambda found: [body for body in found if is_meant_well(body)]),
    st.fixed_dictionaries(
        {"user_id": names, "tool_name": names},
        optional={
            "f": json_values,
            "g": json_values,
            "responder_id": names,
            "email_to": st.just(["host@example.com"]),
        },
    ),
    st.sampled_from(list(EVENT_TYPES)),
)
@example(
    [{"to": listed(["{f}"])}], {"user_id": "kim", "tool_name": "x", "f": "a@example.com\n\n,b@x"}, "approval_timeout"
)
def test_whatever_an_event_holds_only_addresses_come_out(
    found: list[dict[str, str]], data: dict[str, Any], event_type: str
) -> None:
    text = "".join(
        f'[[rule]]\nname = "r{number}"\n' + "".join(f"{key} = {value}\n" for key, value in body.items())
        for number, body in enumerate(found)
    )
    routes = Routes.parse(text, "routes.toml")
    try:
        event = make(event_type, **data)
    except InvalidEvent:
        return
    routing = routes.route(event, DEFAULT)
    addresses = [choice.recipient.address for choice in routing.choices]
    assert addresses
    assert all(map(is_address, addresses))
    assert len({address.lower() for address in addresses}) == len(addresses) <= MAX_RECIPIENTS
    assert routing.state in ("open", "suppressed", "dead")
    assert bool(routing.reason) == (routing.state != "open")
    assert (routing.phase == "routing") == (routing.state == "dead")
    assert all(line.isprintable() for line in (*routing.warnings, routing.reason))
    if event.email_to:
        assert addresses == ["host@example.com"]


toml_pieces = st.sampled_from(
    [
        "[[rule]]",
        "[rule]",
        "[[rule]",
        "[rule.extra]",
        "rule",
        "name",
        "to",
        "off",
        "extra",
        "type",
        " = ",
        "=",
        "{",
        "}",
        "[",
        "]",
        ",",
        '"',
        "'",
        '"""',
        "'''",
        "#",
        "\n",
        "\r\n",
        "\\",
        ".",
        "true",
        "1",
        "nan",
        "1979-05-27",
        "a@example.com",
        "{f}",
        "'a'",
        '"b"',
        "\ufeff",
        "\x00",
        "\u2028",
        "김",
    ]
)


@given(st.lists(toml_pieces, max_size=40).map("".join) | st.text())
@example("[[rule]]\nname = '''\n[[rule]]'''\noff = 1")
@example("rule = [[]]")
@example('[[rule]]\n"\\u006eame" = 3')
@example("[[rule]]\nextra.x.y = 1")
@example("[[rule]]\n[[rule.extra]]\nx = 1")
@example("[[rule]]\nname.x = 1")
def test_any_text_is_either_rules_or_refused_with_lines_that_exist(text: str) -> None:
    found: tuple[str, ...] = ()
    try:
        routes = Routes.parse(text, "routes.toml")
    except InvalidRoutes as error:
        found = error.problems
    else:
        assert routes.route(make(), DEFAULT).choices
    for problem in found:
        assert "\n" not in problem
        assert problem.startswith("routes.toml, line ")
        assert 1 <= int(problem.split()[2].rstrip(":")) <= text.count("\n") + 1
