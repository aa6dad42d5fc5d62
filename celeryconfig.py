"""Every Celery setting of approval_mail. Values that operators change come from Settings."""

from approval_mail import broker, parsers, services, timing

_settings = services.settings()
_over_redis = _settings.broker_is_redis

broker_url, broker_use_ssl = parsers.split_tls(_settings.broker_url)
#: Celery prefers CELERY_BROKER_URL of the environment, which may be a host's own, to `broker_url`, but not to these.
broker_read_url = broker_write_url = broker_url
result_backend, redis_backend_use_ssl = parsers.split_tls(_settings.result_backend)

# Only JSON: a message can carry no code.
task_serializer = result_serializer = "json"
accept_content = ["json"]
task_default_queue = "approval_mail"
imports = ("approval_mail.tasks", "approval_mail.approvals.tasks", "approval_mail.worker")
enable_utc = True
#: Seconds. A chord's body reads its header's results at once; Flower keeps its own rows.
result_expires = 900

# A publisher, a web process mostly, must never wait: `worker_only` below is more patient.
task_publish_retry = False
broker_connection_timeout = timing.HOST_STEP
redis_socket_timeout = redis_socket_connect_timeout = timing.HOST_STEP
#: `.delay()` subscribes to its result as well: by itself, Celery would try that again for 20 s.
result_backend_transport_options = {"retry_policy": {"max_retries": 0}}
broker_transport = broker.transport(broker_url)
if _over_redis:
    broker_transport_options = {
        "visibility_timeout": timing.VISIBILITY_TIMEOUT,
        "socket_timeout": timing.HOST_STEP,
        "socket_connect_timeout": timing.HOST_STEP,
        "max_retries": 0,
        "redis_retries": 0,
    }
else:
    broker_transport_options = {"max_retries": 0, "write_timeout": timing.HOST_STEP}

#: Applied by a worker when it starts, over what stands above.
worker_only = {
    "task_publish_retry": True,
    "broker_connection_timeout": timing.PATIENT_STEP,
    "redis_socket_timeout": timing.PATIENT_STEP,
    "redis_socket_connect_timeout": timing.PATIENT_STEP,
    "result_backend_transport_options": {},
    "broker_transport_options": {
        "visibility_timeout": timing.VISIBILITY_TIMEOUT,
        "socket_timeout": timing.PATIENT_STEP,
        "socket_connect_timeout": timing.PATIENT_STEP,
        "socket_keepalive": True,
    }
    if _over_redis
    else {},
}
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
#: Without this a worker exits on a failover or when Redis is out of memory.
broker_channel_error_retry = True
#: Concerns `notify` alone, which acknowledges late and may run twice.
worker_cancel_long_running_tasks_on_connection_loss = True
#: A batch can take a minute: a worker takes no more messages than it has hands.
worker_prefetch_multiplier = 1

#: Beat keeps one connection open; once RabbitMQ's is lost, only another try opens a new one.
_FOR_BEAT = {"retry": True}
# The schedule has nothing to remember between starts: no file is written.
beat_scheduler = "celery.beat:Scheduler"
beat_schedule = {
    "gather": {
        "task": "approval_mail.gather",
        "schedule": _settings.batch_timeout,
        "kwargs": {"by_beat": True},
        # Older ones are dropped once a worker takes them; with a shorter life a clock that is off would drop good ones.
        "options": {"expires": 86400, **_FOR_BEAT},
    },
    "sweep_expired": {
        "task": "approval_mail.sweep_expired",
        "schedule": timing.SWEEP_EVERY,
        # There are far more of them; and a clock may be an hour off.
        "options": {"expires": 7200, **_FOR_BEAT},
    },
}
#: Seconds that beat sleeps at the most.
beat_max_loop_interval = 5
