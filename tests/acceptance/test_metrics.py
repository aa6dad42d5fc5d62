"""Metrics of a run on real processes, and whether the dashboard and the alert rules in ops/ find what they ask for."""

from __future__ import annotations

import json
import math
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from approval_mail.cli import main
from approval_mail.cli.admin import main as admin_main
from approval_mail.metrics import Scrapes
from approval_mail.metrics import exporter as exporting
from tests.acceptance.conftest import Run
from tests.conftest import environment
from tests.rig.programs import Program, run_to_its_end
from tests.rig.redis_server import RedisServer, free_port
from tests.rig.smtp_server import SMTPServer
from tests.rig.waiting import wait_for

OPS = Path(__file__).parents[2] / "ops"
RULES = OPS / "prometheus-rules.yml"
DASHBOARD = OPS / "grafana-dashboard.json"
HOST = "from approval_mail import hooks\nnames = {'user_id': 'kim', 'tool_name': 'git_commit'}\n"

#: Seconds. The mail server takes as long for each mail that it accepts.
SLOWNESS = 0.05

Samples = dict[str, float]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.read_text())["panels"])


def queries() -> dict[str, str]:
    """Every query of the dashboard, as Grafana would send it, and what each rule compares."""
    found = {}
    for panel in panels():
        for target in panel.get("targets", []):
            expr = target["expr"].replace("$__rate_interval", "1m").replace("$job", "approval_mail")
            found[f"{panel['title']}, {target['refId']}"] = expr
    for rule in rules():
        # Of each comparison the side with the metrics; what is absent is looked for as if it were there.
        sides = re.sub(r"\s+(==|>)\s+\d+", "", rule["expr"])
        # What a rule wants not to be is there in this run.
        for number, part in enumerate(re.sub(r"absent\((.*?)\)", r"\1", sides).split(" unless ")):
            found[rule["alert"] + ", unless" * number] = part
    return found


@dataclass(frozen=True)
class Scraped:
    """The text of one scrape."""

    text: str

    @property
    def samples(self) -> Samples:
        """By name and labels, such as ``events_total{outcome=sent,type=x}``; all names begin with approval_mail_."""
        found = {}
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                found[sample.name.removeprefix("approval_mail_") + (f"{{{labels}}}" if labels else "")] = sample.value
        return found

    @property
    def labels(self) -> dict[str, dict[str, set[str]]]:
        """The values of every label of every sample's name."""
        found: dict[str, dict[str, set[str]]] = {}
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                known = found.setdefault(sample.name, {})
                for name, value in sample.labels.items():
                    known.setdefault(name, set()).add(value)
        return found

    def counted(self) -> Samples:
        """The counters that are not zero, and how many each histogram counted."""
        return {
            name: value
            for name, value in self.samples.items()
            if value and re.search(r"_total\b|_seconds_count$", name)
        }


class Exporter(Program):
    """`approval-mail metrics --serve` on a port that it chose."""

    def __init__(self, *, folder: Path, settings: dict[str, str], port: int = 0, name: str = "exporter") -> None:
        code = "from approval_mail.cli import main; main()"
        command = (sys.executable, "-c", code, "metrics", "--serve", str(port))
        super().__init__(*command, folder=folder, settings=settings, name=name)

    def wait(self) -> Exporter:
        self.wait_for_line("Serving metrics on ")
        return self

    @property
    def url(self) -> str:
        found = re.findall(r"Serving metrics on (http://127\.0\.0\.1:\d+/metrics)", self.output())
        return str(found[-1])

    def scrape(self) -> Scraped:
        status, text = get(self.url)
        assert status == 200, text
        return Scraped(text)


