"""What docker-compose.yml and the Dockerfile promise, read without an engine."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from compose_spec import PyOptions, parse_duration
from docker.utils import exclude_paths

from approval_mail import timing
from approval_mail.settings import Loaded, Settings, state_folder
from tests.rig import containers
from tests.rig.containers import ROOT

SETTINGS = {row.metadata["name"]: row for row in fields(Settings)}
SERVICES = containers.services({})
#: Those that run this project's image.
OURS = ("worker", "beat", "flower", "api")
STATE = "/var/lib/approval_mail"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The folder that the services see as /run/secrets."""
    (tmp_path / "smtp_password").write_text("hunter2\n")
    return tmp_path


def load(service: str, secrets: Path, **environ: str) -> Loaded:
    """Settings as that service finds them, with ``environ`` as the operator's ``.env``."""
    found = containers.environment(containers.services(environ)[service], environ)
    return Settings.load({name: value.replace("/run/secrets", str(secrets)) for name, value in found.items()}, secrets)


def test_the_file_is_valid_by_the_compose_specification() -> None:
    text = containers.COMPOSE_FILE.read_text("utf-8")
    PyOptions(apply_merge=True).from_yaml(text).validate()


def test_there_is_exactly_one_beat_and_it_cannot_be_scaled() -> None:
    [name] = [name for name, service in SERVICES.items() if {"beat", "-B", "--beat"} & set(service.get("command", ()))]
    assert SERVICES[name]["deploy"]["replicas"] == 1
    assert SERVICES[name]["container_name"], "Compose refuses to scale a service whose container has a fixed name"


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_alone(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))
    assert SERVICES[name].get("network_mode") is None


@pytest.mark.parametrize("name", SERVICES)
def test_images_name_no_registry_and_those_of_others_a_version(name: str) -> None:
    image = SERVICES[name]["image"]
    if name in OURS:
        assert (image, SERVICES[name]["build"]) == ("approval-mail", ".")
    else:
        assert re.fullmatch(r"[a-z]+(/[a-z]+)?:v?\d[\w.-]*", image)


@pytest.mark.parametrize("name", OURS)
def test_secrets_come_from_files_and_each_service_has_its_own_alone(name: str) -> None:
    files = yaml.safe_load(containers.COMPOSE_FILE.read_text("utf-8"))["secrets"]
    found = containers.environment(SERVICES[name], {})
    granted = SERVICES[name].get("secrets", [])
    named = [value for variable, value in found.items() if variable.endswith("_FILE") and variable not in SETTINGS]
    assert named == [f"/run/secrets/{secret}" for secret in granted]
    assert all(files[secret] == {"file": f"./secrets/{secret}.txt"} for secret in granted)
    assert all(urlsplit(value).password is None for value in found.values())
    bare = {variable for variable in found if variable in SETTINGS and SETTINGS[variable].metadata["secret"]}
    assert bare == {"REDIS_URL"}
    assert not any("PASSWORD" in variable or "AUTH" in variable for variable in containers.image_environment())


def test_only_the_worker_knows_the_mail_server() -> None:
    for name in ("beat", "flower", "api"):
        assert not any(variable.startswith("SMTP_") for variable in SERVICES[name]["environment"])


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting_and_the_defaults_are_valid(name: str, secrets: Path) -> None:
    flower = {"FLOWER_ADDRESS", "FLOWER_BASIC_AUTH_FILE"} if name == "flower" else set()
    assert set(SERVICES[name]["environment"]) - flower <= {*SETTINGS, *(f"{setting}_FILE" for setting in SETTINGS)}
    loaded = load(name, secrets)
    assert (loaded.problems, loaded.warnings) == ((), ())


def test_the_worker_is_given_every_setting_that_makes_sense_in_a_container() -> None:
    of_the_image = {"NOTIFICATION_SPOOL_DIR"}
    by_a_mount_of_your_own = {
        "NOTIFICATION_ROUTES",
        "NOTIFICATION_TEMPLATE_DIR",
        "SMTP_OAUTH_TOKEN_COMMAND",
        "SMTP_OAUTH_TOKEN_FILE",
        "SMTP_TLS_CA_FILE",
    }
    by_redis_here = {"CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"}
    of_the_api = {"APPROVAL_API_KEYS_FILE", "APPROVAL_API_RECIPIENTS"}
    given = {variable.removesuffix("_FILE") for variable in SERVICES["worker"]["environment"]}
    assert given == SETTINGS.keys() - of_the_image - by_a_mount_of_your_own - by_redis_here - of_the_api


def test_the_api_knows_what_the_worker_knows_of_approvals_and_events() -> None:
    api, worker = (containers.environment(SERVICES[name], dict.fromkeys(SETTINGS, "x")) for name in ("api", "worker"))
    assert {name for name in SETTINGS if name.startswith("APPROVAL_")} <= api.keys()
    shared = api.keys() - {"APPROVAL_API_KEYS_FILE", "APPROVAL_API_RECIPIENTS"}
    assert {name: api[name] for name in shared} == {name: worker[name] for name in shared}
    assert {"NOTIFICATION_ENABLED", "NOTIFICATION_BATCH_SIZE", "NOTIFICATION_HISTORY_DAYS", "EMAIL_TO"} <= shared


def test_the_apis_keys_are_made_at_its_first_start_and_outlive_it() -> None:
    service = SERVICES["api"]
    assert "--first-keys" in service["command"]
    assert Path(service["environment"]["APPROVAL_API_KEYS_FILE"]).parent == Path(STATE)
    [port] = service["ports"]
    assert port.split(":")[-1] == service["command"][service["command"].index("--port") + 1]


