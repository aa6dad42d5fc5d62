from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from approval_mail.errors import InvalidSettings
from approval_mail.settings import Settings

GUIDE = """\
# Email 알림 활성화
NOTIFICATION_ENABLED=true

SMTP_HOST=localhost          # SMTP 서버 주소
SMTP_PORT=587                # SMTP 포트 (기본: 587 = STARTTLS)
SMTP_USE_TLS=true            # TLS 사용 여부
SMTP_USER=                   # SMTP 사용자 (optional)
SMTP_PASSWORD=               # SMTP 비밀번호 (optional)
EMAIL_FROM=admin@localhost   # 발송자 이메일
EMAIL_TO=operator@localhost  # 수신자 이메일
NOTIFICATION_BATCH_SIZE=10      # 배치 크기 (기본: 10)
"""


def load(tmp_path: Path, dotenv: str = "", **environ: str) -> Settings:
    (tmp_path / ".env").write_text(dotenv, "utf-8")
    return Settings.load(environ, tmp_path).require()


def problems(tmp_path: Path, dotenv: str = "", **environ: str) -> tuple[str, ...]:
    with pytest.raises(InvalidSettings) as caught:
        load(tmp_path, dotenv, **environ)
    return caught.value.problems


def test_the_defaults_are_the_contracts(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert not found.enabled
    assert (found.smtp_host, found.smtp_port, found.smtp_use_tls, found.smtp_timeout) == ("localhost", 587, None, 10)
    assert (found.email_from, found.email_to) == ("admin@localhost", ("operator@localhost",))
    assert (found.batch_size, found.batch_timeout, found.urgent_timeout, found.max_age) == (10, 5, 1, 86400)
    assert (found.language, found.history_days, found.redis_url) == ("ko", 7, "redis://localhost:6379/0")
    assert found.broker_url == found.result_backend == found.redis_url


def test_the_guides_env_file_is_read_with_its_comments(tmp_path: Path) -> None:
    found = load(tmp_path, GUIDE)
    assert found.enabled
    assert found.smtp_use_tls is True
    assert (found.smtp_host, found.smtp_user, found.smtp_password) == ("localhost", "", "")


def test_the_environment_goes_before_the_file_and_an_empty_value_is_unset(tmp_path: Path) -> None:
    dotenv = "SMTP_HOST=file\nEMAIL_FROM=file@example.com\n"
    found = load(tmp_path, dotenv, SMTP_HOST="environ", EMAIL_FROM="")
    assert (found.smtp_host, found.email_from) == ("environ", "file@example.com")


def test_a_value_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from-file\n")
    found = load(tmp_path, f"SMTP_PASSWORD_FILE={tmp_path}/password", SMTP_USER="me")
    assert found.smtp_password == "from-file"


def test_a_token_file_is_named_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff first\n")
    found = load(tmp_path, f"SMTP_OAUTH_TOKEN_FILE={tmp_path}/token", SMTP_USER="me")
    assert found.smtp_oauth_token_file == tmp_path / "token"


def test_a_token_command_is_split_as_a_shell_would_but_for_its_expansions(tmp_path: Path) -> None:
    found = load(tmp_path, SMTP_USER="me", SMTP_OAUTH_TOKEN_COMMAND="/opt/token --for 'my account' $HOME #1")
    assert found.smtp_oauth_token_command == ("/opt/token", "--for", "my account", "$HOME", "#1")


def test_a_token_command_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "command").write_text("/opt/token --secret hunter2\n")
    found = load(tmp_path, SMTP_USER="me", SMTP_OAUTH_TOKEN_COMMAND_FILE=str(tmp_path / "command"))
    assert found.smtp_oauth_token_command == ("/opt/token", "--secret", "hunter2")


@pytest.mark.parametrize(
    "url", ["amqp://me:hunter/2@host//", "redis://:hunt/er@host:6379/1", "amqp://a;amqp://u:p/w@b"]
)
def test_a_broker_whose_password_breaks_the_url_is_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidSettings) as told:
        load(tmp_path, CELERY_BROKER_URL=url)
    assert "%2F" in str(told.value)
    assert "hunt" not in str(told.value)


