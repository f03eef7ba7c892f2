"""Detection of unexpected errors of a process: in its log, or uncaught."""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
import warnings
from typing import Any

from faults.report import Report

UNEXPECTED = re.compile(r"Traceback|never retrieved|was destroyed|never awaited|[Uu]nhandled")


class _Handler(logging.Handler):
    """Reports messages of asyncio, and tracebacks; warnings of our packages are expected."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self._report.count(f"log records of {record.name.partition('.')[0]}")
        if record.exc_info and record.exc_info[1] is not None:  # asyncio passes False, too
            text += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
        if UNEXPECTED.search(text) or record.name == "asyncio":
            self._report.find("crashes", f"log of {record.name}: {text:.2000}")


def listen(report: Report) -> None:
    """Report unexpected errors of this process as findings, from now on."""
    logging.getLogger().addHandler(_Handler(report))
    warnings.simplefilter("error", ResourceWarning)

    def unraisable(what: Any) -> None:
        report.find("leaks", f"unraisable {what.exc_value!r} in {what.object!r:.200}")

    def in_thread(what: Any) -> None:
        text = "".join(traceback.format_exception(what.exc_value))
        report.find("crashes", f"a thread ended with {text:.2000}")

    sys.unraisablehook = unraisable
    threading.excepthook = in_thread