def get(url: str, *, seconds: float = 30) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Prometheus(Program):
    """A real one, which scrapes and evaluates as ops/prometheus.yml has it, every few seconds."""

    def __init__(self, target: str, folder: Path) -> None:
        self.port = free_port()
        config = yaml.safe_load((OPS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "5s", "scrape_timeout": "5s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(OPS / name) for name in config["rule_files"]]
        [job] = config["scrape_configs"]
        job["static_configs"] = [{"targets": [target]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = (
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus-data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )
        super().__init__(*command, folder=folder, settings=environment_of_tools(), name="prometheus")

    def ask(self, path: str, **parameters: str) -> Any:
        _, text = get(f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        answer = json.loads(text)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expr: str) -> list[float]:
        return [float(row["value"][1]) for row in self.ask("query", query=expr)["result"]]

    def alerts(self) -> set[str]:
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"]}


def environment_of_tools() -> dict[str, str]:
    return {"PATH": "/usr/local/bin:/usr/bin:/bin"}


@dataclass(frozen=True)
class Story:
    """What happened: see `story`."""

    redis: RedisServer
    exporter: Exporter
    prometheus: Prometheus | None
    settings: dict[str, str]
    folder: Path
    #: The metrics at its end.
    scraped: Scraped


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Five events: one cancelled, one accepted at the second try, one refused for one of two recipients, two accepted.

    One of these is told twice. A further event waits on the disk of the host where the exporter runs. Everything was
    scraped before it happened.
    """
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "redis").mkdir()
    server = RedisServer(folder / "redis").start()
    with SMTPServer(slowness=SLOWNESS) as smtp:
        smtp.on("rcpt", "451 4.7.1 greylisted", recipient="slow@example.com", times=1)
        smtp.on("rcpt", "550 5.1.1 no such user", recipient="gone@example.com")
        settings = environment(server, smtp, folder)
        exporters_own = {**settings, "NOTIFICATION_SPOOL_DIR": str(folder / "spool of another host")}
        running: list[Program] = [Exporter(folder=folder, settings=exporters_own).wait()]
        exporter = running[0]
        assert isinstance(exporter, Exporter)
        try:
            prometheus = None
            if shutil.which("prometheus"):
                prometheus = Prometheus(urllib.parse.urlsplit(exporter.url).netloc, folder)
                running.append(prometheus)
                wait_for(lambda: seen_by(prometheus), saying="Prometheus' first scrape")
            _let_it_happen(folder, settings, exporters_own, running)
            wait_for(lambda: finished(exporter) == 5, saying="all events finished")
            wait_for(lambda: exporter.scrape().samples["workers"] == 1, saying="the worker seen")
            wait_for(lambda: exporter.scrape().samples["beat_age_seconds"] < 60, saying="beat seen")
            yield Story(server, exporter, prometheus, exporters_own, folder, exporter.scrape())
        finally:
            for program in running:
                program.kill()
            server.kill()


def _let_it_happen(
    folder: Path, settings: dict[str, str], exporters_own: dict[str, str], running: list[Program]
) -> None:
    admin = "approval_mail.cli.admin"
    asked = run_to_its_end(admin, "request", "--user", "kim", "--tool", "x", folder=folder, settings=settings)
    cancelled = run_to_its_end(admin, "cancel", asked.stdout.strip(), folder=folder, settings=settings)
    assert cancelled.returncode == 0, cancelled.stderr
    tell = """
hooks.approval_requested(request_id="r1", email_to="one@example.com", **names)
hooks.approval_approved(request_id="r2", email_to="slow@example.com", **names)
hooks.approval_rejected(request_id="r3", email_to=["gone@example.com", "one@example.com"], **names)
hooks.approval_timeout(request_id="r4", email_to="one@example.com", **names)
hooks.approval_timeout(request_id="r4", email_to="one@example.com", **names)
"""
    told = "assert hooks.approval_timeout(request_id='r5', **names) == 'spooled'"
    unreachable = {**exporters_own, "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    for code, where in ((tell, settings), (told, unreachable)):
        subprocess.run([sys.executable, "-c", HOST + code], cwd=folder, env=where, check=True, timeout=60)
    running.append(Program.celery("worker", "--without-mingle", folder=folder, settings=settings).ready())
    running.append(Program.celery("beat", folder=folder, settings=settings))


def finished(exporter: Exporter) -> float:
    return sum(value for name, value in exporter.scrape().samples.items() if name.startswith("events_finished_total"))


def seen_by(prometheus: Prometheus) -> bool:
    try:
        return bool(prometheus.query("approval_mail_events_finished_total"))
    except (OSError, ValueError, AssertionError):
        return False


def test_the_metrics_tell_the_story_exactly(story: Story) -> None:
    assert story.scraped.counted() == {
        "events_recorded_total{type=approval_requested}": 2,
        "events_recorded_total{type=approval_approved}": 1,
        "events_recorded_total{type=approval_rejected}": 1,
        "events_recorded_total{type=approval_timeout}": 1,
        "events_duplicate_total{type=approval_timeout}": 1,
        "events_finished_total{outcome=sent,type=approval_requested}": 1,
        "events_finished_total{outcome=suppressed,type=approval_requested}": 1,
        "events_finished_total{outcome=sent,type=approval_approved}": 1,
        "events_finished_total{outcome=dead,type=approval_rejected}": 1,
        "events_finished_total{outcome=sent,type=approval_timeout}": 1,
        "mails_accepted_total{type=approval_requested}": 1,
        "mails_accepted_total{type=approval_approved}": 1,
        "mails_accepted_total{type=approval_rejected}": 1,
        "mails_accepted_total{type=approval_timeout}": 1,
        "attempts_total{phase=dot,result=sent}": 4,
        "attempts_total{phase=rcpt,result=failed}": 1,
        "attempts_total{phase=rcpt,result=dead}": 1,
        "mails_dead_total{phase=rcpt}": 1,
        "mails_suppressed_total{reason=moot: already cancelled}": 1,
        "delivery_seconds_count": 4,
        "smtp_seconds_count": 6,
    }


def test_status_and_trace_tell_the_same(story: Story) -> None:
    samples = story.scraped.samples
    asked = run_to_its_end("approval_mail.cli", "status", "--json", folder=story.folder, settings=story.settings)
    status = json.loads(asked.stdout)
    states = ("pending", "deferred", "claimed", "sent", "dead", "suppressed")
    assert {state: samples[f"events{{state={state}}}"] for state in states} == {
        state: status[state] for state in states
    }
    assert [status[state] for state in states] == [0, 0, 0, 3, 1, 1]
    assert samples["spooled_events"] == status["spooled"] == 1

    def workers() -> tuple[float, float]:
        """Who asks them waits a second for their answers."""
        told = run_to_its_end("approval_mail.cli", "status", "--json", folder=story.folder, settings=story.settings)
        return story.exporter.scrape().samples["workers"], json.loads(told.stdout)["workers"]

    wait_for(lambda: workers() == (1, 1), saying="the worker seen by both")
    asked = run_to_its_end("approval_mail.cli", "trace", "r2", "--json", folder=story.folder, settings=story.settings)
    tries = [(row["code"], row["state"]) for row in json.loads(asked.stdout) if row["attempt"]]
    assert tries == [(451, "claimed"), (250, "sent")]


def test_times_are_those_of_the_story(story: Story) -> None:
    samples = story.scraped.samples
    assert samples["smtp_seconds_sum"] >= 4 * SLOWNESS
    assert samples["delivery_seconds_sum"] > samples["smtp_seconds_sum"] + 2, "Celery's first retry comes after 2 s"
    assert samples["channel_held"] == samples["channel_held_seconds"] == samples["requests_untold"] == 0
    assert samples["notifications_enabled"] == samples["spool_usable"] == 1


def test_counters_survive_restarts_of_whoever_keeps_and_tells_them(story: Story) -> None:
    story.redis.kill()
    wait_for(lambda: get(story.exporter.url)[0] == 503, saying="the end of what is shared")
    story.redis.start()
    again = Exporter(folder=story.folder, settings=story.settings, name="again")
    try:
        assert again.wait().scrape().counted() == story.scraped.counted()
        wait_for(lambda: get(story.exporter.url)[0] == 200, saying="the first one's recovery")
        assert story.exporter.scrape().counted() == story.scraped.counted()
    finally:
        again.kill()


def test_the_command_prints_the_same(story: Story) -> None:
    done = run_to_its_end("approval_mail.cli", "metrics", folder=story.folder, settings=story.settings)
    assert Scraped(done.stdout).counted() == story.scraped.counted()
    assert done.stdout.endswith("\n")


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool")
def test_promtool_finds_nothing_to_object_to(story: Story) -> None:
    for command, text in (
        (["check", "metrics"], story.scraped.text),
        (["check", "rules", str(RULES)], ""),
        (["check", "config", str(OPS / "prometheus.yml")], ""),
    ):
        done = subprocess.run(["promtool", *command], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout


#: A metric of ours, or Prometheus' own ``up``, with its selector.
SELECTOR = re.compile(r"\b(approval_mail_\w+|up)(?:\{(.*?)\})?")
#: What else queries are made of.
LANGUAGE = re.compile(
    r"(absent|and|by|histogram_quantile|increase|max|max_over_time|min|min_over_time|on|or|rate|sum|without)"
)
#: That Prometheus adds to every sample.
ADDED = {"job": {"approval_mail"}, "instance": set[str]()}


@pytest.mark.parametrize("name", queries())
def test_every_query_names_metrics_and_labels_of_the_run(story: Story, name: str) -> None:
    expr = queries()[name]
    known = {**story.scraped.labels, "up": {}}
    of_the_query: dict[str, set[str]] = dict(ADDED)
    selectors = SELECTOR.findall(expr)
    assert selectors, expr
    for metric, matchers in selectors:
        assert metric in known, metric
        labels = {**known[metric], **ADDED}
        of_the_query.update(labels)
        for label, operator, value in re.findall(r'(\w+)(=~|!=|=)"(.*?)"', matchers):
            assert set(value.split("|") if operator == "=~" else [value]) <= labels[label], (metric, label, value)
    for grouping in re.findall(r"(?:by|on|without) \((.*?)\)", expr):
        assert {label.strip() for label in grouping.split(",")} <= of_the_query.keys(), expr
    rest = re.sub(r"\[\w+\]|(by|on|without) \([\w, ]*\)", "", SELECTOR.sub("", expr))
    assert [word for word in re.findall(r"[a-zA-Z_]\w*", rest) if not LANGUAGE.fullmatch(word)] == []


@pytest.mark.skipif(not shutil.which("prometheus"), reason="needs prometheus")
@pytest.mark.parametrize("name", queries())
def test_every_query_is_answered_with_data(story: Story, name: str) -> None:
    assert story.prometheus
    expr = queries()[name]
    found = wait_for(lambda: story.prometheus and story.prometheus.query(expr), saying=f"data for {expr}")
    assert not all(map(math.isnan, found)), expr


@pytest.mark.skipif(not shutil.which("prometheus"), reason="needs prometheus")
def test_of_all_alerts_the_run_raises_those_that_it_should(story: Story) -> None:
    assert story.prometheus
    for group in story.prometheus.ask("rules")["groups"]:
        assert {rule["name"]: (rule["health"], rule.get("lastError", "")) for rule in group["rules"]} == {
            rule["alert"]: ("ok", "") for rule in rules()
        }
    # The story leaves an event in the spool, and nobody replays it.
    begun = {"ApprovalMailDead", "ApprovalMailSpoolNotEmptying"}
    wait_for(lambda: story.prometheus and story.prometheus.alerts() == begun, saying="those alerts alone")


#: By alert: series in promtool's notation, of which each value lasts ten seconds, that make it fire; and what ends it.
ALARMS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "ApprovalMailNotScraped": ({'up{job="approval_mail",instance="a"}': "0x60"}, {}),
    "ApprovalMailHostNotScraped": (
        {'up{job="approval_mail",instance="b"}': "0x60"},
        {'up{job="approval_mail",instance="b"}': "1x60"},
    ),
    "ApprovalMailNobodyGathers": (
        {"approval_mail_oldest_pending_seconds": "0+10x60", "approval_mail_beat_age_seconds": "0+10x60"},
        {"approval_mail_oldest_pending_seconds": "0x60"},
    ),
    "ApprovalMailBeatMissing": (
        {"approval_mail_beat_age_seconds": "Inf " * 61, "approval_mail_workers": "1x60"},
        # It says so through workers: without any, nothing is known of it.
        {"approval_mail_workers": "0x60"},
    ),
    "ApprovalMailNoWorkers": (
        {"approval_mail_workers": "0x60"},
        {"approval_mail_workers": "0 1 0 0 " * 16},
    ),
    "ApprovalMailPendingTooOld": (
        {"approval_mail_oldest_pending_seconds": "0+10x60"},
        {"approval_mail_oldest_pending_seconds": "20x60"},
    ),
    "ApprovalMailChannelHeld": ({"approval_mail_channel_held": "1x60"}, {"approval_mail_channel_held": "0x60"}),
    "ApprovalMailNotAccepted": (
        {
            'approval_mail_attempts_total{result="failed",phase="rcpt"}': "0+1x60",
            'approval_mail_attempts_total{result="sent",phase="dot"}': "5x60",
        },
        {'approval_mail_attempts_total{result="sent",phase="dot"}': "0+1x60"},
    ),
    "ApprovalMailRescuedInVain": (
        {"approval_mail_events_rescued_total": "0+1x60", 'approval_mail_mails_accepted_total{type="t"}': "5x60"},
        {'approval_mail_mails_accepted_total{type="t"}': "0+1x60"},
    ),
    "ApprovalMailDead": (
        {'approval_mail_events{state="dead"}': "1x60"},
        {'approval_mail_events{state="dead"}': "0x60", 'approval_mail_events{state="sent"}': "9x60"},
    ),
    "ApprovalMailUntold": ({"approval_mail_requests_untold": "1x60"}, {"approval_mail_requests_untold": "0x60"}),
    "ApprovalMailUnknownOutcomes": (
        {'approval_mail_attempts_total{result="unknown",phase="dot"}': "0+1x60"},
        {
            'approval_mail_attempts_total{result="unknown",phase="dot"}': "2x60",
            'approval_mail_attempts_total{result="failed",phase="dot"}': "0+1x60",
        },
    ),
    "ApprovalMailSpoolNotEmptying": (
        {"approval_mail_spooled_events": "3x60"},
        # As after an outage of Redis, in which there are no metrics.
        {"approval_mail_spooled_events": "3x10 " + "_ " * 48 + "9 0"},
    ),
    "ApprovalMailSpoolUnusable": ({"approval_mail_spool_usable": "0x60"}, {"approval_mail_spool_usable": "1x60"}),
    "ApprovalMailRoutesFaulty": ({"approval_mail_routes_faulty": "1x60"}, {"approval_mail_routes_faulty": "0x60"}),
    "ApprovalMailSlow": (
        {
            'approval_mail_delivery_seconds_bucket{le="30.0"}': "0+1x60",
            'approval_mail_delivery_seconds_bucket{le="60.0"}': "0+10x60",
            'approval_mail_delivery_seconds_bucket{le="+Inf"}': "0+10x60",
        },
        {
            'approval_mail_delivery_seconds_bucket{le="30.0"}': "0+10x60",
            'approval_mail_delivery_seconds_bucket{le="60.0"}': "0+10x60",
            'approval_mail_delivery_seconds_bucket{le="+Inf"}': "0+10x60",
        },
    ),
}


def test_every_alert_is_tried() -> None:
    assert ALARMS.keys() == {rule["alert"] for rule in rules()}


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool")
@pytest.mark.parametrize("alert", ALARMS)
def test_an_alert_fires_when_it_should_and_not_otherwise(alert: str, tmp_path: Path) -> None:
    alarm, calm = ALARMS[alert]
    everything_is_well = {
        'up{job="approval_mail",instance="a"}': "1x60",
        "approval_mail_batch_timeout_seconds": "5x60",
    }

    def firing(series: dict[str, str], expected: list[dict[str, Any]]) -> dict[str, Any]:
        query = f'count by (alertname) (ALERTS{{alertname="{alert}", alertstate="firing"}})'
        return {
            "interval": "10s",
            "input_series": [
                {"series": of_target(name), "values": values}
                for name, values in {**everything_is_well, **series}.items()
            ],
            "promql_expr_test": [{"expr": query, "eval_time": "10m", "exp_samples": expected}],
        }

    fires = {"labels": f'{{alertname="{alert}"}}', "value": 1}
    tests = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "10s",
        "tests": [firing(alarm, [fires]), firing({**alarm, **calm} if calm else {}, [])],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "tests.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool")
def test_nothing_fires_where_outcomes_may_wait_for_long(tmp_path: Path) -> None:
    """NOTIFICATION_BATCH_TIMEOUT=600: beat gathers so often, and what it finds has waited for so long at the most."""
    rising = " ".join(str(10 * (n % 60)) for n in range(180))
    series = {
        'up{job="approval_mail",instance="a"}': "1x180",
        "approval_mail_batch_timeout_seconds": "600x180",
        "approval_mail_oldest_pending_seconds": rising,
        "approval_mail_beat_age_seconds": rising,
    }
    test = {
        "interval": "10s",
        "input_series": [{"series": of_target(name), "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{minute}m", "exp_samples": []}
            for minute in range(1, 30)
        ],
    }
    (tmp_path / "tests.yml").write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "10s", "tests": [test]})
    )
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "tests.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def of_target(series: str) -> str:
    """The series as scraped from one target."""
    name, _, labels = series.rstrip("}").partition("{")
    return series if name == "up" else f'{name}{{job="approval_mail",instance="a"{"," if labels else ""}{labels}}}'


def test_commands_that_alerts_and_panels_name_exist() -> None:
    told = [rule["annotations"]["description"] for rule in rules()] + [
        panel.get("description", "") for panel in panels()
    ]
    commands = re.findall(r"(approval-(?:mail|admin))((?: [a-z-]+)+)", " ".join(told))
    assert len(commands) > 20
    for program, words in commands:
        known: click.Command = admin_main if program == "approval-admin" else main
        for word in words.split():
            if isinstance(known, click.Group) and word in known.commands:
                known = known.commands[word]
            elif word.startswith("--"):
                assert word in {option for parameter in known.params for option in parameter.opts}, (program, words)
        assert not isinstance(known, click.Group), (program, words)


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert "`" in rule["annotations"]["description"], "a command"


def test_the_dashboard_can_be_imported_anywhere() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["uid"] == "approval-mail"
    assert dashboard["schemaVersion"] >= 36
    assert [each["type"] for each in dashboard["templating"]["list"]] == ["datasource", "query"]
    assert "http" not in DASHBOARD.read_text()
    assert len({panel["id"] for panel in panels()}) == len(panels())
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, f"{panel['title']} covers another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells
        sources = [panel, *panel.get("targets", [])] if panel["type"] != "row" else []
        assert {source["datasource"]["uid"] for source in sources} <= {"${datasource}"}


@pytest.fixture
def export(settings: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Exporter]]:
    running: list[Exporter] = []

    def begin(**changes: str) -> Exporter:
        running.append(Exporter(folder=tmp_path, settings={**settings, **changes}, name=f"exporter-{len(running)}"))
        return running[-1].wait()

    yield begin
    for exporter in running:
        exporter.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_one_page_until_it_is_stopped(export: Callable[..., Exporter], number: int) -> None:
    exporter = export()
    base = exporter.url.removesuffix("/metrics")
    status, text = get(exporter.url + "?debug=1")
    assert (status, "approval_mail_build_info" in text) == (200, True)
    for path in ("/", "/metrics/", "/favicon.ico"):
        assert get(base + path) == (404, "there is no such page; the metrics are at /metrics\n")
    exporter.process.send_signal(number)
    assert exporter.process.wait(20) == 0
    assert len(exporter.output().splitlines()) == 1, "its one line is where it serves"


def test_without_redis_a_scrape_is_told_so_and_the_log_once(
    export: Callable[..., Exporter], own_redis: RedisServer
) -> None:
    exporter = export(REDIS_URL=own_redis.url)
    assert get(exporter.url)[0] == 200
    own_redis.kill()
    sentence = "Redis cannot be used, so there are no metrics; the log of this program has the reason\n"
    wait_for(lambda: get(exporter.url) == (503, sentence), saying="the end of what is shared")
    assert get(exporter.url) == (503, sentence)
    own_redis.start()
    wait_for(lambda: get(exporter.url)[0] == 200, saying="metrics again")
    said = [line.split(maxsplit=2)[2] for line in exporter.output().splitlines()[1:]]
    assert [line.partition(" (")[0] for line in said] == [
        "ERROR There are no metrics: Redis cannot be used",
        "INFO There are metrics again",
    ]


def test_a_client_that_says_nothing_keeps_nobody_waiting(export: Callable[..., Exporter]) -> None:
    exporter = export()
    where = urllib.parse.urlsplit(exporter.url)
    with socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=30):
        assert get(exporter.url, seconds=8)[0] == 200, "before the silent one is let go of"


def test_a_client_that_says_nothing_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_CONNECTION_TIMEOUT", 0.5)
    with exporting.Exporter(Scrapes(lambda: b"metrics"), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with socket.create_connection(server.server_address[:2], timeout=30) as silent:
            assert silent.recv(1) == b""
        with socket.create_connection(server.server_address[:2], timeout=0.1) as dripping:
            wait_for(lambda: is_cut(dripping), seconds=20)
        assert get(server.url) == (200, "metrics")
        server.shutdown()


def is_cut(dripping: socket.socket) -> bool:
    try:
        dripping.sendall(b"G")
        return dripping.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_only_so_many_connections_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_CONNECTIONS", 2)
    with exporting.Exporter(Scrapes(lambda: b"metrics"), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        held = [socket.create_connection(server.server_address[:2], timeout=30) for _ in range(2)]
        with socket.create_connection(server.server_address[:2], timeout=30) as third:
            assert third.recv(1) == b""
        for one in held:
            one.close()
        wait_for(lambda: get_or_nothing(server.url) == (200, "metrics"), seconds=20)
        server.shutdown()


def get_or_nothing(url: str) -> tuple[int, str] | None:
    try:
        return get(url)
    except OSError:
        return None


def test_a_port_in_use_is_one_sentence(export: Callable[..., Exporter], run: Run) -> None:
    port = urllib.parse.urlsplit(export().url).port
    done = run("metrics", "--serve", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"127.0.0.1:{port} cannot be listened on: Address already in use; choose another: --serve, --host\n"
    )


def test_trouble_is_one_sentence(run: Run) -> None:
    done = run("metrics", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "check REDIS_URL and that the server is running" in done.stderr
    for arguments in (["metrics"], ["metrics", "--serve", "0"]):
        done = run(*arguments, NOTIFICATION_ENABLED="ture")
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert "use true or false" in done.stderr


def test_without_the_extra_it_says_what_to_install(settings: dict[str, str], tmp_path: Path) -> None:
    code = "import sys; sys.modules['prometheus_client'] = None; from approval_mail.cli import main; main()"
    command = [sys.executable, "-c", code, "metrics"]
    done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False, timeout=60)
    says = "this needs the extra metrics: in the checkout, pip install '.[metrics]'\n"
    assert (done.returncode, done.stderr) == (2, says)