FILE = {"SMTP_OAUTH_TOKEN_FILE": __file__}
COMMAND = {"SMTP_OAUTH_TOKEN_COMMAND": "/opt/token"}
USER = {"SMTP_USER": "me"}
PASSWORD = {"SMTP_PASSWORD": "hunter2"}


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        (FILE, ["SMTP_USER is unset while SMTP_OAUTH_TOKEN_FILE has a value: set both, or neither"]),
        (COMMAND, ["SMTP_USER is unset while SMTP_OAUTH_TOKEN_COMMAND has a value: set both, or neither"]),
        (
            USER | FILE | COMMAND,
            ["SMTP_OAUTH_TOKEN_FILE and SMTP_OAUTH_TOKEN_COMMAND have a value each: keep one of them"],
        ),
        (
            USER | PASSWORD | FILE,
            ["SMTP_PASSWORD and SMTP_OAUTH_TOKEN_FILE have a value each: keep one of them"],
        ),
        (
            USER | PASSWORD | COMMAND,
            ["SMTP_PASSWORD and SMTP_OAUTH_TOKEN_COMMAND have a value each: keep one of them"],
        ),
        (
            PASSWORD | FILE,
            [
                "SMTP_PASSWORD and SMTP_OAUTH_TOKEN_FILE have a value each: keep one of them",
                "SMTP_USER is unset while SMTP_PASSWORD has a value: set both, or neither",
            ],
        ),
        (
            USER | PASSWORD | {"SMTP_OAUTH_TOKEN_FILE": "/nowhere"},
            [
                "SMTP_OAUTH_TOKEN_FILE=/nowhere (the environment): use a file that exists",
                "SMTP_PASSWORD and SMTP_OAUTH_TOKEN_FILE have a value each: keep one of them",
            ],
        ),
        (
            USER | {"SMTP_OAUTH_TOKEN_COMMAND": "/opt/token --secret 'hunter2"},
            ["SMTP_OAUTH_TOKEN_COMMAND=**** (the environment): close every quote of the command line"],
        ),
        (
            USER | {"SMTP_OAUTH_TOKEN_COMMAND": "''"},
            ["SMTP_OAUTH_TOKEN_COMMAND=**** (the environment): use a command line that begins with a program"],
        ),
    ],
)
def test_a_login_has_a_user_and_one_way_to_prove_it(tmp_path: Path, environ: dict[str, str], says: list[str]) -> None:
    found = problems(tmp_path, SMTP_PORT="x", **environ)
    assert found[0].startswith("SMTP_PORT=x"), "told together with what else is wrong"
    assert list(found[1:]) == says


def test_a_dollar_in_a_password_is_left_alone(tmp_path: Path) -> None:
    assert load(tmp_path, "SMTP_USER=me\nSMTP_PASSWORD='a${HOME}#b'").smtp_password == "a${HOME}#b"


def test_every_problem_is_told_at_once_with_name_value_source_and_rule(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "SMTP_PORT=70000\nEMAIL_TO=nobody\n",
        NOTIFICATION_ENABLED="ture",
        SMTP_TIMEOUT="60",
        NOTIFICATION_TIMEZONE="Asia/Soul",
        NOTIFICATION_LANGUAGE="fr",
        REDIS_URL="http://user:hunter2@example.com",
    )
    text = "\n".join(found)
    assert len(found) == 7
    assert "NOTIFICATION_ENABLED=ture (the environment): use true or false" in found
    assert f"SMTP_PORT=70000 ({tmp_path}/.env): use a whole number from 1 to 65535" in found
    assert "hunter2" not in text
    assert "REDIS_URL=**** (the environment): use redis://" in text


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"SMTP_USER": "me"}, "SMTP_PASSWORD is unset while SMTP_USER has a value"),
        ({"SMTP_USER": "me"}, "SMTP_OAUTH_TOKEN_FILE or SMTP_OAUTH_TOKEN_COMMAND may stand in its place"),
        ({"SMTP_PASSWORD": "x", "SMTP_PASSWORD_FILE": "/y"}, "both have a value: remove one"),
        ({"SMTP_PASSWORD_FILE": "/nowhere"}, "cannot be read: No such file"),
        ({"SMTP_PASSWORD_FILE": "/no\0where"}, "cannot be read: embedded null byte"),
        ({"SMTP_TLS_CA_FILE": "/nowhere"}, "use a file that exists"),
        ({"NOTIFICATION_BATCH_SIZE": "0"}, "from 1 to 1000"),
        ({"NOTIFICATION_BATCH_TIMEOUT": "nan"}, "from 0.1 to 3600"),
        ({"SMTP_HOST": "smtp.example.com:587"}, "the port goes to SMTP_PORT"),
        ({"EMAIL_FROM": "a@example.com, b@example.com"}, "one address"),
    ],
)
def test_a_bad_value_gets_a_sentence(tmp_path: Path, environ: dict[str, str], says: str) -> None:
    assert any(says in problem for problem in problems(tmp_path, **environ))


