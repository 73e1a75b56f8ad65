"""The text of a cron or systemd entry. Pure; nothing is installed."""

import shlex
import shutil
import sys
from pathlib import Path

CRON = """\
# ollama-ft: every hour, check {family}; train it when that is due.
17 * * * * {check} ; {due} && {train}
"""
SYSTEMD = """\
# ~/.config/systemd/user/{unit}.service
[Unit]
Description=ollama-ft: check {family}, and train it when that is due

[Service]
Type=oneshot
ExecStart=/bin/sh -c {command}
# 3: the gate said no; 4: nothing to do yet; 8: drift or decay, told in the journal.
SuccessExitStatus=3 4 8

# ~/.config/systemd/user/{unit}.timer
[Unit]
Description=ollama-ft: look at {family} every hour

[Timer]
OnCalendar=hourly
RandomizedDelaySec=300
Persistent=true

[Install]
WantedBy=timers.target

# then: systemctl --user daemon-reload && systemctl --user enable --now {unit}.timer
"""


def entry(form: str, home: Path, family: str, *, rows: int, days: float) -> str:
    """The entry for "so many new rows, or so many days, or decay"; `form` is cron or systemd.

    A `%` ends a command for cron and begins a specifier for systemd, so each is escaped.
    """
    program = shutil.which("ollama-ft")
    start = [program] if program else [sys.executable, "-m", "ollama_ft"]
    run = [*start, "--home", str(home)]
    check = shlex.join([*run, "check", "--family", family])
    due = shlex.join(
        [*run, "schedule", "--family", family, "--due", "--rows", str(rows), "--days", f"{days:g}"]
    )
    train = shlex.join([*run, "retrain", family, "--from-logs"])
    if form == "cron":
        check, due, train = (text.replace("%", r"\%") for text in (check, due, train))
        return CRON.format(family=family, check=check, due=due, train=train)
    command = f"{check} ; {due} && {train}"
    quoted = command.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    quoted = quoted.replace("$", "$$")
    unit = f"ollama-ft-{family.replace('/', '-')}"
    return SYSTEMD.format(unit=unit, family=family, command=f'"{quoted}"')
