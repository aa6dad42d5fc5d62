# The image of the worker, beat, Flower and the API; the command says which of them a container is.

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/approval_mail
# First what setup.cfg asks for, by itself: a change of code then downloads nothing.
COPY setup.cfg ./
RUN python -c "import configparser; cfg = configparser.ConfigParser(); cfg.read('setup.cfg'); \
    extras = cfg['options.extras_require']; \
    print(cfg['options']['install_requires'], extras['api'], extras['flower'], extras['watch'])" > requirements.txt \
    && pip --python /opt/approval_mail install --no-cache-dir --requirement requirements.txt
# .dockerignore lets in what the wheel is made of, and nothing else.
COPY . ./
RUN pip --python /opt/approval_mail install --no-cache-dir '.[api,flower,watch]'

FROM python:3.13-slim
# Its home is the state folder, for the spool, Flower's database and API keys; a volume outlives the image, so the uid is
# fixed.
RUN useradd --uid 10001 --home-dir /var/lib/approval_mail approval_mail \
    && install --directory --owner approval_mail --mode 700 /var/lib/approval_mail
COPY --from=build /opt/approval_mail /opt/approval_mail
ENV PATH=/opt/approval_mail/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_STATE_HOME=/var/lib
USER 10001
WORKDIR /var/lib/approval_mail
VOLUME /var/lib/approval_mail
CMD ["celery", "-A", "approval_mail", "worker", "-E", "--loglevel=INFO"]