def test_faulty_settings_leave_the_others_usable(tmp_path: Path) -> None:
    loaded = Settings.load({"SMTP_PORT": "x", "NOTIFICATION_SPOOL_DIR": "/spool"}, tmp_path)
    assert loaded.faulty == {"SMTP_PORT"}
    assert (loaded.usable.smtp_port, loaded.usable.spool_dir) == (587, Path("/spool"))


def test_a_template_folder_may_be_missing_on_a_host_that_only_calls_hooks(tmp_path: Path) -> None:
    assert load(tmp_path, NOTIFICATION_TEMPLATE_DIR="/nowhere").template_dir == Path("/nowhere")


@pytest.mark.parametrize(("environ", "doubtful"), [({}, True), ({"NOTIFICATION_ENABLED": "false"}, False)])
def test_an_unreadable_env_file_leaves_it_in_doubt_whether_notifications_are_on(
    tmp_path: Path, environ: dict[str, str], doubtful: bool
) -> None:
    (tmp_path / ".env").write_bytes(b"NOTIFICATION_ENABLED=true\n\xff\xfe\n")
    loaded = Settings.load(environ, tmp_path)
    assert "cannot be read" in loaded.problems[0]
    assert ("NOTIFICATION_ENABLED" in loaded.faulty) is doubtful


@pytest.mark.parametrize(
    ("lines", "names", "at"),
    [
        ('EMAIL_TO="ops@example.com", boss@example.com', ["EMAIL_TO"], [1]),
        ("# mails\n\nNOTIFICATION_LANGUAGE: en", ["NOTIFICATION_LANGUAGE"], [3]),
        ("export SMTP_PASSWORD_FILE='/run/secrets/a' b", ["SMTP_PASSWORD"], [1]),
        ('SMTP_HOST="mail.example.com\nSMTP_PORT=2525\nEMAIL_FROM="a@b.example"', ["SMTP_HOST", "SMTP_PORT"], [1, 2]),
        ('NOTIFICATION_ENABLED="true" yes', ["NOTIFICATION_ENABLED"], [1]),
    ],
)
def test_a_line_that_cannot_be_read_is_a_problem_of_its_setting(
    tmp_path: Path, lines: str, names: list[str], at: list[int]
) -> None:
    (tmp_path / ".env").write_text(lines)
    found = Settings.load({}, tmp_path)
    assert set(names) <= found.faulty
    for name, number, problem in zip(names, at, found.problems, strict=False):
        assert problem.startswith(f"{tmp_path / '.env'}, line {number}: {name} cannot be read: quote the whole value")
    assert "example.com" not in str(found.problems)
    overridden = Settings.load(dict.fromkeys(names, "1") | {"SMTP_HOST": "a.example"}, tmp_path)
    assert "cannot be read: quote" not in str([p for p in overridden.problems if names[0] in p])


def test_a_line_of_another_program_that_cannot_be_read_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("EMAIL_TO=a@example.com\nif [ -z $X ]; then\nSMTP_PORT=2525\n")
    found = Settings.load({}, tmp_path)
    assert not found.problems
    assert found.warnings == (f"{tmp_path / '.env'}, line 2, cannot be read and is passed over",)
    assert (found.usable.email_to, found.usable.smtp_port) == (("a@example.com",), 2525)


def test_a_misspelt_name_gets_a_suggestion(tmp_path: Path) -> None:
    loaded = Settings.load({"NOTIFICATION_BATCHSIZE": "3", "NOTIFICATION_UNRELATED_THING": "x"}, tmp_path)
    assert loaded.warnings == (
        "NOTIFICATION_BATCHSIZE (the environment) is not a setting: did you mean NOTIFICATION_BATCH_SIZE?",
    )


