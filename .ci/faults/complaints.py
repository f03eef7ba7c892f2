"""What a process says when something was not foreseen: in its log, or where nobody catches it."""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
import warnings
from typing import Any

from faults.report import Report

UNFORESEEN = re.compile(r"Traceback|never retrieved|was destroyed|never awaited|[Uu]nhandled")


class _Handler(logging.Handler):
    """Finds what asyncio complains about, and tracebacks; warnings of our packages are usual."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self._report.count(f"log records of {record.name.partition('.')[0]}")
        if record.exc_info and record.exc_info[1] is not None:  # asyncio says False, too
            text += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
        if UNFORESEEN.search(text) or record.name == "asyncio":
            self._report.find("crashes", f"log of {record.name}: {text:.2000}")


def listen(report: Report) -> None:
    """From now on, count as findings what this process complains about."""
    logging.getLogger().addHandler(_Handler(report))
    warnings.simplefilter("error", ResourceWarning)

    def unraisable(what: Any) -> None:
        report.find("leaks", f"nobody could catch {what.exc_value!r} in {what.object!r:.200}")

    def in_thread(what: Any) -> None:
        text = "".join(traceback.format_exception(what.exc_value))
        report.find("crashes", f"a thread ended with {text:.2000}")

    sys.unraisablehook = unraisable
    threading.excepthook = in_thread