def test_the_image_installs_what_its_programs_need() -> None:
    [installed] = [
        arguments for name, arguments in containers.instructions() if "install --no-cache-dir '." in arguments
    ]
    assert "'.[api,flower,watch]'" in installed
    [listed] = [arguments for _, arguments in containers.instructions() if "> requirements.txt" in arguments]
    assert all(f"extras['{extra}']" in listed for extra in ("api", "flower", "watch"))


def test_mails_go_to_mailpit_by_default_with_a_login(secrets: Path) -> None:
    usable = load("worker", secrets).require()
    assert usable.enabled
    assert (usable.smtp_host, usable.smtp_port, usable.smtp_use_tls) == ("mailhog", 1025, False)
    assert (usable.smtp_user, usable.smtp_password) == ("approval-mail", "hunter2")
    mailpit = SERVICES["mailpit"]
    assert "mailhog" in mailpit["networks"]["default"]["aliases"]
    assert mailpit["environment"] == {"MP_SMTP_AUTH_ACCEPT_ANY": "true", "MP_SMTP_AUTH_ALLOW_INSECURE": "true"}


def test_the_operators_settings_go_before_the_defaults(secrets: Path) -> None:
    mine = {
        "NOTIFICATION_ENABLED": "false",
        "SMTP_HOST": "smtp.example.com",
        "SMTP_PORT": "587",
        "SMTP_USE_TLS": "true",
        "SMTP_USER": "me@example.com",
        "EMAIL_TO": "you@example.com",
        "NOTIFICATION_BATCH_SIZE": "20",
        "NOTIFICATION_LANGUAGE": "en",
    }
    usable = load("worker", secrets, **mine).require()
    assert not usable.enabled
    assert (usable.smtp_host, usable.smtp_port, usable.smtp_use_tls) == ("smtp.example.com", 587, True)
    assert (usable.smtp_user, usable.email_to) == ("me@example.com", ("you@example.com",))
    assert (usable.batch_size, usable.language) == (20, "en")
    assert load("beat", secrets, NOTIFICATION_BATCH_TIMEOUT="3").require().batch_timeout == 3


def test_a_login_of_ones_own_is_not_sent_in_the_clear_unasked(secrets: Path) -> None:
    mine = {"SMTP_HOST": "smtp.example.com", "SMTP_USER": "me@example.com", "SMTP_USE_TLS": ""}
    [problem] = load("worker", secrets, **mine).problems
    assert problem == "SMTP_USE_TLS=true or false (the environment): use true or false"


def test_a_stopped_worker_has_longer_than_celery_gives_a_batch() -> None:
    grace = parse_duration(SERVICES["worker"]["stop_grace_period"])
    assert grace > timing.HARD_TIME_LIMIT > timing.SOFT_TIME_LIMIT


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_starts_again_and_waits_for_a_healthy_redis(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    if name in OURS:
        assert service["init"]
        assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_as_a_user_without_rights(name: str) -> None:
    [user] = [arguments for instruction, arguments in containers.instructions() if instruction == "USER"]
    assert int(user) > 0
    [made] = [arguments for _, arguments in containers.instructions() if arguments.startswith("useradd")]
    assert f"--uid {user} " in made
    service = SERVICES[name]
    assert service.keys().isdisjoint({"user", "privileged", "cap_add"})
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_state_folder_is_a_volume_of_that_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", containers.image_environment()["XDG_STATE_HOME"])
    assert (str(state_folder()), str(Settings().spool_dir)) == (STATE, f"{STATE}/spool")
    [made] = [arguments for _, arguments in containers.instructions() if arguments.startswith("useradd")]
    assert f"--home-dir {STATE} approval_mail " in made
    assert f"--owner approval_mail --mode 700 {STATE}" in made
    assert dict(containers.instructions())["VOLUME"] == STATE
    assert all(f"state:{STATE}" in SERVICES[name]["volumes"] for name in OURS)


def test_the_image_starts_a_worker_whose_log_is_not_held_back() -> None:
    assert json.loads(dict(containers.instructions())["CMD"]) == SERVICES["worker"]["command"]
    assert containers.image_environment()["PYTHONUNBUFFERED"] == "1"


def test_the_last_stage_takes_nothing_from_the_checkout() -> None:
    names = [instruction for instruction, _ in containers.instructions()]
    last = containers.instructions()[len(names) - names[::-1].index("FROM") :]
    assert all("--from=build" in arguments for instruction, arguments in last if instruction in ("COPY", "ADD"))


def let_in(folder: Path) -> set[str]:
    """What .dockerignore lets the builder see of a folder."""
    return set(exclude_paths(str(folder), (ROOT / ".dockerignore").read_text("utf-8").splitlines()))


def test_the_builder_gets_what_the_wheel_is_made_of() -> None:
    found = let_in(ROOT)
    copied = [arguments.split()[:-1] for instruction, arguments in containers.instructions() if instruction == "COPY"]
    sources = {source for row in copied for source in row if not row[0].startswith("--from")} - {"."}
    described = {"setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE", "celeryconfig.py"}
    packed = [
        *ROOT.glob("approval_mail/**/*.py"),
        *ROOT.glob("approval_mail/**/*.lua"),
        *ROOT.glob("approval_mail/**/*.html"),
        *ROOT.glob("templates/**/*.*"),
    ]
    assert packed
    assert sources | described | {str(path.relative_to(ROOT)) for path in packed} <= found


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        "approval_mail/.env",
        "secrets/smtp_password.txt",
        ".git/config",
        ".venv/bin/python",
        "tests/conftest.py",
        "approval_mail/__pycache__/settings.pyc",
        "id_rsa",
    ],
)
def test_the_builder_gets_nothing_else(name: str, tmp_path: Path) -> None:
    for each in (name, "setup.py"):
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).touch()
    found: Any = let_in(tmp_path)
    assert name not in found
    assert "setup.py" in found