def test_naive_times_are_read_in_the_configured_zone(tmp_path: Path) -> None:
    found = load(tmp_path, NOTIFICATION_TIMEZONE="Asia/Seoul")
    naive = datetime(2026, 1, 1, 9)  # noqa: DTZ001
    assert found.localise(naive) == naive.replace(tzinfo=ZoneInfo("Asia/Seoul"))


def test_secrets_are_not_in_the_settings_repr(tmp_path: Path) -> None:
    found = load(tmp_path, SMTP_USER="me", SMTP_PASSWORD="hunter2", REDIS_URL="redis://:hunter2@localhost")
    assert "hunter2" not in repr(found)
    command = "/opt/token --secret hunter2"
    assert "hunter2" not in repr(load(tmp_path, SMTP_USER="me", SMTP_OAUTH_TOKEN_COMMAND=command))


def test_the_approvals_settings_have_the_defaults_of_the_readme(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert (found.approval_timeout, found.approval_reminders, found.approval_escalate_to) == (300, (), ())
    assert (found.approval_public_url, found.approval_link_secret, found.approval_api_keys_file) == ("", (), None)
    assert "*password*" in found.approval_redact_keys


def test_reminders_are_fractions_in_rising_order_each_once(tmp_path: Path) -> None:
    assert load(tmp_path, APPROVAL_REMINDERS=" 0.80, .5,0.5 ").approval_reminders == ("0.5", "0.8")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("APPROVAL_REMINDERS", value) for value in ("0", "1", "half", "0.5;0.8", "nan", "-0.5", "0.5,")),
        *(("APPROVAL_TIMEOUT_SECONDS", value) for value in ("0", "5m", "inf", "2592001")),
        ("APPROVAL_ESCALATE_TO", "boss"),
        ("APPROVAL_REDACT_KEYS", ","),
        ("APPROVAL_API_RECIPIENTS", "example.com"),
        ("APPROVAL_API_RECIPIENTS", "kim@example.com,@"),
    ],
)
def test_what_an_approvals_setting_cannot_be_is_told_with_its_value(tmp_path: Path, name: str, value: str) -> None:
    (problem,) = problems(tmp_path, **{name: value})
    assert problem.startswith(f"{name}={value} (the environment): use ")


@pytest.mark.parametrize(
    "url",
    [
        "approve.example.com",
        "ftp://approve.example.com",
        "https://",
        "https://a.example/?x=1",
        "https://a.example/#x",
        "https://kim:hunter2@a.example",
        "https://a.example:99999",
        "https://승인.example",
        "https://a b.example",
    ],
)
def test_a_public_url_that_no_mail_should_hold_is_refused(tmp_path: Path, url: str) -> None:
    found = problems(tmp_path, APPROVAL_PUBLIC_URL=url, APPROVAL_LINK_SECRET="s" * 32)
    assert any(problem.startswith("APPROVAL_PUBLIC_URL=") for problem in found)
    assert "hunter2" not in str(found)


def test_links_need_an_address_and_a_secret(tmp_path: Path) -> None:
    url, secret = "https://a.example/approvals/", "s" * 32
    found = load(tmp_path, APPROVAL_PUBLIC_URL=url, APPROVAL_LINK_SECRET=f"{'n' * 32}, {secret}")
    assert found.approval_public_url == "https://a.example/approvals"
    assert found.approval_link_secret == ("n" * 32, secret)
    (tmp_path / "secrets").write_text(f"{'n' * 32}\n{secret}\n")
    found = load(tmp_path, APPROVAL_PUBLIC_URL=url, APPROVAL_LINK_SECRET_FILE=str(tmp_path / "secrets"))
    assert found.approval_link_secret == ("n" * 32, secret)
    for given, absent in (
        ({"APPROVAL_PUBLIC_URL": url}, "LINK_SECRET"),
        ({"APPROVAL_LINK_SECRET": secret}, "PUBLIC_URL"),
    ):
        (problem,) = problems(tmp_path, **given)
        assert problem.startswith(f"APPROVAL_{absent} is unset while")
        assert secret not in problem


def test_a_link_secret_that_could_be_guessed_is_refused_and_not_shown(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, APPROVAL_PUBLIC_URL="https://a.example", APPROVAL_LINK_SECRET="short-secret")
    assert "32 characters" in problem
    assert "short-secret" not in problem
